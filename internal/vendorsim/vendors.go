package vendorsim

// AllVendors returns a new instance of every simulated vendor.
func AllVendors() []Vendor {
	return []Vendor{
		NewAzureEntra(),
		NewCISAKEV(),
		NewCrowdStrike(),
		NewDomains(),
		NewEndOfLife(),
		NewEPSS(),
		NewGitHub(),
		NewIntune(),
		NewKnowBe4(),
		NewMDE(),
		NewNVD(),
		NewOkta(),
		NewOSV(),
		NewSnyk(),
		NewTenable(),
	}
}

// vendorPrefixes are the path prefixes that identify the vendor of a recording.
var vendorPrefixes = map[string][]string{
	"azure_entra": {"/v1.0/users", "/v1.0/groups", "/v1.0/servicePrincipals", "/v1.0/identity/", "/v1.0/reports/", "/v1.0/auditLogs/"},
	"github":      {"/api/v3/", "/orgs/", "/repos/", "/user/orgs"},
	"intune":      {"/v1.0/deviceManagement/"},
	"knowbe4":     {"/v1/training/"},
	"mde":         {"/api/machines", "/api/vulnerabilities"},
	"okta":        {"/api/v1/users"},
	"snyk":        {"/rest/orgs", "/v1/org/"},
	"tenable":     {"/vulns/export", "/assets/export", "/assets/v2/export", "/compliance/export", "/was/"},
}
