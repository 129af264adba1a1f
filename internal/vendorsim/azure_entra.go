package vendorsim

import (
	"bytes"
	"net/http"
	"net/url"
	"time"
)

// Streams of [AzureEntra].
const (
	EntraUsers             = "azure_entra_users"
	EntraGroups            = "azure_entra_groups"
	EntraServicePrincipals = "azure_entra_service_principals"
	EntraPolicies          = "azure_entra_conditional_access_policies"
	EntraMethods           = "azure_entra_authentication_methods"
	EntraSignIns           = "azure_entra_signins"
	EntraAuditLogs         = "azure_entra_audit_logs"
)

// SignInActivity is the member of users that needs a license and a permission of its
// own, as a key of [MicrosoftBehaviour.Forbidden].
const SignInActivity = "signInActivity"

// AzureEntra simulates the directory and the reports of Entra ID in Microsoft
// Graph.
type AzureEntra struct{ microsoftAPI }

// NewAzureEntra returns a simulated tenant for one [Server].
func NewAzureEntra() *AzureEntra { return &AzureEntra{newMicrosoftAPI()} }

// Name returns "azure_entra".
func (a *AzureEntra) Name() string { return "azure_entra" }

// Env returns the AZURE_ settings.
func (a *AzureEntra) Env(url string) []string {
	return []string{
		"AZURE_TENANT_ID=" + MicrosoftTenant, "AZURE_CLIENT_ID=" + MicrosoftClientID, "AZURE_CLIENT_SECRET=" + MicrosoftSecret,
		"AZURE_AUTHORITY_HOST=" + url, "AZURE_GRAPH_ENDPOINT=" + url,
	}
}

// Limits returns "entra-reports" for sign-ins, audit logs and the registration of
// authentication methods, "entra-policies" for conditional access, whose rejections
// have no Retry-After, and "entra-directory".
func (a *AzureEntra) Limits() []Limit {
	return []Limit{
		{
			Name: "entra-reports", LimitNumbers: LimitNumbers{Max: 5, Window: 10 * time.Second},
			Match: belowPath("/v1.0/auditLogs/", "/v1.0/reports/"), Reject: rejectOData(true),
		},
		{
			Name: "entra-policies", LimitNumbers: LimitNumbers{Max: 1, Window: time.Second},
			Match: belowPath("/v1.0/identity/"), Reject: rejectOData(false),
		},
		{
			Name: "entra-directory", LimitNumbers: LimitNumbers{Max: 1750, Window: 10 * time.Second}, // 3,500 units
			Match: belowPath("/v1.0/users", "/v1.0/groups", "/v1.0/servicePrincipals"), Reject: rejectOData(true),
		},
	}
}

// Routes returns the API.
func (a *AzureEntra) Routes(h *Host) *http.ServeMux {
	a.scope = func() string { return h.URL() + "/.default" }
	mux := a.newAPIMux(h)
	for path, list := range map[string]odataList{
		"users":                               {stream: EntraUsers, pageSize: 999, topParam: "$top", reduce: a.reduceUsers},
		"groups":                              {stream: EntraGroups, pageSize: 999, topParam: "$top"},
		"servicePrincipals":                   {stream: EntraServicePrincipals, pageSize: 999, topParam: "$top"},
		"identity/conditionalAccess/policies": {stream: EntraPolicies, pageSize: 999, topParam: "$top"},
		"reports/authenticationMethods/userRegistrationDetails": {stream: EntraMethods, pageSize: 1000, premium: true},
		"auditLogs/signIns": {stream: EntraSignIns, pageSize: 1000, topParam: "$top", premium: true, selects: func(q url.Values) (func(Rec) bool, error) {
			return a.odataTimeFilter(q.Get("$filter"), "createdDateTime", eventAge)
		}},
		"auditLogs/directoryAudits": {stream: EntraAuditLogs, pageSize: 1000, topParam: "$top", selects: func(q url.Values) (func(Rec) bool, error) {
			return a.odataTimeFilter(q.Get("$filter"), "activityDateTime", eventAge)
		}},
	} {
		mux.HandleFunc("GET /v1.0/"+path, a.serveList(list))
	}
	return mux
}

// reduceUsers reduces users to the requested members: to a few without $select, and
// to all but signInActivity unless that is named.
func (a *AzureEntra) reduceUsers(q url.Values) (func(record []byte, i int) []byte, bool) {
	switch {
	case q.Get("$select") == "":
		return func(_ []byte, i int) []byte {
			return []byte(`{"businessPhones":[],"displayName":"User","givenName":null,"jobTitle":null,"mail":null,"mobilePhone":null,"officeLocation":null,"preferredLanguage":null,"surname":null,"userPrincipalName":"user@example.test","id":"` +
				a.host.server.RecordID(EntraUsers, i) + `"}`)
		}, true
	case hasSelected(q, SignInActivity):
		return nil, false
	}
	return func(record []byte, _ int) []byte { return withoutActivity(record) }, true
}

func withoutActivity(user []byte) []byte {
	before, rest, _ := bytes.Cut(user, []byte(`,"signInActivity":{`))
	_, after, _ := bytes.Cut(rest, []byte("}"))
	return append(before, after...)
}

// UserWithoutActivity returns user i as a client gets it that does not ask for
// signInActivity.
func (a *AzureEntra) UserWithoutActivity(i int) []byte {
	return withoutActivity(a.host.server.Record(EntraUsers, i))
}

// eventAge returns the age of a sign-in or audit event at the present time of the
// data: the events are half a second apart, the newest first.
func eventAge(r Rec) time.Duration { return time.Duration(r.Index) * time.Second / 2 }

// Specs describes the directory and the reports.
func (a *AzureEntra) Specs(g Gen) []Spec {
	at := func(hours uint64) Slot {
		return func(dst []byte, r Rec) []byte {
			return AppendUnix(dst, g.Base.Add(-time.Hour*time.Duration(hours+r.Hash>>16%8000)).Unix(), "Z")
		}
	}
	id := func(kind string) Slot {
		return func(dst []byte, r Rec) []byte { return AppendUUID(dst, g.Hash(kind, r.Index)) }
	}
	event := func(dst []byte, r Rec) []byte {
		return AppendUnix(dst, g.Base.Add(-eventAge(r)).Unix(), ".6195833Z")
	}
	number := func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Index)) }
	enabled := func(dst []byte, r Rec) []byte {
		if r.Index%9 == 0 {
			return append(dst, "false"...)
		}
		return append(dst, "true"...)
	}
	slots := func(kind string) map[string]Slot {
		return map[string]Slot{
			"id": id(kind), "n": number, "created": at(800), "changed": at(20), "event": event, "enabled": enabled,
			"user": id("entra user"), "app": id("entra app"), "request": id("entra request"),
		}
	}
	spec := func(name, kind string, count, bytes int, templates ...string) Spec {
		return Spec{Name: name, Count: count, Bytes: bytes, Templates: templates, Slots: slots(kind), ID: id(kind)}
	}
	return []Spec{
		{Name: EntraUsers, Count: 3000, Bytes: 1500, HugeBytes: 64 << 10, Templates: entraUserTemplates, Slots: slots("entra user"), ID: id("entra user")},
		spec(EntraGroups, "entra group", 400, 900,
			`{"id":"<<id>>","deletedDateTime":null,"classification":null,"createdDateTime":"<<created>>","description":"<<text>>","displayName":"Group <<n>> \"]}\"","groupTypes":["Unified"],"isAssignableToRole":null,"mail":"g<<n>>@example.test","mailEnabled":true,"securityEnabled":false,"membershipRule":null,"visibility":"Private","proxyAddresses":["SMTP:g<<n>>@example.test"],"onPremisesSyncEnabled":null<<edge>>}`,
			`{"id":"<<id>>","deletedDateTime":null,"createdDateTime":"<<created>>","description":null,"displayName":"Rôle <<n>> <<text>>","groupTypes":[],"isAssignableToRole":true,"mail":null,"mailEnabled":false,"securityEnabled":true,"membershipRule":"(user.department -eq \"IT\")","visibility":null,"proxyAddresses":[]<<edge>>}`),
		spec(EntraServicePrincipals, "entra principal", 600, 1400,
			`{"id":"<<id>>","deletedDateTime":null,"accountEnabled":<<enabled>>,"appDisplayName":"App <<n>>","appId":"<<app>>","appOwnerOrganizationId":"<<request>>","appRoleAssignmentRequired":false,"displayName":"App <<n>>","description":"<<text>>","homepage":null,"servicePrincipalType":"Application","tags":["WindowsAzureActiveDirectoryIntegratedApp"],"appRoles":[],"keyCredentials":[],"passwordCredentials":[{"keyId":"<<request>>","endDateTime":"<<changed>>","secretText":null}],"oauth2PermissionScopes":[]<<edge>>}`),
		spec(EntraPolicies, "entra policy", 12, 1200,
			`{"id":"<<id>>","templateId":null,"displayName":"Policy <<n>> <<text>>","createdDateTime":"<<created>>","modifiedDateTime":null,"state":"enabled","sessionControls":null,"conditions":{"clientAppTypes":["all"],"platforms":null,"applications":{"includeApplications":["All"],"excludeApplications":[]},"users":{"includeUsers":["All"],"excludeUsers":["<<user>>"],"includeRoles":[]}},"grantControls":{"operator":"OR","builtInControls":["mfa"],"termsOfUse":[]}<<edge>>}`),
		spec(EntraMethods, "entra user", 3000, 520,
			`{"id":"<<id>>","userPrincipalName":"user<<n>>@example.test","userDisplayName":"User <<n>> <<text>>","isAdmin":false,"isSsprRegistered":false,"isMfaRegistered":<<enabled>>,"isMfaCapable":<<enabled>>,"isPasswordlessCapable":false,"lastUpdatedDateTime":"<<changed>>","methodsRegistered":["microsoftAuthenticatorPush","softwareOneTimePasscode"],"userPreferredMethodForSecondaryAuthentication":"push","userType":"member"<<edge>>}`),
		spec(EntraSignIns, "entra sign-in", 2000, 1300,
			`{"id":"<<id>>","createdDateTime":"<<event>>","userDisplayName":"User","userPrincipalName":"user<<n>>@example.test","userId":"<<user>>","appId":"<<app>>","appDisplayName":"Portal <<text>>","ipAddress":"2001:db8::<<n>>","clientAppUsed":"Browser","correlationId":"<<request>>","conditionalAccessStatus":"notApplied","isInteractive":true,"riskState":"none","status":{"errorCode":0,"failureReason":null,"additionalDetails":null},"deviceDetail":{"deviceId":"","isCompliant":null},"location":{"city":"Zürich","geoCoordinates":{"altitude":null,"latitude":47.68050003051758,"longitude":-122.12094116210938}},"appliedConditionalAccessPolicies":[]<<edge>>}`),
		spec(EntraAuditLogs, "entra audit", 1500, 900,
			`{"id":"Directory_<<request>>_<<n>>","category":"UserManagement","correlationId":"<<id>>","result":"success","resultReason":"","activityDisplayName":"Update user","activityDateTime":"<<event>>","loggedByService":"Core Directory","operationType":"Update","initiatedBy":{"user":null,"app":{"displayName":"<<text>>","servicePrincipalId":"<<app>>"}},"targetResources":[{"id":"<<user>>","displayName":null,"type":"User","userPrincipalName":"user<<n>>@example.test","modifiedProperties":[]}],"additionalDetails":[]<<edge>>}`),
	}
}

// entraActivity is the member that needs a license.
const entraActivity = `,"signInActivity":{"lastSignInDateTime":"<<changed>>","lastSignInRequestId":"<<request>>","lastNonInteractiveSignInDateTime":null}`

var entraUserTemplates = []string{
	`{"id":"<<id>>","accountEnabled":<<enabled>>,"displayName":"Zoë \"]}\" <<n>>","givenName":"Zoë","surname":"O\u2019Neil","userPrincipalName":"user<<n>>@example.test","mail":"user<<n>>@example.test","jobTitle":"<<text>>","department":"IT","userType":"Member","createdDateTime":"<<created>>","lastPasswordChangeDateTime":"<<changed>>","businessPhones":["+41 44 555 01 00"],"assignedLicenses":[],"onPremisesSyncEnabled":null` + entraActivity + `<<edge>>}`,
	`{"id":"<<id>>","accountEnabled":<<enabled>>,"displayName":"名 <<n>>","givenName":null,"surname":null,"userPrincipalName":"guest<<n>>_example.test#EXT#@sim.test","mail":null,"jobTitle":"<<text>>","department":null,"userType":"Guest","externalUserState":"Accepted","createdDateTime":"<<created>>","businessPhones":[],"assignedLicenses":[{"disabledPlans":[],"skuId":"<<app>>"}]` + entraActivity + `<<edge>>}`,
}
