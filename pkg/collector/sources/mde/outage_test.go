package mde

import (
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestMDEOutage(t *testing.T) { tenant.TestOutage(t, vendorsim.MDEMachineVulnerabilities) }
