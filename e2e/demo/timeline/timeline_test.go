package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "draw the picture anew")

// The committed picture is what the program draws of what was seen: no hand has been at it.
func TestThePictureIsDrawnFromWhatWasSeen(t *testing.T) {
	const seen, picture = "../../../docs/restore.json", "../../../docs/restore.svg"
	drawn := filepath.Join(t.TempDir(), "drawn.svg")
	if *update {
		drawn = picture
	}
	must(t, render(seen, drawn))
	got, err := os.ReadFile(drawn)
	must(t, err)
	want, err := os.ReadFile(picture)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what is drawn of %s: `make picture` makes both anew", picture, seen)
	}
	for d := xml.NewDecoder(bytes.NewReader(got)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestARestoreIsDrawnToScale(t *testing.T) {
	r := restore{Etcd: "3.7.3", Keys: 5, Commit: 5, End: 10, Phases: []span{{"fence & all", 2, 4}, {"last", 4, 10}},
		Kubelet: []span{{From: 0, To: 2}, {From: 4, To: 10}},
		Serves: map[string][]was{
			"etcd": {{0, 2, "old"}, {4, 10, "new"}}, "API server": {{0, 2, "old"}, {6, 10, "new"}},
		}}
	drawn, err := r.draw()
	must(t, err)
	const second = (width - left - right) / 10 // pixels
	for _, want := range []string{
		`<rect class="k" x="132.0" y="44" width="143.2"`, `<rect class="o" x="132.0" y="74" width="143.2"`,
		`<rect class="n" x="418.4" y="74" width="429.6"`, `<rect class="n" x="561.6" y="104" width="286.4"`,
		`<path class="c" d="M490.0 30`, "fence &amp; all, 2.00 s", "A real etcd 3.7.3 with 5 keys",
	} {
		if !strings.Contains(string(drawn), want) {
			t.Errorf("with %.1f pixels a second there is no %s in\n%s", second, want, drawn)
		}
	}
	if _, err := (restore{End: 1, Phases: r.Phases}).draw(); err == nil {
		t.Error("a restore without a commit point is drawn")
	}
}

func TestEventsBecomePhases(t *testing.T) {
	begun := time.Unix(1000, 0)
	at := func(seconds float64, phase, operation, state string) event {
		return event{begun.Add(time.Duration(seconds * float64(time.Second))), phase, operation, state}
	}
	var r restore
	r.take([]event{at(0, "fence", "", "phase"), at(1, "fence", "stop the kubelet", "finished"),
		at(2, "release-etcd", "", "phase"), at(3, "release-etcd", "start the kubelet", "finished"),
		at(4, "", "", "committed"), at(5, "", "", "ended")})
	want := restore{Phases: []span{{"fence", 0, 2}, {"release-etcd", 2, 5}}, Commit: 4, End: 5,
		Kubelet: []span{{From: 0, To: 1}, {From: 3, To: 5}}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("the events become %+v, and not %+v", r, want)
	}
}

func TestTwoMissingAnswersAreAnOutage(t *testing.T) {
	begun := time.Unix(1000, 0)
	var answers []answer
	for i, data := range []string{"old", "old", "", "old", "", "", "new", "new"} {
		answers = append(answers, answer{begun.Add(time.Duration(i-1) * time.Second), data})
	}
	if got, want := bundle(answers, begun), []was{{0, 2, "old"}, {5, 6, "new"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("the answers become %v, and not %v", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
