package engine

import (
	"testing"
	"time"
)

func TestProgressIsToldAtMostTwiceASecond(t *testing.T) {
	told := map[string][]Event{}
	emit := Sparing(func(e Event) { told[e.Node] = append(told[e.Node], e) })
	at := time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)
	for i := range 3001 { // three seconds, an event each millisecond
		for _, node := range []string{"cp1", "cp2"} {
			emit(Event{Time: at.Add(time.Duration(i) * time.Millisecond), Node: node, State: Progressed})
		}
	}
	for node, events := range told {
		if len(events) != 7 {
			t.Errorf("%s: %d events in three seconds", node, len(events))
		}
	}
	emit(Event{Time: at.Add(3001 * time.Millisecond), Node: "cp1", State: Finished})
	emit(Event{Time: at.Add(-time.Hour), Node: "cp1", State: Progressed})
	if last := told["cp1"][7:]; len(last) != 2 || last[0].State != Finished || last[1].State != Progressed {
		t.Errorf("an end, and progress after the clock was set back, are told as %+v", last)
	}
}
