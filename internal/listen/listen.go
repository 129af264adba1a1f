// Package listen listens on the addresses of HTTP_LISTEN, and requests servers that
// listen on them: "127.0.0.1:19610", ":19610", or "unix:/run/collectord/http.sock".
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// socketPrefix begins the addresses of sockets in the file system.
const socketPrefix = "unix:"

// longestSocket is the longest path of a socket, in bytes: what sockaddr_un holds.
const longestSocket = 107

// SocketPath returns the path of the socket of an address, and whether it has one.
func SocketPath(address string) (path string, ok bool) {
	return strings.CutPrefix(address, socketPrefix)
}

// Check returns an error if the address is invalid. It does no I/O.
func Check(address string) error {
	path, isSocket := SocketPath(address)
	switch {
	case !isSocket:
		_, port, err := net.SplitHostPort(address)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		return err
	case !filepath.IsAbs(path):
		return errors.New("the path of the socket is not absolute")
	case strings.HasSuffix(path, "/"):
		return errors.New("the path of the socket is that of a directory")
	case len(path) > longestSocket:
		return fmt.Errorf("the path of the socket has %d bytes, and the system allows %d", len(path), longestSocket)
	}
	return nil
}

// Listen listens on an address. It replaces a socket that a killed process has left.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	path, isSocket := SocketPath(address)
	if !isSocket {
		return new(net.ListenConfig).Listen(ctx, "tcp", address)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) || !isAbandoned(ctx, path) {
		return l, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}

// isAbandoned reports whether there is a socket at path on which no process listens.
func isAbandoned(ctx context.Context, path string) bool {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != fs.ModeSocket {
		return false
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close() // only whether it is accepted is of interest
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// AddressOf returns the address that l listens on.
func AddressOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return socketPrefix + l.Addr().String()
	}
	return l.Addr().String()
}

// NewClient returns a client for the server on this machine that listens on an address,
// and the beginning of its URLs. An address without a host, or for all hosts, is that of
// localhost. The connections are not reused.
func NewClient(address string) (client *http.Client, base string, err error) {
	transport := &http.Transport{DisableKeepAlives: true}
	client = &http.Client{Transport: transport}
	if path, isSocket := SocketPath(address); isSocket {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return client, "http://localhost", nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, "", err
	}
	number, err := net.LookupPort("tcp", service) // a URL has no name of a service
	if err != nil {
		return nil, "", err
	}
	port := strconv.Itoa(number)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialLoopback(ctx, network, port)
		}
	}
	return client, "http://" + net.JoinHostPort(host, port), nil
}

// dialLoopback connects to a port of this machine. A container may be unable to resolve
// the name localhost.
func dialLoopback(ctx context.Context, network, port string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		return c, nil
	}
	if c, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("::1", port)); err == nil {
		return c, nil
	}
	return nil, err
}
