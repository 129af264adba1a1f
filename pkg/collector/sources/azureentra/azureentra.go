// Package azureentra reads the directory and the reports of a tenant of Microsoft
// Entra ID.
package azureentra

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/microsoft"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of Microsoft Entra ID.
type Settings struct {
	Tenant    string        `env:"AZURE_TENANT_ID" required:"true" doc:"Id of the tenant, or one of its domains. The Azure SDK reads these three variables as well: where they are set for something else, COLLECTORS leaves this collector out."`
	ClientID  string        `env:"AZURE_CLIENT_ID" required:"true" doc:"Application (client) id of an app registration."`
	Secret    config.Secret `env:"AZURE_CLIENT_SECRET" required:"true" doc:"Value of a client secret of the same app registration."`
	Authority url.URL       `env:"AZURE_AUTHORITY_HOST" envDefault:"https://login.microsoftonline.com" doc:"Address of Entra ID: https://login.microsoftonline.us for US Government, https://login.partner.microsoftonline.cn or https://login.chinacloudapi.cn for China."`
	Graph     url.URL       `env:"AZURE_GRAPH_ENDPOINT" envDefault:"https://graph.microsoft.com" doc:"Address of Microsoft Graph: https://graph.microsoft.us for US Government L4, https://dod-graph.microsoft.us for L5, https://microsoftgraph.chinacloudapi.cn for China."`
	LogDays   int           `env:"AZURE_LOG_DAYS" envDefault:"7" min:"1" max:"180" doc:"Number of days before the run whose sign-ins and audit events each snapshot has. The vendor keeps 30 days, without a license for Entra ID P1 only 7."`
	Activity  bool          `env:"AZURE_SIGN_IN_ACTIVITY" envDefault:"true" doc:"Ask for the member signInActivity of users, which needs a license for Entra ID P1 and the permission AuditLog.Read.All. Where the vendor refuses it, users are stored without it and that is counted as a doubt; false avoids the doubt."`
	Members   []string      `env:"AZURE_USER_MEMBERS" example:"customSecurityAttributes,extension_0123_costCenter" doc:"Further members of users to ask for, beside the usual ones."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	app := s.application()
	errs := app.Validate()
	for _, member := range s.Members {
		if strings.ContainsAny(member, " /&?(") {
			errs = append(errs, config.Invalid("AZURE_USER_MEMBERS", "%q is not the name of a member: want one such as customSecurityAttributes", member))
		}
	}
	return errs
}

func (s *Settings) application() microsoft.Application {
	return microsoft.Application{Tenant: s.Tenant, ClientID: s.ClientID, Secret: s.Secret, Authority: s.Authority, Prefix: "AZURE"}
}

const (
	premiumLicense = "the tenant needs a license for Entra ID P1"
	windowNote     = "The events of the last AZURE_LOG_DAYS days before the run, not all: each snapshot is that window, and older events are in older snapshots. An event that the vendor records late is in the next run's snapshot. The window ends at the start of the run."
)

// Definition describes Microsoft Entra ID.
var Definition = source.Define(collector.Info{
	Name:        "azure_entra",
	Title:       "Microsoft Entra ID",
	Docs:        "https://learn.microsoft.com/graph/api/overview",
	Permissions: "an app registration with a client secret and the application permissions User.Read.All, Group.Read.All, Application.Read.All, Policy.Read.All, AuditLog.Read.All and Directory.Read.All of Microsoft Graph, with the consent of an administrator",
	RateLimit: "For each application and tenant, 5 requests in 10 seconds for sign-ins, audit logs and authentication methods, 1 a second for conditional access, and 3,500 resource units in 10 seconds for the directory. The collector stays within them, one request at a time for the first two. After a 429, 503 or 509 it waits as Retry-After says; conditional access has no such header. " +
		"Collectors of Intune with the same application share the token and the limits.",
	Streams: []collector.StreamInfo{
		{
			Name: "azure_entra_users", Records: "a user",
			Optional:  []string{"signInActivity", "employeeId", "lastPasswordChangeDateTime", "onPremisesLastSyncDateTime"},
			Endpoints: []string{"GET /v1.0/users?$select=...", "GET /v1.0/users?$select=id,signInActivity&$top=1"}, PageSize: "999 users, 500 with signInActivity",
			Permissions: "User.Read.All; AuditLog.Read.All for signInActivity",
			Notes: "The vendor returns eleven members unless others are named, so these are asked for: " + strings.Join(userMembers, ", ") + ". " +
				"signInActivity is asked for in addition, if a request for one user shows that it may be read; otherwise that is counted as a doubt (AZURE_SIGN_IN_ACTIVITY). AZURE_USER_MEMBERS names further ones, such as directory extensions or, with the permission CustomSecAttributeAssignment.Read.All, customSecurityAttributes. Members that the vendor returns only for a single user, such as mailboxSettings, cannot be asked for. Deleted users are not included.",
		},
		{
			Name: "azure_entra_groups", Records: "a group",
			Endpoints: []string{"GET /v1.0/groups"}, PageSize: "999 groups",
			Permissions: "Group.Read.All",
			Notes:       "Groups have the members that the vendor returns by default, including directory extensions, which it leaves out when members are named. So assignedLicenses, assignedLabels and the members of the group are not included.",
		},
		{
			Name: "azure_entra_service_principals", Records: "a service principal: an application or a managed identity in the tenant",
			Endpoints: []string{"GET /v1.0/servicePrincipals"}, PageSize: "999 service principals",
			Permissions: "Application.Read.All",
			Notes:       "All members except customSecurityAttributes. Secrets are never returned, only their ids and ends.",
		},
		{
			Name: "azure_entra_conditional_access_policies", Records: "a conditional access policy",
			Endpoints: []string{"GET /v1.0/identity/conditionalAccess/policies"}, PageSize: "all policies, or as many as the vendor returns",
			Permissions: "Policy.Read.All",
		},
		{
			Name: "azure_entra_authentication_methods", Records: "the registration of a user for authentication methods",
			Optional:  []string{"isMfaRegistered", "isMfaCapable", "isAdmin", "methodsRegistered"},
			Endpoints: []string{"GET /v1.0/reports/authenticationMethods/userRegistrationDetails"}, PageSize: "as many registrations as the vendor returns",
			Permissions: "AuditLog.Read.All; " + premiumLicense,
			Notes:       "id is that of the user. Disabled users are not included.",
		},
		{
			Name: "azure_entra_signins", Records: "an interactive sign-in of a user",
			Endpoints: []string{"GET /v1.0/auditLogs/signIns?$filter=createdDateTime ge ... and createdDateTime le ..."}, PageSize: "1,000 sign-ins",
			Permissions: "AuditLog.Read.All and Directory.Read.All; " + premiumLicense,
			Notes:       windowNote + " Sign-ins that are not interactive, and those of service principals and managed identities, are not included: they are only in the beta version of the API, which changes without notice.",
		},
		{
			Name: "azure_entra_audit_logs", Records: "an audit event of the directory",
			Endpoints: []string{"GET /v1.0/auditLogs/directoryAudits?$filter=activityDateTime ge ... and activityDateTime le ..."}, PageSize: "1,000 events",
			Permissions: "AuditLog.Read.All and Directory.Read.All",
			Notes:       windowNote,
		},
	},
}, openAccount)

// userMembers are the members of users that are asked for.
var userMembers = []string{
	"id", "accountEnabled", "ageGroup", "assignedLicenses", "assignedPlans", "authorizationInfo", "businessPhones", "city", "companyName",
	"consentProvidedForMinor", "country", "createdDateTime", "creationType", "department", "displayName", "employeeHireDate", "employeeId",
	"employeeOrgData", "employeeType", "externalUserState", "externalUserStateChangeDateTime", "faxNumber", "givenName", "identities",
	"imAddresses", "isManagementRestricted", "isResourceAccount", "jobTitle", "lastPasswordChangeDateTime", "legalAgeGroupClassification",
	"licenseAssignmentStates", "mail", "mailNickname", "mobilePhone", "officeLocation", "onPremisesDistinguishedName", "onPremisesDomainName",
	"onPremisesExtensionAttributes", "onPremisesImmutableId", "onPremisesLastSyncDateTime", "onPremisesProvisioningErrors",
	"onPremisesSamAccountName", "onPremisesSecurityIdentifier", "onPremisesSyncEnabled", "onPremisesUserPrincipalName", "otherMails",
	"passwordPolicies", "passwordProfile", "postalCode", "preferredDataLocation", "preferredLanguage", "proxyAddresses", "securityIdentifier",
	"showInAddressList", "signInSessionsValidFromDateTime", "state", "streetAddress", "surname", "usageLocation", "userPrincipalName", "userType",
}

const activityMember = "signInActivity"

// account is one tenant.
type account struct {
	settings Settings
	graph    *microsoft.API
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	return &account{settings: *s, graph: microsoft.NewGraph(s.application(), s.Graph, o)}, nil
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error { return a.graph.CheckToken(ctx) }

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	const top = "$top"
	listing := func(name, path, permissions string) microsoft.Stream {
		return microsoft.Stream{
			Name: name, Request: rest.Request{Path: "/v1.0/" + path, Query: url.Values{top: {"999"}}}, Permissions: permissions, SmallPage: top,
		}
	}
	users := listing("azure_entra_users", "users", "User.Read.All")
	users.Extract, users.Query = a.extractUsers, a.usersRequest(false).Query
	policies := listing("azure_entra_conditional_access_policies", "identity/conditionalAccess/policies", "Policy.Read.All")
	policies.Class, policies.Query = microsoft.PoliciesClass, nil
	methods := listing("azure_entra_authentication_methods", "reports/authenticationMethods/userRegistrationDetails", "AuditLog.Read.All")
	methods.Class, methods.Query, methods.SmallPage, methods.Besides = microsoft.ReportsClass, nil, "", premiumLicense
	var streams []collector.Stream
	for _, s := range []microsoft.Stream{
		users,
		listing("azure_entra_groups", "groups", "Group.Read.All"),
		listing("azure_entra_service_principals", "servicePrincipals", "Application.Read.All"),
		policies,
		methods,
		a.eventStream("azure_entra_signins", "signIns", "createdDateTime", premiumLicense),
		a.eventStream("azure_entra_audit_logs", "directoryAudits", "activityDateTime", ""),
	} {
		streams = append(streams, a.graph.Stream(s))
	}
	return streams
}

// usersRequest returns the request for users with their members.
func (a *account) usersRequest(activity bool) rest.Request {
	members, size := append(append([]string{}, userMembers...), a.settings.Members...), "999"
	if activity {
		members, size = append(members, activityMember), "500"
	}
	return rest.Request{Path: "/v1.0/users", Query: url.Values{"$select": {strings.Join(members, ",")}, "$top": {size}}}
}

// extractUsers reads the users with signInActivity, or without it where the vendor
// refuses it.
func (a *account) extractUsers(ctx context.Context, c *rest.Client, out collector.Output) error {
	activity := a.settings.Activity
	if activity {
		probe := rest.Request{Path: "/v1.0/users", Query: url.Values{"$select": {"id," + activityMember}, "$top": {"1"}}}
		_, err := c.Fetch(ctx, probe, microsoft.Shape, &rest.MemoryOutput{}, nil)
		switch {
		case errors.Is(err, collector.ErrForbidden):
			activity = false
			collector.LogFrom(ctx).Warn("users are read without signInActivity, which needs AuditLog.Read.All and a license for Entra ID P1", zap.Error(err))
			collector.StatsFrom(ctx).AddDoubt("users are without signInActivity, which the vendor refuses", 1)
		case err != nil:
			return err
		}
	}
	_, err := c.Walk(ctx, microsoft.Listing(a.usersRequest(activity)), out)
	return err
}

// eventStream returns a stream of events whose time is in the given member.
func (a *account) eventStream(name, path, member, besides string) microsoft.Stream {
	r := rest.Request{Path: "/v1.0/auditLogs/" + path, Query: url.Values{"$top": {"1000"}}, Class: microsoft.ReportsClass}
	return microsoft.Stream{
		Name: name, Request: r, Permissions: "AuditLog.Read.All and Directory.Read.All", Besides: besides, SmallPage: "$top",
		Extract: func(ctx context.Context, c *rest.Client, out collector.Output) error {
			now := time.Now().UTC()
			from := now.AddDate(0, 0, -a.settings.LogDays)
			window := r
			window.Query = url.Values{
				"$top":    {"1000"},
				"$filter": {member + " ge " + from.Format(time.RFC3339) + " and " + member + " le " + now.Format(time.RFC3339)},
			}
			_, err := c.Walk(ctx, microsoft.Listing(window), out)
			return err
		},
	}
}
