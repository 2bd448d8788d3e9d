package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

const (
	megabyte = 1_000_000
	mebibyte = 1 << 20
)

// report is what the benchmark found. Seconds and bytes.
type report struct {
	Machine       string
	SnapshotBytes int64
	Rows          []row
	Phases        []phaseRow `json:",omitempty"`
	Orders        []orderRow `json:",omitempty"`
	Stalls        []stallRow `json:",omitempty"`
}

// row compares two ways to do one thing. The ratio is the median of the pairs' ratios.
type row struct {
	What, Against            string
	Ours, Theirs             float64 // seconds, medians
	OursMemory, TheirsMemory float64 `json:",omitempty"` // bytes, the highest of all runs
	Ratio                    float64
	OursEach, TheirsEach     []float64
	Targets                  []target
}

// target is a figure and what it must not exceed.
type target struct {
	Name   string
	Is     float64
	AtMost float64
	format string
}

func (t target) reached() bool { return t.Is <= t.AtMost }

// phaseRow says where the time of a restore goes: in seconds, medians.
type phaseRow struct {
	What     string
	Outage   float64
	BareEtcd float64 // from exec to ready
	Phases   map[string]float64
}

func newRow(what, against string, ours, theirs []float64) row {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	return row{What: what, Against: against, Ours: median(ours),
		Theirs: median(theirs), Ratio: median(ratios), OursEach: ours, TheirsEach: theirs}
}

func (r *row) atMost(name string, is, most float64, format string) {
	r.Targets = append(r.Targets, target{name, is, most, format})
}

// pairs measures two ways in turn, each first in every other pair.
func pairs[T any](
	ctx context.Context, n int, ours, theirs func(context.Context) (T, error),
) (our, their []T, err error) {
	for i := range n {
		first, second := ours, theirs
		if i%2 == 1 {
			first, second = theirs, ours
		}
		a, err := first(ctx)
		if err != nil {
			return nil, nil, err
		}
		b, err := second(ctx)
		if err != nil {
			return nil, nil, err
		}
		if i%2 == 1 {
			a, b = b, a
		}
		our, their = append(our, a), append(their, b)
		say("  %+v against %+v", a, b)
	}
	return our, their, nil
}

func walls(costs []cost) []float64 {
	seconds := make([]float64, len(costs))
	for i, c := range costs {
		seconds[i] = c.Wall.Seconds()
	}
	return seconds
}

func memory(costs []cost) float64 {
	highest := int64(0)
	for _, c := range costs {
		highest = max(highest, c.Memory)
	}
	return float64(highest)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func (c cost) String() string {
	return fmt.Sprintf("%.2f s (%.2f s of processors) %.0f MiB",
		c.Wall.Seconds(), c.CPU.Seconds(), float64(c.Memory)/mebibyte)
}

// markdown is the table as docs/sizing.md shows it.
func (r *report) markdown() string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s\n", r.Machine)
	if len(r.Rows) > 0 {
		r.writeRows(&w)
	}
	for _, p := range r.Phases {
		fmt.Fprintf(&w, "\n%s\n", p.text())
	}
	for _, s := range r.Stalls {
		fmt.Fprintf(&w, "\n%s\n", s.text())
	}
	if len(r.Orders) > 0 {
		fmt.Fprintf(&w, "\n| three members, from the first exec until all answer | %s |\n|---|%s\n",
			strings.Join(orderNames(), " | "), strings.Repeat("---|", len(orders)))
	}
	for _, o := range r.Orders {
		fmt.Fprintf(&w, "| %s | %s |\n", o.What, strings.Join(o.figures(), " | "))
	}
	return w.String()
}

func (r *report) writeRows(w *strings.Builder) {
	fmt.Fprint(w, "\n| what | compared with | etcdpod | the other | ratio | target | |\n"+
		"|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		var is, most []string
		verdict := "reached"
		for _, t := range row.Targets {
			is, most = append(is, fmt.Sprintf(t.format, t.Is)), append(most, "≤ "+fmt.Sprintf(t.format, t.AtMost))
			if !t.reached() {
				verdict = "**missed**"
			}
		}
		if len(row.Targets) == 0 {
			is, verdict = []string{fmt.Sprintf("%.2f", row.Ratio)}, ""
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n",
			row.What, row.Against, figure(row.Ours, row.OursMemory), figure(row.Theirs, row.TheirsMemory),
			strings.Join(is, ", "), strings.Join(most, ", "), verdict)
	}
}

// text tells of the phases between the API server's stop and its readiness.
func (p phaseRow) text() string {
	var parts []string
	for _, phase := range []string{
		"fence", "exchange-data", "release-etcd", "await-etcd",
		"compare-members", "release-apiserver", "await-apiserver",
	} {
		parts = append(parts, fmt.Sprintf("%s %.2f s", phase, p.Phases[phase]))
	}
	return fmt.Sprintf("Of etcdpod's outage of %.1f s at %s, a bare etcd needs %.1f s from exec to ready on that "+
		"data. The phases: %s.", p.Outage, p.What, p.BareEtcd, strings.Join(parts, ", "))
}

func figure(seconds, memory float64) string {
	if memory == 0 {
		return fmt.Sprintf("%.2f s", seconds)
	}
	return fmt.Sprintf("%.2f s, %.0f MiB", seconds, memory/mebibyte)
}

func (r *report) write(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
