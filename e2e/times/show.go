package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const module = "github.com/etcdpod/etcdpod/"

// onRealControlPlanes are the packages whose tests are named one by one.
var onRealControlPlanes = []string{"e2e/bootstrap", "e2e/cluster", "e2e/oracle", "e2e/rig", "e2e/threenodes"}

// show prints the table of one log.
func show(w io.Writer, title string, packages []timing) {
	if len(packages) == 0 {
		return
	}
	var tests []timing
	for i := range packages {
		p := &packages[i]
		p.Name = strings.TrimPrefix(p.Name, module)
		if !slices.Contains(onRealControlPlanes, p.Name) {
			continue
		}
		for _, t := range p.Tests {
			t.Name = p.Name + " " + t.Name
			tests = append(tests, t)
		}
	}
	fmt.Fprintf(w, "== %s: how long each package took\n", title)
	table(w, packages)
	if len(tests) > 0 {
		fmt.Fprintf(w, "== %s: how long each test of a real control plane took\n", title)
		table(w, tests)
	}
}

func table(w io.Writer, all []timing) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b timing) int {
		return cmp.Or(cmp.Compare(a.Took, b.Took), cmp.Compare(a.Name, b.Name))
	})
	for _, t := range all {
		line := fmt.Sprintf("%9s  %s", seconds(t), t.Name)
		if t.Remark != "" {
			line += " (" + t.Remark + ")"
		}
		fmt.Fprintln(w, line)
	}
}

// seconds is empty where no time is known.
func seconds(t timing) string {
	if t.Took == 0 && t.Remark != "" {
		return ""
	}
	if t.Took >= time.Minute {
		return fmt.Sprintf("%dm%04.1fs", int(t.Took.Minutes()), (t.Took % time.Minute).Seconds())
	}
	return fmt.Sprintf("%.1fs", t.Took.Seconds())
}
