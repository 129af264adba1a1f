#!/bin/sh
# Runs after the files are removed, with remove, upgrade or purge (deb), or with 0
# or 1 (rpm). Only a purge removes the state: it may be the last copy of data that
# a vendor no longer has. The user is kept, so that no other user gets its number
# and with it its files.
set -e

# has_state PATH reports whether a directory is a state directory, or has one.
has_state() {
	[ -e "$1/collectord.db" ] || [ -e "$1/state/collectord.db" ]
}

# discard PATH removes a directory. A volume that is mounted there is emptied, and its
# directory is kept.
discard() {
	rm -rf "$1" || mountpoint -q "$1"
}

# purge_instances removes the state of the instances of collectord@.service. systemd
# creates those of dynamic users below /var/lib/private, with a link to each. Others have
# their settings in /etc/collectord. Directories that only have a similar name, such as
# a backup, are kept.
purge_instances() {
	for path in /var/lib/private/collectord-*; do
		if has_state "$path"; then
			discard "$path"
			link=/var/lib/${path##*/}
			if [ -L "$link" ]; then
				rm "$link"
			fi
		fi
	done
	for settings in /etc/collectord/*.env; do
		instance=${settings##*/}
		path=/var/lib/collectord-${instance%.env}
		if has_state "$path"; then
			discard "$path"
		fi
	done
	for path in /var/lib/collectord-*; do
		if [ -d "$path" ]; then
			echo "collectord: $path is kept: no instance of collectord@.service created it"
		fi
	done
}

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi

if [ "$1" = purge ]; then
	purge_instances
	for path in /var/lib/collectord /var/lib/private/collectord /etc/collectord; do
		discard "$path"
	done
fi
