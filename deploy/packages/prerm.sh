#!/bin/sh
# Runs before the files are removed, with remove or upgrade (deb), or with 0 for the
# removal and 1 for an upgrade (rpm). After an upgrade, postinst.sh restarts the
# service.
set -e

case "$1" in
remove | deconfigure | 0)
	if [ -d /run/systemd/system ]; then
		# The template's name includes every enabled tenancy.
		systemctl disable collectord.service collectord-once.timer collectord@.service || true
		systemctl stop collectord.service collectord-once.timer collectord-once.service 'collectord@*.service' || true
	fi
	;;
esac
