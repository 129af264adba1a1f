// Package sources lists the vendors that collectord reads. Each vendor has a
// package of its own below this directory, with the same four parts: Settings,
// Definition, openAccount, and the streams of the account. To add a vendor,
// write its package and add its Definition to All.
package sources

import (
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/azureentra"
	"github.com/collectord/collectord/pkg/collector/sources/cisakev"
	"github.com/collectord/collectord/pkg/collector/sources/crowdstrike"
	"github.com/collectord/collectord/pkg/collector/sources/domains"
	"github.com/collectord/collectord/pkg/collector/sources/endoflife"
	"github.com/collectord/collectord/pkg/collector/sources/epss"
	"github.com/collectord/collectord/pkg/collector/sources/github"
	"github.com/collectord/collectord/pkg/collector/sources/intune"
	"github.com/collectord/collectord/pkg/collector/sources/knowbe4"
	"github.com/collectord/collectord/pkg/collector/sources/mde"
	"github.com/collectord/collectord/pkg/collector/sources/nvd"
	"github.com/collectord/collectord/pkg/collector/sources/okta"
	"github.com/collectord/collectord/pkg/collector/sources/osv"
	"github.com/collectord/collectord/pkg/collector/sources/snyk"
	"github.com/collectord/collectord/pkg/collector/sources/tenable"
)

// All returns the definitions of all vendors, sorted by name.
func All() []collector.Definition {
	return []collector.Definition{
		azureentra.Definition,
		cisakev.Definition,
		crowdstrike.Definition,
		domains.Definition,
		endoflife.Definition,
		epss.Definition,
		github.Definition,
		intune.Definition,
		knowbe4.Definition,
		mde.Definition,
		nvd.Definition,
		okta.Definition,
		osv.Definition,
		snyk.Definition,
		tenable.Definition,
	}
}
