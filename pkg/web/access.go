package web

import (
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/collectord/collectord/internal/listen"
)

// Access is who can reach a server.
type Access struct {
	// Loopback reports whether only programs on this machine can.
	Loopback bool
	// Authenticated reports whether the web configuration file asks for a password or
	// a client's certificate.
	Authenticated bool
}

// Open reports whether other machines can send requests without authentication. The
// server then requires the token for records, columns, queries and profiles.
func (a Access) Open() bool { return !a.Loopback && !a.Authenticated }

// AccessTo returns who can reach a server on an address such as "127.0.0.1:19610" or
// ":19610", or on a socket, with a web configuration file or "".
func AccessTo(address, configFile string) (Access, error) {
	a := Access{Loopback: true}
	if _, isSocket := listen.SocketPath(address); !isSocket {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return Access{}, err
		}
		a.Loopback = isLoopbackName(host)
	}
	users, certificates, err := readWebConfig(configFile)
	a.Authenticated = users > 0 || certificates
	return a, err
}

// readWebConfig returns how many users with passwords a web configuration file has, and
// whether it asks for clients' certificates. "" is an empty file. The rest of the file is
// checked by Check.
func readWebConfig(path string) (users int, certificates bool, err error) {
	if path == "" {
		return 0, false, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false, err
	}
	var file struct {
		Users map[string]string `yaml:"basic_auth_users"`
		TLS   struct {
			ClientAuth string `yaml:"client_auth_type"`
		} `yaml:"tls_server_config"`
	}
	err = yaml.Unmarshal(text, &file)
	return len(file.Users), file.TLS.ClientAuth == "RequireAndVerifyClientCert", err
}

// isLoopbackName reports whether a host in an address or a Host header is this
// machine's own loopback.
func isLoopbackName(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// isLocalHost reports whether a Host header is one that a server on loopback is
// requested by. A page of another site that lets its name resolve to 127.0.0.1 would
// otherwise read responses as its own (DNS rebinding). Only programs omit the header.
func (s *Server) isLocalHost(header string) bool {
	host := header
	if name, _, err := net.SplitHostPort(header); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	named := func(name string) bool { return strings.EqualFold(name, host) }
	return header == "" || isLoopbackName(host) || slices.ContainsFunc(s.Hosts, named)
}

// protect returns next for everyone unless the server is open to other machines; then
// only for requests with the token.
func (s *Server) protect(next http.HandlerFunc) http.HandlerFunc {
	if !s.Access.Open() {
		return next
	}
	return s.requireTokenFor(next, "the server is open to other machines without authentication, and HTTP_TOKEN is not set, so that records and profiles are not shown: set it, or HTTP_WEB_CONFIG_FILE")
}
