package intune

import (
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestIntuneOutage(t *testing.T) { tenant.TestOutage(t, vendorsim.IntuneDevices) }
