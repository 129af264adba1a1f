package microsoft

import (
	"net/url"

	"github.com/collectord/collectord/pkg/config"
)

// EntraSettings are the settings of the collector of Entra ID that the collectors of
// other products use with a switch such as INTUNE=true.
type EntraSettings struct {
	Tenant    string        `env:"AZURE_TENANT_ID" doc:"As for azure_entra, which these variables switch on as well."`
	ClientID  string        `env:"AZURE_CLIENT_ID" doc:"As for azure_entra."`
	Secret    config.Secret `env:"AZURE_CLIENT_SECRET" doc:"As for azure_entra."`
	Authority url.URL       `env:"AZURE_AUTHORITY_HOST" envDefault:"https://login.microsoftonline.com" doc:"As for azure_entra."`
}

// ChooseApplication returns own, or the application of Entra ID if the switch with the
// name of own's prefix is on.
func (e *EntraSettings) ChooseApplication(own Application, withEntra bool) Application {
	if !withEntra {
		return own
	}
	return Application{Tenant: e.Tenant, ClientID: e.ClientID, Secret: e.Secret, Authority: e.Authority, Prefix: "AZURE"}
}

// ValidateChoice returns the problems of the application's settings: with the switch,
// the variables of Entra ID must be set and those of own must not.
func (e *EntraSettings) ValidateChoice(own Application, withEntra bool) []error {
	if !withEntra {
		return own.Validate()
	}
	var errs []error
	for _, v := range []struct{ name, value, owned string }{
		{"TENANT_ID", e.Tenant, own.Tenant}, {"CLIENT_ID", e.ClientID, own.ClientID}, {"CLIENT_SECRET", e.Secret.Reveal(), own.Secret.Reveal()},
	} {
		if v.value == "" {
			errs = append(errs, config.Invalid("AZURE_"+v.name, "not set, but %s=true needs it", own.Prefix))
		}
		if v.owned != "" {
			errs = append(errs, config.Invalid(own.Prefix+"_"+v.name, "set, and %s=true uses AZURE_%s: want one of the two", own.Prefix, v.name))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	chosen := e.ChooseApplication(own, true)
	return chosen.Validate()
}
