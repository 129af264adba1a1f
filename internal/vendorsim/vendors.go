package vendorsim

// AllVendors returns a new instance of every simulated vendor.
func AllVendors() []Vendor {
	return []Vendor{
		NewCISAKEV(),
		NewCrowdStrike(),
		NewEndOfLife(),
		NewEPSS(),
		NewKnowBe4(),
		NewNVD(),
		NewOkta(),
		NewOSV(),
		NewSnyk(),
		NewTenable(),
	}
}

// vendorPrefixes are the path prefixes that identify the vendor of a recording.
var vendorPrefixes = map[string][]string{
	"knowbe4": {"/v1/training/"},
	"okta":    {"/api/v1/users"},
	"snyk":    {"/rest/orgs", "/v1/org/"},
	"tenable": {"/vulns/export", "/assets/export", "/assets/v2/export", "/compliance/export", "/was/"},
}
