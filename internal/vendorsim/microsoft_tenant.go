package vendorsim

import (
	"net/http"
	"slices"
)

// MicrosoftTenantHost simulates [AzureEntra], [Intune] and [MDE] on one host, with one
// application for all: its settings have that of Entra ID, and switches for the others.
type MicrosoftTenantHost struct {
	Entra  *AzureEntra
	Intune *Intune
	MDE    *MDE
}

// NewMicrosoftTenant returns a simulated tenant for one [Server].
func NewMicrosoftTenant() *MicrosoftTenantHost {
	m := &MicrosoftTenantHost{Entra: NewAzureEntra(), Intune: NewIntune(), MDE: NewMDE()}
	m.Intune.tokens, m.MDE.tokens = m.Entra.tokens, m.Entra.tokens
	return m
}

func (m *MicrosoftTenantHost) products() []Vendor { return []Vendor{m.Entra, m.Intune, m.MDE} }

// Name returns "microsoft".
func (m *MicrosoftTenantHost) Name() string { return "microsoft" }

// Env returns the AZURE_ settings and the switches of the other collectors.
func (m *MicrosoftTenantHost) Env(url string) []string {
	return append(m.Entra.Env(url), "INTUNE=true", "INTUNE_REPORT_HOSTS="+storageURL(url).Hostname(), "MDE=true", "MDE_ENDPOINT="+url)
}

// Specs returns those of all products.
func (m *MicrosoftTenantHost) Specs(g Gen) (all []Spec) {
	for _, v := range m.products() {
		all = append(all, v.Specs(g)...)
	}
	return all
}

// Limits returns those of all products.
func (m *MicrosoftTenantHost) Limits() (all []Limit) {
	for _, v := range m.products() {
		all = append(all, v.Limits()...)
	}
	return all
}

// Routes returns the APIs of all products.
func (m *MicrosoftTenantHost) Routes(h *Host) *http.ServeMux {
	var muxes []*http.ServeMux
	for _, v := range m.products() {
		muxes = append(muxes, v.Routes(h))
	}
	all := http.NewServeMux()
	all.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n := max(0, slices.IndexFunc(muxes, func(mux *http.ServeMux) bool {
			_, pattern := mux.Handler(r)
			return pattern != "/"
		}))
		muxes[n].ServeHTTP(w, r)
	})
	return all
}
