package engine

import (
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// stood is a run whose operations began 10 s apart and took 4 s each.
func stood(t *testing.T, progress journal.Progress, ops ...op.Op) *journal.State {
	t.Helper()
	at := time.Date(2026, 8, 1, 2, 0, 0, 0, time.UTC)
	s := &journal.State{Began: at}
	for i, o := range ops {
		body, err := op.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		began := at.Add(time.Duration(i) * 10 * time.Second)
		s.Steps = append(s.Steps, journal.StepState{Step: journal.Step{Kind: op.Kind(o), Op: body}, Progress: progress})
		s.Records = append(s.Records, journal.Record{Kind: journal.Start, Step: i, Time: began})
		if progress == journal.Done {
			s.Records = append(s.Records,
				journal.Record{Kind: journal.Finish, Step: i, Time: began.Add(4 * time.Second)})
		}
	}
	return s
}

func TestAnOutageIsFromTheFirstStopToTheLastSightOfAServingAPIServer(t *testing.T) {
	wait := &op.AwaitAPIServer{}
	for name, tt := range map[string]struct {
		ops  []op.Op
		want time.Duration
	}{
		"a restore": {[]op.Op{&op.StopKubelet{}, &op.StopContainers{}, &op.StartKubelet{}, wait, &op.DisarmAlarms{}},
			24 * time.Second},
		"a renewal": {[]op.Op{&op.RestartPod{Back: true}, &op.RestartPod{}, &op.RestartPod{}, wait},
			24 * time.Second},
		"of one alone":              {[]op.Op{&op.AwaitReplaced{Back: true}, &op.AwaitReplaced{}}, 4 * time.Second},
		"nothing stops":             {[]op.Op{wait, wait}, 0},
		"nobody saw it serve again": {[]op.Op{&op.StopContainers{}, &op.StartKubelet{}}, 0},
	} {
		if got := away(stood(t, journal.Done, tt.ops...)); got != tt.want {
			t.Errorf("%s: %s, and not %s", name, got, tt.want)
		}
		if got := interrupts(tt.ops); got != (tt.want > 0) {
			t.Errorf("%s: an outage is expected: %t", name, got)
		}
	}
	if got := away(stood(t, journal.Doing, &op.StopContainers{}, wait)); got != 0 {
		t.Errorf("of a run that still waits: %s", got)
	}
}

func TestSizesAndTimesAreNeverRoundedToNothing(t *testing.T) {
	for got, want := range map[string]string{
		Size(int64(1)): "1 B", Size(uint64(1 << 10)): "1.0 KiB", Size(int64(20 << 10)): "20.0 KiB",
		Size(int64(3 << 30)): "3.0 GiB", Roughly(time.Millisecond): "1 s", Roughly(99 * time.Second): "99 s",
		Roughly(10 * time.Minute): "10 min", Age(time.Second): "just now", Age(50 * time.Hour): "2 days ago",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
