package azureentra

import (
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestEntraOutage(t *testing.T) { tenant.TestOutage(t, vendorsim.EntraUsers) }
