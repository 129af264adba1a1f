package rest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
)

// newVendor starts a server for the examples and returns its client.
func newVendor(handler http.HandlerFunc) (*rest.Client, func()) {
	server := httptest.NewServer(handler)
	base, err := url.Parse(server.URL)
	if err != nil {
		panic(err)
	}
	return &rest.Client{Base: base, HTTP: server.Client(), UserAgent: "example"}, server.Close
}

// A listing whose pages contain the cursor of the next page.
func ExampleClient_Walk() {
	client, stop := newVendor(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") == "" {
			fmt.Fprint(w, `{"data":[{"id":1},{"id":2}],"meta":{"next":"c2","total":3}}`)
			return
		}
		fmt.Fprint(w, `{"data":[{"id":3}],"meta":{"next":null,"total":3}}`)
	})
	defer stop()

	devices := rest.Listing{
		Request: rest.Request{Path: "/v1/devices", Query: url.Values{"limit": {"2"}}},
		Shape:   rest.Shape{Records: "data", Errors: []string{"errors"}},
		Pager:   rest.Cursor{Path: "meta.next", Param: "after"},
		Total:   "meta.total",
	}
	var out rest.MemoryOutput
	n, err := client.Walk(context.Background(), devices, &out)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(n, "records")
	for _, record := range out.Records() {
		fmt.Printf("%s\n", record)
	}
	// Output:
	// 3 records
	// {"id":1}
	// {"id":2}
	// {"id":3}
}

// A listing that ends before the declared number of records has arrived.
func ExampleListing_incomplete() {
	client, stop := newVendor(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":1},{"id":2}],"meta":{"next":null,"total":5}}`)
	})
	defer stop()

	devices := rest.Listing{
		Request: rest.Request{Path: "/v1/devices"},
		Shape:   rest.Shape{Records: "data"},
		Pager:   rest.Cursor{Path: "meta.next", Param: "after"},
		Total:   "meta.total",
	}
	_, err := client.Walk(context.Background(), devices, &rest.MemoryOutput{})
	fmt.Println(err)
	fmt.Println(errors.Is(err, collector.ErrIncomplete))
	// Output:
	// GET /v1/devices: incomplete: received 2 of 5 declared records
	// true
}

// Records are passed on in the vendor's bytes.
func ExampleSplit() {
	document := `{"total": 2, "data": [ {"id":1, "score":1.0}, {"id":2} ], "next": "c2"}`
	e, err := rest.Split(strings.NewReader(document), rest.Shape{Records: "data"}, func(_ *rest.Envelope, raw []byte) error {
		fmt.Printf("%s\n", raw)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	total, _ := e.Count("total")
	fmt.Println(e.Records, "of", total, "records, next page:", e.Text("next"))
	// Output:
	// {"id":1, "score":1.0}
	// {"id":2}
	// 2 of 2 records, next page: c2
}

// An export job with two chunks.
func ExampleExport() {
	client, stop := newVendor(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /export":
			fmt.Fprint(w, `{"job":"7"}`)
		case "GET /export/7/status":
			fmt.Fprint(w, `{"state":"finished","chunks":2}`)
		case "GET /export/7/chunks/1":
			fmt.Fprint(w, `[{"id":1}]`)
		case "GET /export/7/chunks/2":
			fmt.Fprint(w, `[{"id":2}]`)
		}
	})
	defer stop()

	export := rest.Export{
		Start: func(ctx context.Context, _ int) (string, error) {
			e, err := client.Get(ctx, rest.Request{Method: http.MethodPost, Path: "/export", Once: true})
			if err != nil {
				return "", err
			}
			return e.Text("job"), nil
		},
		Status: func(ctx context.Context, id string) (rest.JobStatus, error) {
			e, err := client.Get(ctx, rest.Request{Path: "/export/" + id + "/status"})
			if err != nil {
				return rest.JobStatus{}, err
			}
			status := rest.JobStatus{Done: e.Text("state") == "finished"}
			chunks, _ := e.Count("chunks")
			for n := range chunks {
				status.Ready = append(status.Ready, fmt.Sprint(n+1))
			}
			return status, nil
		},
		Fetch: func(ctx context.Context, id, chunk string, out collector.Output) error {
			_, err := client.Fetch(ctx, rest.Request{Path: "/export/" + id + "/chunks/" + chunk}, rest.Shape{}, out, nil)
			return err
		},
	}
	var out rest.MemoryOutput
	if err := export.Run(context.Background(), &out); err != nil {
		fmt.Println(err)
		return
	}
	for _, record := range out.Records() {
		fmt.Printf("%s\n", record)
	}
	// Output:
	// {"id":1}
	// {"id":2}
}
