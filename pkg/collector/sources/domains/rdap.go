package domains

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

const (
	// rdapTime bounds the time of one registration: a registry whose server is
	// down must not delay the others.
	rdapTime = 2 * time.Minute
	// rdapRetryTime is how long a failed request is repeated.
	rdapRetryTime = time.Minute
)

// rdapClient reads registrations (RFC 9082, RFC 9083) from the servers that the
// list of IANA names (RFC 9224).
type rdapClient struct {
	list    *rest.Client
	path    string
	options collector.Options
	http    *http.Client // of all servers

	mu      sync.Mutex
	clients map[string]*rest.Client // by the server's address
}

func newRDAPClient(list url.URL, o collector.Options) *rdapClient {
	address, path := source.DescribeAddress("DOMAINS_RDAP_URL", list), list.Path
	list.Path = ""
	c := &rdapClient{path: path, options: o, http: rest.NewHTTP(o.Shared), clients: map[string]*rest.Client{}}
	c.list = c.newClient(list)
	c.list.Address, c.list.Hints = address, source.PublicHints("DOMAINS_RDAP_URL")
	return c
}

// newClient returns a client of the server at base.
func (c *rdapClient) newClient(base url.URL) *rest.Client {
	client := source.NewClient(base, "", nil, map[string]rest.Limit{
		"": {Concurrent: 1, Rates: []rest.Rate{{N: 1, Per: time.Second}}},
	}, c.options)
	client.HTTP, client.Address = c.http, ""
	return client
}

// rdapServers are the addresses of RDAP servers by top-level domain.
type rdapServers map[string]string

// loadServers reads the list of servers.
func (c *rdapClient) loadServers(ctx context.Context) (rdapServers, error) {
	e, err := c.list.Get(ctx, rest.Request{Path: c.path})
	if err != nil {
		return nil, err
	}
	var services [][][]string
	if err := json.Unmarshal(e.Value("services"), &services); err != nil || len(services) == 0 {
		return nil, fmt.Errorf("%w: GET %s: the member services is not a list of RDAP servers: check DOMAINS_RDAP_URL", collector.ErrIncomplete, c.path)
	}
	servers := rdapServers{}
	for _, service := range services {
		if len(service) < 2 {
			continue
		}
		for _, name := range service[0] {
			servers[strings.ToLower(name)] = preferredServer(service[1])
		}
	}
	return servers, nil
}

// preferredServer returns the first address with encryption, or the first one.
func preferredServer(addresses []string) string {
	for _, address := range addresses {
		if strings.HasPrefix(address, "https://") {
			return address
		}
	}
	if len(addresses) == 0 {
		return ""
	}
	return addresses[0]
}

// serverOf returns the server for a name: that of the longest suffix; "" if
// there is none.
func (r rdapServers) serverOf(name string) string {
	for found := true; found; _, name, found = strings.Cut(name, ".") {
		if server := r[name]; server != "" {
			return server
		}
	}
	return ""
}

// registration is what a registry says about a registered domain.
type registration struct {
	Name           string   `json:"registered_domain"`
	Registered     *bool    `json:"registered"`
	ExpirationDate *string  `json:"expiration_date"`
	CreationDate   *string  `json:"creation_date"`
	UpdatedDate    *string  `json:"updated_date"`
	Registrar      *string  `json:"registrar"`
	NameServers    []string `json:"name_servers"`
	Status         []string `json:"status"`
	Signed         *bool    `json:"delegation_signed"`
}

// readRegistration sets the fields of r for the name of r.
func (c *rdapClient) readRegistration(ctx context.Context, servers rdapServers, r *registration) *failure {
	fail := func(reason, detail string) *failure {
		return &failure{Lookup: "rdap", Name: r.Name, Reason: reason, Detail: detail}
	}
	server := servers.serverOf(r.Name)
	if server == "" {
		return fail("no_rdap", "the top-level domain has no RDAP server in the list of IANA")
	}
	client, err := c.clientOf(server)
	if err != nil {
		return fail("network", err.Error())
	}
	limited, cancel := context.WithTimeout(collector.WithRetryTime(ctx, min(rdapRetryTime, collector.RetryTime(ctx))), rdapTime)
	defer cancel()
	e, err := client.Get(limited, rest.Request{
		Path: "/domain/" + url.PathEscape(r.Name), Header: http.Header{"Accept": {"application/rdap+json, application/json"}},
	})
	switch {
	case rest.HasStatus(err, http.StatusNotFound):
		r.Registered = new(bool)
		return nil
	case err != nil:
		return fail(describeRDAPError(err))
	}
	if !strings.EqualFold(e.Text("objectClassName"), "domain") { // which every response about a domain has (RFC 9083)
		return fail("invalid_response", invalidRDAP)
	}
	known := true
	r.Registered = &known
	r.setFields(e)
	if r.ExpirationDate == nil {
		return fail("no_expiration_date", "the registry does not publish the expiration date")
	}
	return nil
}

const invalidRDAP = "the response of the RDAP server is not complete or is not RDAP"

// describeRDAPError returns the reason and the detail of a failed request.
func describeRDAPError(err error) (reason, detail string) {
	var status *rest.StatusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusTooManyRequests:
		return "rate_limit", "the RDAP server refuses more requests for now"
	case errors.As(err, &status):
		return fmt.Sprintf("http_%d", status.Status), fmt.Sprintf("the RDAP server responded with %d %s", status.Status, http.StatusText(status.Status))
	case errors.Is(err, collector.ErrIncomplete):
		return "invalid_response", invalidRDAP
	}
	return describeNetworkError(err)
}

// clientOf returns the client of a server, which all its requests share.
func (c *rdapClient) clientOf(server string) (*rest.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.clients[server]; known != nil {
		return known, nil
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return nil, errors.New("the address of the RDAP server in the list of IANA is not valid")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	c.clients[server] = c.newClient(*u)
	return c.clients[server], nil
}

// setFields sets what a response says.
func (r *registration) setFields(e *rest.Envelope) {
	var events []struct{ EventAction, EventDate string }
	_ = json.Unmarshal(e.Value("events"), &events) // a member that is missing or of another kind sets nothing
	for _, event := range events {
		date := formatDate(event.EventDate)
		switch strings.ToLower(event.EventAction) {
		case "expiration":
			r.ExpirationDate = &date
		case "registration":
			r.CreationDate = &date
		case "last changed":
			r.UpdatedDate = &date
		}
	}
	var servers []struct{ LdhName string }
	_ = json.Unmarshal(e.Value("nameservers"), &servers)
	for _, server := range servers {
		r.NameServers = append(r.NameServers, strings.ToLower(server.LdhName))
	}
	_ = json.Unmarshal(e.Value("status"), &r.Status)
	_ = json.Unmarshal(e.Value("secureDNS.delegationSigned"), &r.Signed)
	r.Registrar = registrarOf(e)
}

// registrarOf returns the name of the entity with the role registrar, from its
// jCard (RFC 7095).
func registrarOf(e *rest.Envelope) *string {
	var entities []struct {
		Roles      []string
		VcardArray []json.RawMessage
	}
	_ = json.Unmarshal(e.Value("entities"), &entities)
	for _, entity := range entities {
		var properties [][]any
		if len(entity.VcardArray) < 2 || !containsFold(entity.Roles, "registrar") || json.Unmarshal(entity.VcardArray[1], &properties) != nil {
			continue
		}
		for _, property := range properties {
			if len(property) < 4 || property[0] != "fn" {
				continue
			}
			if name, ok := property[3].(string); ok && name != "" {
				return &name
			}
		}
	}
	return nil
}

func containsFold(all []string, text string) bool {
	for _, one := range all {
		if strings.EqualFold(one, text) {
			return true
		}
	}
	return false
}

// formatDate returns a date in UTC if it is in RFC 3339, and otherwise as it is.
func formatDate(text string) string {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC().Format(time.RFC3339)
	}
	return text
}
