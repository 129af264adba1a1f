package docs_test

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"

	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/markdown"
)

// classicDashboard is in the schema that every Grafana imports.
//
//lint:ignore SA1019 its successor cannot be imported before Grafana 13
type classicDashboard = dashboard.Dashboard

// readDashboard reads the dashboard with the types that Grafana generates from its schemas.
// Every field must be known to them, and every required one be there.
func readDashboard(t *testing.T) (d classicDashboard, text string) {
	t.Helper()
	content, err := os.ReadFile(checkout.Join(t, "deploy", "grafana", "collectord.json"))
	if err != nil {
		t.Fatal(err)
	}
	plugins.RegisterDefaultPlugins()
	// It returns an empty error, not nil, when there is no problem, and then leaves panels out.
	var strict classicDashboard
	var problems cog.BuildErrors
	if err := strict.UnmarshalJSONStrict(content); !errors.As(err, &problems) || len(problems) > 0 {
		t.Fatalf("the dashboard does not follow Grafana's schema: %v", err)
	}
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Fatalf("the dashboard is not valid: %v", err)
	}
	return d, string(content)
}

// TestDashboardPanels checks that each panel has what a reader needs: a unit, thresholds or a
// legend, a data source that can be chosen, and queries that the variables restrict.
func TestDashboardPanels(t *testing.T) {
	d, _ := readDashboard(t)
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Name != "datasource" && (v.IncludeAll == nil || !*v.IncludeAll || v.Multi == nil || !*v.Multi || v.AllValue == nil) {
			t.Errorf("the variable %s cannot choose several values or all", v.Name)
		}
	}
	if want := []string{"datasource", "instance", "tenancy", "stream"}; !slices.Equal(variables, want) {
		t.Errorf("variables %q, want %q", variables, want)
	}
	ids := map[uint32]bool{}
	taken := map[[2]uint32]string{} // the cells of the grid
	kinds := map[string]int{}
	for _, one := range d.Panels {
		if one.Panel == nil { // a row
			continue
		}
		p := one.Panel
		title := *p.Title
		kinds[p.Type]++
		if ids[*p.Id] {
			t.Errorf("%s: the id %d is not unique", title, *p.Id)
		}
		ids[*p.Id] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]uint32{x, y}]; other != "" {
					t.Fatalf("%s overlaps %s", title, other)
				}
				taken[[2]uint32{x, y}] = title
			}
		}
		if p.Datasource == nil || *p.Datasource.Uid != "${datasource}" {
			t.Errorf("%s: the data source cannot be chosen", title)
		}
		if p.FieldConfig.Defaults.Unit == nil || p.FieldConfig.Defaults.Thresholds == nil {
			t.Errorf("%s has no unit or no thresholds", title)
		}
		if p.Type == "table" && len(p.Transformations) == 0 {
			t.Errorf("%s does not join its queries into one row for each object", title)
		}
		for _, target := range p.Targets {
			q, ok := target.(*prometheus.Dataquery)
			if !ok {
				t.Fatalf("%s: %T", title, target)
			}
			if !strings.Contains(q.Expr, `instance=~"$instance"`) || !strings.Contains(q.Expr, `tenancy=~"$tenancy"`) {
				t.Errorf("%s: the query ignores the variables: %s", title, q.Expr)
			}
			if p.Type == "timeseries" && (q.LegendFormat == nil || !strings.Contains(*q.LegendFormat, "{{tenancy}}")) {
				t.Errorf("%s has no legend with the tenancy", title)
			}
		}
	}
	if kinds["stat"] < 5 || kinds["table"] < 4 || kinds["timeseries"] < 10 {
		t.Errorf("panels by type: %v", kinds)
	}
}

// TestDashboardLinks checks that the links of the dashboard lead to documents and headings
// that exist.
func TestDashboardLinks(t *testing.T) {
	_, text := readDashboard(t)
	sections := markdown.Read(t, "docs/runbook/alerts.md").Headings("Alerts")
	links := regexp.MustCompile(`https://github\.com/collectord/collectord/blob/main/([\w/.-]+)(?:#([\w-]+))?`).FindAllStringSubmatch(text, -1)
	if len(links) < 15 {
		t.Errorf("only %d links", len(links))
	}
	for _, link := range links {
		if _, err := os.Stat(checkout.Join(t, strings.Split(link[1], "/")...)); err != nil {
			t.Errorf("%s: %v", link[0], err)
		}
		exists := func(section string) bool { return markdown.AnchorOf(section) == link[2] }
		if link[2] != "" && (link[1] != "docs/runbook/alerts.md" || !slices.ContainsFunc(sections, exists)) {
			t.Errorf("%s: no such section", link[0])
		}
	}
}
