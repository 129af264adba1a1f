#!/bin/sh
# After the files are gone: remove, upgrade or purge (deb), 0 or 1 (rpm). The
# state stays until somebody asks for a purge: it may be the last copy of data
# that a vendor no longer has. The user stays, so that nobody else gets its
# number and with it its files.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi

if [ "$1" = purge ]; then
	for path in /var/lib/collectord /var/lib/collectord-* /var/lib/private/collectord /var/lib/private/collectord-* /etc/collectord; do
		# A volume that is mounted there is emptied, and its folder stays.
		rm -rf "$path" || mountpoint -q "$path"
	done
fi
