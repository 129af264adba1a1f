package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/test/markdown"
)

// viewTypes are the documented names of the types in views.
var viewTypes = map[reflect.Type]string{
	reflect.TypeFor[string]():     "text",
	reflect.TypeFor[*string]():    "text or null",
	reflect.TypeFor[bool]():       "true or false",
	reflect.TypeFor[int]():        "integer",
	reflect.TypeFor[int64]():      "integer",
	reflect.TypeFor[float64]():    "number",
	reflect.TypeFor[*float64]():   "number or null",
	reflect.TypeFor[time.Time]():  "time",
	reflect.TypeFor[*time.Time](): "time or null",
	reflect.TypeFor[any]():        "document",
}

// addMembers adds the members of a view with their types, by path.
func addMembers(members map[string]string, t reflect.Type, path string) error {
	if t.Kind() == reflect.String && t != reflect.TypeFor[string]() {
		t = reflect.TypeFor[string]()
	}
	if name := viewTypes[t]; name != "" {
		members[path] = name
		return nil
	}
	if t.Kind() == reflect.Slice {
		return addMembers(members, t.Elem(), path+"[]")
	}
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("%s has the type %v", path, t)
	}
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("json")
		if name == "" || strings.Contains(name, ",") {
			return fmt.Errorf("%v.%s has the tag %q: want the name alone, since no member may be missing", t, t.Field(i).Name, name)
		}
		if err := addMembers(members, t.Field(i).Type, strings.TrimPrefix(path+"."+name, ".")); err != nil {
			return err
		}
	}
	return nil
}

// TestDocumentedJSON compares docs/reference/json.md with the documents of --json.
func TestDocumentedJSON(t *testing.T) {
	doc := markdown.Read(t, "docs/reference/json.md")
	for section, view := range map[string]any{
		"status": statusView{}, "list": listView{}, "check": checkView{}, "once": onceView{}, "restore": restoreView{}, "doctor": doctorView{}, "cluster status": clusterStatusView{},
		"deliver": deliverView{}, "tenancy list": tenancyListView{}, "tenancy forget": forgetView{}, "Several tenancies": tenanciesView{},
	} {
		documented, want := map[string]string{}, map[string]string{}
		for _, row := range doc.Rows(section) {
			documented[strings.Trim(row[0], "`")] = row[1]
		}
		if err := addMembers(want, reflect.TypeOf(view), ""); err != nil {
			t.Error(err)
		}
		for _, path := range slices.Sorted(maps.Keys(want)) {
			if documented[path] != want[path] {
				t.Errorf("%s: %s is documented as %q, the program has %q", section, path, documented[path], want[path])
			}
		}
		for path := range documented {
			if want[path] == "" {
				t.Errorf("%s: %s is documented, and the program has no such member", section, path)
			}
		}
	}
}
