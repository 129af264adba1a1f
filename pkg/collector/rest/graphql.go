package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A GraphQL describes a query whose result is a connection as the Relay
// specification defines it: edges and pageInfo.
type GraphQL struct {
	// Path is the endpoint below the client's base.
	Path string
	// Query is the text of the query. It must pass the variable After on to the
	// connection, and request pageInfo { hasNextPage endCursor }.
	Query string
	// Variables are the variables of the query without that of the cursor.
	Variables map[string]any
	// Connection is the dotted path of the connection in data, such as "issues"
	// or "organization.repositories".
	Connection string
	// After is the variable for the cursor; "after" when empty.
	After string
	// Nodes means that the query requests nodes, whose elements are the
	// records. Otherwise they are edges[].node.
	Nodes bool
	// Total is the member of the connection with the declared number of
	// records, such as "totalCount"; "" for none.
	Total string
}

// Listing returns the listing of the connection's records. It fails if the
// response has errors, also beside data, if a cursor repeats, and if there is a
// next page without a cursor.
func (g GraphQL) Listing() (Listing, error) {
	after := g.After
	if after == "" {
		after = "after"
	}
	for _, part := range []string{"$" + after, "pageInfo", "hasNextPage", "endCursor"} {
		if !strings.Contains(g.Query, part) {
			return Listing{}, fmt.Errorf("the GraphQL query does not contain %s, so its pages cannot be read", part)
		}
	}
	if g.Connection == "" {
		return Listing{}, errors.New("the GraphQL query has no Connection")
	}
	variables := g.Variables
	if variables == nil {
		variables = map[string]any{}
	}
	body, err := json.Marshal(map[string]any{"query": g.Query, "variables": variables})
	if err != nil {
		return Listing{}, fmt.Errorf("the variables of the GraphQL query: %w", err)
	}
	connection := "data." + g.Connection + "."
	l := Listing{
		Request: Request{Method: http.MethodPost, Path: g.Path, Body: body},
		Shape:   Shape{Records: connection + "edges", Element: "node", Errors: []string{"errors"}},
		Pager:   Cursor{Path: connection + "pageInfo.endCursor", Member: "variables." + after},
		More:    connection + "pageInfo.hasNextPage",
	}
	if g.Nodes {
		l.Shape.Records, l.Shape.Element = connection+"nodes", ""
	}
	if g.Total != "" {
		l.Total = connection + g.Total
	}
	return l, nil
}
