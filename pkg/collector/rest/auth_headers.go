package rest

import (
	"context"
	"net/http"
)

// StaticHeaders are several headers that authorize requests together, such as a
// key and its id.
type StaticHeaders []StaticHeader

// Apply implements Auth.
func (s StaticHeaders) Apply(ctx context.Context, req *http.Request) error {
	for _, header := range s {
		if err := header.Apply(ctx, req); err != nil {
			return err
		}
	}
	return nil
}

// Renew implements Auth: there is nothing to renew.
func (StaticHeaders) Renew(context.Context, *http.Request) (bool, error) { return false, nil }

func (s StaticHeaders) secrets() []string {
	var all []string
	for _, header := range s {
		all = append(all, header.secrets()...)
	}
	return all
}
