// Package mde reads the machines and vulnerabilities of a tenant of Microsoft
// Defender for Endpoint.
package mde

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/microsoft"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of Microsoft Defender for Endpoint.
type Settings struct {
	Tenant    string        `env:"MDE_TENANT_ID" required:"true" doc:"Id of the tenant, or one of its domains."`
	ClientID  string        `env:"MDE_CLIENT_ID" required:"true" doc:"Application (client) id of an app registration."`
	Secret    config.Secret `env:"MDE_CLIENT_SECRET" required:"true" doc:"Value of a client secret of the same app registration."`
	WithEntra bool          `env:"MDE" envDefault:"false" instead:"MDE_TENANT_ID,MDE_CLIENT_ID,MDE_CLIENT_SECRET" doc:"Use the app registration of AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET in place of one of its own."`
	Authority url.URL       `env:"MDE_AUTHORITY_HOST" envDefault:"https://login.microsoftonline.com" doc:"Address of Entra ID, as AZURE_AUTHORITY_HOST, which MDE=true uses instead."`
	Endpoint  url.URL       `env:"MDE_ENDPOINT" envDefault:"https://api.security.microsoft.com" doc:"Address of the API. Servers near a tenant are us., eu., uk., au., swa. and ina.api.security.microsoft.com; US Government has api-gcc.securitycenter.microsoft.us and api-gov.securitycenter.microsoft.us."`
	Scope     string        `env:"MDE_SCOPE" envDefault:"https://api.securitycenter.windows.com/.default" doc:"Scope of the tokens; for US Government https://api-gov.securitycenter.microsoft.us/.default or https://api-gcc.securitycenter.microsoft.us/.default."`
	Page      int           `env:"MDE_VULNERABILITIES_PAGE" envDefault:"10000" min:"1000" max:"200000" doc:"Number of vulnerabilities of machines in one response, of about 1 KB each. The vendor's own default of 50000 has run into its timeouts."`
	Entra     microsoft.EntraSettings
}

func (s *Settings) ownApplication() microsoft.Application {
	return microsoft.Application{Tenant: s.Tenant, ClientID: s.ClientID, Secret: s.Secret, Authority: s.Authority, Prefix: "MDE"}
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error { return s.Entra.ValidateChoice(s.ownApplication(), s.WithEntra) }

// skippedNote describes how the listings without links are read.
const skippedNote = "The vendor pages by position, without links and totals: the listing ends at an empty page. It is read twice, because what is removed meanwhile moves others to pages that were already read. Each id is stored once."

// Definition describes Microsoft Defender for Endpoint.
var Definition = source.Define(collector.Info{
	Name:        "mde",
	Title:       "Microsoft Defender for Endpoint",
	Docs:        "https://learn.microsoft.com/defender-endpoint/api/exposed-apis-list",
	Permissions: "an app registration with a client secret and the application permissions Machine.Read.All and Vulnerability.Read.All of WindowsDefenderATP, with the consent of an administrator. An application sees all device groups.",
	RateLimit: "100 requests a minute and 1,500 an hour; for the vulnerabilities of machines 30 a minute and 1,000 an hour. The collector stays within them, one request at a time for each of the two. After a 429 or 503 it waits as Retry-After says. " +
		"With MDE=true it has the app registration of azure_entra, but a token of its own.",
	Streams: []collector.StreamInfo{
		{
			Name: "mde_machines", Records: "a machine that Defender for Endpoint has seen within its retention",
			Optional:  []string{"computerDnsName", "healthStatus", "riskScore", "exposureLevel", "onboardingStatus", "aadDeviceId"},
			Endpoints: []string{"GET /api/machines?$top=10000&$skip=..."}, PageSize: "10,000 machines",
			Permissions: "Machine.Read.All",
			Notes:       skippedNote + " A tenant without machines has the status 404, which is an empty table. A date of 0001-01-01T00:00:00 means never.",
		},
		{
			Name: "mde_machine_vulnerabilities", Records: "a vulnerability of software on a machine, or software without a known one, which has cveId null",
			Optional:  []string{"cveId", "vulnerabilitySeverityLevel", "cvssScore", "recommendedSecurityUpdate", "exploitabilityLevel"},
			Endpoints: []string{"GET /api/machines/SoftwareVulnerabilitiesByMachine?pageSize=..."}, PageSize: "MDE_VULNERABILITIES_PAGE records",
			Permissions: "Vulnerability.Read.All",
			Notes:       "The vendor renews this data every six hours. Members that its documentation does not name may come and go.",
		},
		{
			Name: "mde_vulnerabilities", Records: "a vulnerability (CVE), with the number of exposed machines",
			Optional:  []string{"severity", "cvssV3", "publicExploit", "exploitVerified", "epss", "publishedOn"},
			Endpoints: []string{"GET /api/vulnerabilities?$top=8000&$skip=..."}, PageSize: "8,000 vulnerabilities",
			Permissions: "Vulnerability.Read.All",
			Notes:       skippedNote,
		},
	},
}, openAccount)

// exportClass is the endpoint class of the vulnerabilities of machines.
const exportClass = "export"

// account is one tenant.
type account struct {
	settings Settings
	api      *microsoft.API
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	app := s.Entra.ChooseApplication(s.ownApplication(), s.WithEntra)
	// The periods are slightly longer than the vendor's, which counts requests when
	// they arrive.
	endpoint := microsoft.Endpoint{URL: s.Endpoint, Setting: "MDE_ENDPOINT", Name: "WindowsDefenderATP", Scope: s.Scope}
	return &account{settings: *s, api: microsoft.NewAPI(app, endpoint, map[string]rest.Limit{
		"":          {Concurrent: 1, Rates: []rest.Rate{{N: 100, Per: 61 * time.Second}, {N: 1500, Per: time.Hour + time.Minute}}},
		exportClass: {Concurrent: 1, Rates: []rest.Rate{{N: 30, Per: 61 * time.Second}, {N: 1000, Per: time.Hour + time.Minute}}},
	}, o)}, nil
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error { return a.api.CheckToken(ctx) }

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	const vulnerabilities = "Vulnerability.Read.All"
	export := rest.Request{
		Path: "/api/machines/SoftwareVulnerabilitiesByMachine", Query: url.Values{"pageSize": {strconv.Itoa(a.settings.Page)}}, Class: exportClass,
	}
	return []collector.Stream{
		a.api.Stream(skippedStream("mde_machines", "/api/machines", "10000", "Machine.Read.All")),
		a.api.Stream(microsoft.Stream{Name: "mde_machine_vulnerabilities", Request: export, Permissions: vulnerabilities, SmallPage: "pageSize"}),
		a.api.Stream(skippedStream("mde_vulnerabilities", "/api/vulnerabilities", "8000", vulnerabilities)),
	}
}

// skippedStream returns a stream that is paged with $top and $skip.
func skippedStream(name, path, size, permission string) microsoft.Stream {
	r := rest.Request{Path: path, Query: url.Values{"$top": {size}}}
	return microsoft.Stream{
		Name: name, Request: r, Permissions: permission, SmallPage: "$top", NoneStatus: http.StatusNotFound,
		Extract: func(ctx context.Context, c *rest.Client, out collector.Output) error {
			distinct := rest.NewDistinct(out, recordID)
			isEmpty := true
			l := rest.Listing{Request: r, Shape: microsoft.Shape, Pager: rest.Offset{Param: "$skip"}, CheckPage: func(e *rest.Envelope, _ int64) error {
				isEmpty = isEmpty && e.Records == 0
				return nil
			}}
			_, err := c.Walk(ctx, l, distinct)
			switch {
			case isEmpty && microsoft.IsNone(err, http.StatusNotFound):
				return nil
			case err == nil && !isEmpty:
				// Removals move records to pages that were already read, also to the
				// first one: the empty page after it is no proof that there was only one.
				_, err = c.Walk(ctx, l, distinct)
			}
			return err
		},
	}
}

// recordID returns the id of a machine or a vulnerability.
func recordID(record []byte) (string, error) {
	id := rest.TextOf(rest.Member(record, "id"))
	if id == "" {
		return "", fmt.Errorf("%w: a record has no id", collector.ErrIncomplete)
	}
	return id, nil
}
