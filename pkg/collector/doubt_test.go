package collector_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
)

func TestDoubtsAreAdded(t *testing.T) {
	s := &collector.Stats{}
	s.AddDoubt("received fewer hosts than declared", 3)
	s.AddDoubt("an application had no finished scan", 1)
	s.AddDoubt("received fewer hosts than declared", 2)
	s.AddDoubt("nothing differs", 0)
	want := []collector.Doubt{
		{Text: "received fewer hosts than declared", Count: 5},
		{Text: "an application had no finished scan", Count: 1},
	}
	if diff := cmp.Diff(want, s.Doubts()); diff != "" {
		t.Errorf("doubts (-want +got):\n%s", diff)
	}
}

func TestDoubtsAreBounded(t *testing.T) {
	s := &collector.Stats{}
	for i := range 1000 {
		s.AddDoubt(fmt.Sprintf("doubt %d", i), 1)
	}
	all := s.Doubts()
	var sum int64
	for _, d := range all {
		sum += d.Count
	}
	if len(all) != 51 || sum != 1000 || all[50].Text != "other doubts" {
		t.Errorf("%d doubts with the sum %d, the last is %+v", len(all), sum, all[len(all)-1])
	}
}

func TestDoubtsAreForgottenByAnExtractionThatStartsOver(t *testing.T) {
	s := &collector.Stats{}
	s.AddDoubt("received fewer hosts than declared", 3)
	s.ResetBatches()
	if all := s.Doubts(); len(all) != 0 {
		t.Errorf("got %v", all)
	}
}

func TestDoubtsOfNoStats(t *testing.T) {
	var s *collector.Stats
	s.AddDoubt("counted nowhere", 1)
	if all := s.Doubts(); all != nil {
		t.Errorf("got %v", all)
	}
}
