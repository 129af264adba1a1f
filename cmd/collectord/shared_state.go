package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/state/shared"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
)

// hasSharedState reports whether the state is in Postgres and S3.
func (c *configuration) hasSharedState() bool { return c.settings.Cluster.URL.IsSet() }

// stateLine returns where the state is as a line for people.
func (c *configuration) stateLine() string {
	if c.hasSharedState() {
		return "state: " + c.statePlace()
	}
	return "state directory: " + c.stateDir()
}

// describeState returns where the state is, with the setting that says so.
func (c *configuration) describeState() string {
	if c.hasSharedState() {
		return c.statePlace() + " (CLUSTER_POSTGRES_URL)"
	}
	return c.stateDir() + " (STATE_DIR)"
}

// statePlace returns the state directory, or the schema of a shared state, without a password.
func (c *configuration) statePlace() string {
	if !c.hasSharedState() {
		return c.stateDir()
	}
	cluster := c.settings.Cluster
	place := "Postgres"
	if u, err := url.Parse(cluster.URL.Reveal()); err == nil {
		place = "postgres://" + u.Host + u.Path
	}
	return fmt.Sprintf("schema %s of %s", cluster.Schema, place)
}

// settleSharedState checks what a shared state needs. Destinations on the disk of one machine
// are switched off where they are on by default, and refused otherwise, unless all machines
// share the disk.
func (c *configuration) settleSharedState(env *config.Environment) error {
	if !c.hasSharedState() {
		return nil
	}
	bucket, err := sinks.OpenBucket(c.settings.Store, zap.NewNop())
	if err != nil {
		return err
	}
	if bucket == nil {
		return config.Incomplete("STORE_AWS_S3_BUCKET", "not set, but CLUSTER_POSTGRES_URL is: want the bucket of the snapshots")
	}
	if c.settings.Cluster.Files == "shared" {
		return nil
	}
	for _, destination := range c.settings.Store.Destinations {
		settings, ok := destination.Into.(store.LocalSettings)
		if !ok {
			continue
		}
		setting, dir := settings.LocalDir()
		switch {
		case dir == "":
		case env.IsDefault(setting):
			settings.SwitchOff()
		default:
			settings.SwitchOff() // also when a reload refuses it
			return config.Invalid(setting, "%s is on this machine alone, and with CLUSTER_POSTGRES_URL another one may take over: want off, or CLUSTER_FILES=shared if all machines have it mounted", dir)
		}
	}
	return nil
}

// sharedOptions returns the options of the shared state.
func (a *assembly) sharedOptions() (shared.Options, error) {
	bucket, err := sinks.OpenBucket(a.settings.Store, a.log)
	if err != nil {
		return shared.Options{}, &exitError{exitSettings, err}
	}
	cluster := a.settings.Cluster
	node := cluster.Node
	if node == "" {
		if node, err = os.Hostname(); err != nil {
			return shared.Options{}, &exitError{exitSettings, fmt.Errorf("CLUSTER_NODE: not set, and the machine has no name: %w", err)}
		}
	}
	return shared.Options{
		URL: cluster.URL.Reveal(), Schema: cluster.Schema, Bucket: bucket, Prefix: cluster.Prefix,
		Node: node, Service: a.isService, Lease: cluster.Lease, Cache: int64(cluster.Cache), Log: a.log, Redact: a.redactor.Redact,
	}, nil
}

// openSharedState opens the shared state.
func (a *assembly) openSharedState(ctx context.Context) error {
	o, err := a.sharedOptions()
	if err != nil {
		return err
	}
	a.state, err = shared.Open(ctx, a.stateDir(), o)
	return err
}

// sharedState returns the shared state; nil when the state is open in a directory, or not open.
func (a *assembly) sharedState() *shared.State {
	if a.state == nil {
		return nil
	}
	s, _ := a.state.Backend.(*shared.State)
	return s
}

// hasState reports whether there is a state.
func (a *assembly) hasState(ctx context.Context) (bool, error) {
	if !a.hasSharedState() {
		return local.Exists(a.settings.StateDir), nil
	}
	o, err := a.sharedOptions()
	if err != nil {
		return false, err
	}
	return shared.Exists(ctx, o)
}

// inspectSharedState opens the shared state for reading only.
func (a *assembly) inspectSharedState(ctx context.Context) (*state.State, error) {
	o, err := a.sharedOptions()
	if err != nil {
		return nil, err
	}
	return shared.Inspect(ctx, a.stateDir(), o)
}
