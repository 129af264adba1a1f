// Package sources has one file per vendor, with nothing in it but that
// vendor's facts. A new vendor is a new file and a line in All.
package sources

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// All returns every source, by name.
func All() []collector.Source {
	return []collector.Source{
		crowdstrikeSource,
		knowBe4Source,
		oktaSource,
		snykSource,
		tenableSource,
	}
}

// client makes the toolkit's client of one vendor account.
func client(base url.URL, auth rest.Auth, limits map[string]rest.Limit, o collector.Options) *rest.Client {
	return &rest.Client{
		Base:      &base,
		HTTP:      rest.NewHTTP(),
		Auth:      auth,
		Limits:    rest.NewLimiter(limits),
		UserAgent: "Integration/1.0 (collectord; collectord; Build/" + o.Version + ")",
	}
}

// named puts a stream's name before its errors.
func named(name string, extract func(context.Context, collector.Output) error) collector.Stream {
	return collector.Stream{Name: name, Extract: func(ctx context.Context, out collector.Output) error {
		if err := extract(ctx, out); err != nil {
			return fmt.Errorf("%s: %w", strings.Replace(name, "_", " ", 1), err)
		}
		return nil
	}}
}

// object checks that a setting holds a JSON object.
func object(name, text string) []error {
	var v map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &v); err != nil || v == nil {
		return []error{config.Invalid(name, "%q is not a JSON object: want one such as {\"severity\":[\"high\"]}", text)}
	}
	return nil
}

// extended passes records on with the members that x adds.
func extended(x *rest.Extension) rest.Each {
	var record []byte
	return func(page collector.Page, _ *rest.Envelope, raw []byte) (err error) {
		if record, err = x.Append(record[:0], raw); err != nil {
			return err
		}
		return page.Append(record)
	}
}

// logger is o's, or one that is silent.
func logger(o collector.Options) *zap.Logger {
	if o.Log == nil {
		return zap.NewNop()
	}
	return o.Log
}
