#!/bin/sh
# Before the files go: remove or upgrade (deb), 0 for the removal and 1 for an
# upgrade (rpm). An upgrade restarts the service when the new program is there.
set -e

case "$1" in
remove | deconfigure | 0)
	if [ -d /run/systemd/system ]; then
		# The template's name stands for every tenancy that is enabled.
		systemctl disable collectord.service collectord-once.timer collectord@.service || true
		systemctl stop collectord.service collectord-once.timer collectord-once.service 'collectord@*.service' || true
	fi
	;;
esac
