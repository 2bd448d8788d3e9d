// Command timeline watches one restore of a stand-in node from outside, and draws it on a line of
// time: what serves when, what is stopped, and where the commit point is.
//
//	timeline record docs/restore.json bin/demo/server
//	timeline render docs/restore.json docs/restore.svg
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := fmt.Errorf("usage: timeline record JSON ETCD\n       timeline render JSON SVG")
	switch args := os.Args[1:]; {
	case len(args) == 3 && args[0] == "record":
		err = record(ctx, args[1], args[2])
	case len(args) == 3 && args[0] == "render":
		err = render(args[1], args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "timeline:", err)
		os.Exit(1)
	}
}

// restore is what was seen of one. Times are seconds since its first event.
type restore struct {
	Etcd    string           `json:"etcd"` // its version
	Keys    int              `json:"keys"`
	Phases  []span           `json:"phases"`
	Commit  float64          `json:"commit"`
	Kubelet []span           `json:"kubelet"` // when it ran
	Serves  map[string][]was `json:"serves"`  // who served which data
	End     float64          `json:"end"`
}

// span is a name for a time.
type span struct {
	Name string  `json:"name"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// was is what an answer was, from the first of its kind to the last.
type was struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
	Data string  `json:"data"` // old or new
}

func render(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var r restore
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	svg, err := r.draw()
	if err != nil {
		return fmt.Errorf("cannot draw %s: %w", from, err)
	}
	return os.WriteFile(to, svg, 0o644)
}
