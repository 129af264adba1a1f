#!/bin/sh
# Runs after the files are installed, with configure (deb), or with 1 for the first
# installation and 2 for an upgrade (rpm).
set -e

case "$1" in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

# The unit that make install installs has a dynamic user, which prevents a permanent
# user of the same name until the unit stops.
stopped=
if [ -d /run/systemd/system ] && ! getent -s files passwd collectord >/dev/null; then
	for unit in collectord.service collectord-once.service; do
		case "$(systemctl show --property=ActiveState --value "$unit")" in
		active | activating | reloading)
			systemctl stop "$unit"
			stopped="$stopped $unit"
			;;
		esac
	done
fi

if ! getent passwd collectord >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/collectord --no-create-home \
		--shell /usr/sbin/nologin --comment "collectord" collectord
fi

settings=/etc/collectord/collectord.env
if [ "$1" = configure ] && [ -z "$2" ] && [ ! -e "$settings" ]; then
	install -m 0640 /usr/share/collectord/collectord.env "$settings"
fi

# The service's user reads the settings. An owner that was changed is kept.
for path in /etc/collectord "$settings"; do
	if [ -e "$path" ] && [ "$(stat -c %U:%G "$path")" = root:root ]; then
		chgrp collectord "$path"
	fi
done

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# Restarts a running service with the new program; a stopped one is not
	# started.
	systemctl try-restart collectord.service 'collectord@*.service' || true
	for unit in $stopped; do
		systemctl start --no-block "$unit" || true
	done
fi

if [ "$1" = 1 ] || { [ "$1" = configure ] && [ -z "$2" ]; }; then
	cat <<'TEXT'
collectord is installed, and does nothing yet. Put the keys of your tools into
/etc/collectord/collectord.env, then:
  systemctl enable --now collectord
TEXT
fi
