package main

import (
	"os"
	"time"

	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/state"
)

// notifyPatience is how long the end of the program may wait for notifications
// that are under way.
const notifyPatience = 10 * time.Second

// targets are those of SLACK_WEBHOOK and NOTIFY_URLS.
func (a *app) targets() ([]*notify.Target, error) {
	targets, err := notify.Parse(a.settings.Notify.Slack.Reveal(), a.settings.Notify.URLs.Reveal())
	if err != nil {
		return nil, &exitError{exitSettings, err}
	}
	return targets, nil
}

func (a *app) notifier(st *state.State, targets []*notify.Target) *notify.Notifier {
	return notify.New(notify.Options{State: st, Tenancy: a.settings.Tenancy, Host: hostname(), Redact: a.hide.hide, Log: a.log}, targets)
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}
