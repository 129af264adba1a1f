// Package source holds what the vendors' packages share: how an account is
// opened, how its streams are named, and how common settings are parsed.
package source

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// An Account is one account at a vendor, opened with its settings.
type Account interface {
	// Streams returns the account's streams, in the order of the vendor's
	// definition.
	Streams() []collector.Stream
	// Check implements collector.Collector's Check.
	Check(ctx context.Context) error
}

// Define returns the definition of a vendor whose settings have the type S.
// openAccount opens an account with settings that were loaded and validated; it
// does no I/O.
func Define[S any, A Account](info collector.Info, openAccount func(*S, collector.Options) (A, error)) collector.Definition {
	return collector.Define(info, func(settings *S, o collector.Options) (*collector.Collector, error) {
		account, err := openAccount(settings, o)
		if err != nil {
			return nil, err
		}
		return NewCollector(info.Name, account), nil
	})
}

// NewCollector returns the collector that reads account. The errors of its streams
// begin with its name and that of the stream, such as "okta users".
func NewCollector(name string, account Account) *collector.Collector {
	c := &collector.Collector{Name: name, Streams: account.Streams(), Check: account.Check}
	for i, s := range c.Streams {
		named := func(err error) error {
			if err == nil {
				return nil
			}
			return fmt.Errorf("%s: %w", describeStream(name, s.Name), err)
		}
		c.Streams[i].Extract = func(ctx context.Context, out collector.Output) error { return named(s.Extract(ctx, out)) }
		c.Streams[i].Check = func(ctx context.Context) error { return named(s.Check(ctx)) }
	}
	return c
}

// describeStream returns the name of a collector, and that of its stream as far as it
// does not repeat it.
func describeStream(name, stream string) string {
	if stream == name {
		return name
	}
	return name + " " + strings.TrimPrefix(stream, name+"_")
}

// NewClient returns the HTTP client of one account, whose address is the value of a
// setting. Its rate limits are shared with the other clients of the process that have the
// same auth, see rest.Client.Share: an account that sets another Auth later calls Share
// then. It warns if the connections to base are not encrypted.
func NewClient(base url.URL, setting string, auth rest.Auth, limits map[string]rest.Limit, o collector.Options) *rest.Client {
	if base.Scheme == "http" && !isLoopback(base.Hostname()) {
		Logger(o).Warn("the address begins with http://, so the credentials and the data are not encrypted: use https://",
			zap.String("host", base.Host))
	}
	c := &rest.Client{
		Base:      &base,
		Address:   DescribeAddress(setting, base),
		HTTP:      rest.NewHTTP(o.Shared),
		Auth:      auth,
		Limits:    rest.NewLimiter(limits),
		UserAgent: "Integration/1.0 (collectord; collectord; Build/" + o.Version + ")",
	}
	c.Share(o.Shared)
	return c
}

// DescribeAddress names a setting and its value, an address, for errors.
func DescribeAddress(setting string, address url.URL) string {
	return setting + ", which is " + address.Scheme + "://" + address.Host + address.Path
}

// isLoopback reports whether host is this machine (RFC 6761, section 6.3).
func isLoopback(host string) bool {
	name := "." + strings.ToLower(strings.TrimSuffix(host, "."))
	return net.ParseIP(host).IsLoopback() || strings.HasSuffix(name, ".localhost")
}

// ExtendRecords returns a RecordFunc that adds the members of x to each record.
func ExtendRecords(x *rest.Extension) rest.RecordFunc {
	var record []byte
	return func(batch collector.Batch, _ *rest.Envelope, raw []byte) (err error) {
		if record, err = x.Append(record[:0], raw); err != nil {
			return err
		}
		return batch.Append(record)
	}
}

// KeyMember returns a key function: the text of a member, or the record itself
// where it has no such text.
func KeyMember(name string) func(record []byte) (string, error) {
	return func(record []byte) (string, error) {
		if key := rest.TextOf(rest.Member(record, name)); key != "" {
			return key, nil
		}
		return string(record), nil
	}
}

// Logger returns the logger of o, or one that discards everything.
func Logger(o collector.Options) *zap.Logger {
	if o.Log == nil {
		return zap.NewNop()
	}
	return o.Log
}
