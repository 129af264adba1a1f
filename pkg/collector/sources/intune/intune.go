// Package intune reads the devices, policies and detected apps of a tenant of
// Microsoft Intune.
package intune

import (
	"context"
	"net/url"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/microsoft"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of Microsoft Intune.
type Settings struct {
	Tenant    string        `env:"INTUNE_TENANT_ID" required:"true" doc:"Id of the tenant, or one of its domains."`
	ClientID  string        `env:"INTUNE_CLIENT_ID" required:"true" doc:"Application (client) id of an app registration."`
	Secret    config.Secret `env:"INTUNE_CLIENT_SECRET" required:"true" doc:"Value of a client secret of the same app registration."`
	WithEntra bool          `env:"INTUNE" envDefault:"false" instead:"INTUNE_TENANT_ID,INTUNE_CLIENT_ID,INTUNE_CLIENT_SECRET" doc:"Use the app registration of AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET in place of one of its own, with AZURE_AUTHORITY_HOST and AZURE_GRAPH_ENDPOINT."`
	Authority url.URL       `env:"INTUNE_AUTHORITY_HOST" envDefault:"https://login.microsoftonline.com" doc:"Address of Entra ID, as AZURE_AUTHORITY_HOST."`
	Graph     url.URL       `env:"INTUNE_GRAPH_ENDPOINT" envDefault:"https://graph.microsoft.com" doc:"Address of Microsoft Graph, as AZURE_GRAPH_ENDPOINT."`
	Hosts     []string      `env:"INTUNE_REPORT_HOSTS" envDefault:".blob.core.windows.net,.blob.core.usgovcloudapi.net,.blob.core.chinacloudapi.cn" doc:"Hosts from which the file of an export job is accepted: names, or domains that begin with a dot. They get no credential."`
	Entra     microsoft.EntraSettings
	AzureURL  url.URL `env:"AZURE_GRAPH_ENDPOINT" envDefault:"https://graph.microsoft.com" doc:"As for azure_entra."`
}

func (s *Settings) ownApplication() microsoft.Application {
	return microsoft.Application{Tenant: s.Tenant, ClientID: s.ClientID, Secret: s.Secret, Authority: s.Authority, Prefix: "INTUNE"}
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error { return s.Entra.ValidateChoice(s.ownApplication(), s.WithEntra) }

const (
	devicesPermission       = "DeviceManagementManagedDevices.Read.All"
	configurationPermission = "DeviceManagementConfiguration.Read.All"
	exportPermissions       = devicesPermission + " and DeviceManagementApps.Read.All"
	exportLicense           = "the vendor may ask for their ReadWrite forms to start an export job; the tenant needs a license for Intune"
)

// Definition describes Microsoft Intune.
var Definition = source.Define(collector.Info{
	Name:        "intune",
	Title:       "Microsoft Intune",
	Docs:        "https://learn.microsoft.com/graph/api/resources/intune-graph-overview",
	Permissions: "an app registration with a client secret and the application permissions " + devicesPermission + ", " + configurationPermission + " and DeviceManagementApps.Read.All of Microsoft Graph, with the consent of an administrator",
	RateLimit: "2,000 requests in 20 seconds for each application and tenant. The collector makes at most 1,000, and four at once. After a 429, 503 or 509 it waits as Retry-After says. " +
		"With INTUNE=true it has the app registration of azure_entra, and shares its token and limits.",
	Streams: []collector.StreamInfo{
		{
			Name: "intune_managed_devices", Records: "a managed device",
			Optional:  []string{"complianceState", "isEncrypted", "lastSyncDateTime", "userPrincipalName", "serialNumber", "azureADDeviceId"},
			Endpoints: []string{"GET /v1.0/deviceManagement/managedDevices"}, PageSize: "as many devices as the vendor returns, usually 1,000",
			Permissions: devicesPermission,
			Notes:       "The members that version 1.0 of the API returns for a list. hardwareInformation is only in the beta version, for single devices, and is not included.",
		},
		{
			Name: "intune_device_configurations", Records: "a device configuration profile; its members depend on @odata.type",
			Endpoints: []string{"GET /v1.0/deviceManagement/deviceConfigurations"}, PageSize: "as many profiles as the vendor returns",
			Permissions: configurationPermission,
			Notes:       "Policies of the settings catalog are only in the beta version of the API and are not included.",
		},
		{
			Name: "intune_device_compliance_policies", Records: "a device compliance policy; its members depend on @odata.type",
			Endpoints: []string{"GET /v1.0/deviceManagement/deviceCompliancePolicies"}, PageSize: "as many policies as the vendor returns",
			Permissions: configurationPermission,
		},
		{
			Name: "intune_detected_apps", Records: "an app that was detected on a device",
			Endpoints: []string{"POST /v1.0/deviceManagement/reports/exportJobs", "GET /v1.0/deviceManagement/reports/exportJobs/{id}", "GET of the file, from the host of the job's address"},
			PageSize:  "one file: a ZIP archive with one CSV file", Permissions: exportPermissions + "; " + exportLicense,
			Notes: "The report AppInvRawData, exported by a job. All values are text, as in the file; an empty value is an empty text. The file is read from the hosts of INTUNE_REPORT_HOSTS, without the token. " +
				"A job that has not ended after 30 minutes, or fails, is replaced by a new one, at most twice: the vendor sometimes never ends a job. A job that a run did not end, because it was stopped, is continued by the next run. " +
				"collectord check requests the list of jobs and starts none.",
		},
	},
}, openAccount)

// account is one tenant.
type account struct {
	settings Settings
	graph    *microsoft.API
	// selection is everything that an export job's content depends on.
	selection string
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	app, endpoint := s.Entra.ChooseApplication(s.ownApplication(), s.WithEntra), s.Graph
	if s.WithEntra {
		endpoint = s.AzureURL
	}
	return &account{
		settings: *s, graph: microsoft.NewGraph(app, endpoint, o),
		selection: endpoint.String() + " " + app.Tenant + " " + app.ClientID,
	}, nil
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error { return a.graph.CheckToken(ctx) }

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	listing := func(name, path, permissions string) microsoft.Stream {
		return microsoft.Stream{
			Name: name, Permissions: permissions, SmallPage: "$top",
			Request: rest.Request{Path: "/v1.0/deviceManagement/" + path, Class: microsoft.DevicesClass},
		}
	}
	apps := listing("intune_detected_apps", "reports/exportJobs", exportPermissions)
	apps.Besides, apps.Extract = exportLicense, a.extractDetectedApps
	var streams []collector.Stream
	for _, s := range []microsoft.Stream{
		listing("intune_managed_devices", "managedDevices", devicesPermission),
		listing("intune_device_configurations", "deviceConfigurations", configurationPermission),
		listing("intune_device_compliance_policies", "deviceCompliancePolicies", configurationPermission),
		apps,
	} {
		streams = append(streams, a.graph.Stream(s))
	}
	return streams
}
