package rest

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

func TestShapeTakesAnArrayOnlyWhereItMay(t *testing.T) {
	for name, tc := range map[string]struct {
		shape   Shape
		text    string
		records int
		array   bool
		refused bool
	}{
		"object":                     {Shape{Records: "data", OrArray: true}, `{"data":[{},{}],"next":1}`, 2, false, false},
		"array":                      {Shape{Records: "data", OrArray: true}, ` [{}]`, 1, true, false},
		"empty array":                {Shape{Records: "data", OrArray: true}, `[]`, 0, true, false},
		"neither":                    {Shape{Records: "data", OrArray: true}, `7`, 0, false, true},
		"array that was not allowed": {Shape{Records: "data"}, `[{}]`, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			records := 0
			e, err := Split(strings.NewReader(tc.text), tc.shape, func(e *Envelope, _ []byte) error {
				if records++; e.IsArray() != tc.array {
					t.Errorf("IsArray is %v at a record", e.IsArray())
				}
				return nil
			})
			if tc.refused {
				if !errors.Is(err, collector.ErrIncomplete) {
					t.Errorf("error %v, want one that wraps ErrIncomplete", err)
				}
				return
			}
			if err != nil || records != tc.records || e.IsArray() != tc.array {
				t.Errorf("%d records, array %v, error %v", records, e != nil && e.IsArray(), err)
			}
		})
	}
}

func TestQuotaReadsLists(t *testing.T) {
	q := Quota{Limit: "X-Ratelimit-Limit", Remaining: "X-Ratelimit-Remaining", Reset: "X-Ratelimit-Reset", Reserve: 0.05}
	list := `160, 160;w=1;name="a", 1620;w=60;name="b", 97200;w=3600;name="c"`
	for name, tc := range map[string]struct {
		limit, remaining, reset string
		want                    time.Duration
	}{
		"list, plenty left":  {list, "100", "1", 0},
		"list, nearly empty": {list, "8", "1", time.Second},
		"plain":              {"160", "8", "30", 30 * time.Second},
		"no number":          {`"default";q=160`, "0", "30", 0},
		"remaining absent":   {list, "", "30", 0},
		"zeros":              {"0", "0", "30", 0},
		"reset absent":       {list, "0", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for name, v := range map[string]string{q.Limit: tc.limit, q.Remaining: tc.remaining, q.Reset: tc.reset} {
				if v != "" {
					h.Set(name, v)
				}
			}
			if got, _ := q.wait(h, time.Now()); got != tc.want {
				t.Errorf("waits %v, want %v", got, tc.want)
			}
		})
	}
}
