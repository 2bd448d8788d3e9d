package main

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"math"
)

// The sizes of the picture, in pixels.
const (
	width   = 872.0
	left    = 132.0 // where the time begins
	right   = 24.0
	top     = 44.0
	row     = 30.0
	slender = 19.0 // a phase's row
)

const style = `text{font:13px ui-sans-serif,system-ui,"DejaVu Sans",sans-serif;fill:#1f2328}` +
	`.s{font-size:11px;fill:#59636e}.k{fill:#8c959f}.o{fill:#54aeff}.n{fill:#4ac26b}.x{fill:#ffcecb}.p{fill:#d0d7de}` +
	`.c{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:5 4}.t{stroke:#d8dee4}.b{font-weight:600}`

// draw makes the picture.
func (r restore) draw() ([]byte, error) {
	if r.End <= 0 || len(r.Phases) == 0 || r.Commit <= 0 {
		return nil, errors.New("it is no restore that came to its end")
	}
	x := func(at float64) float64 { return left + (width-left-right)*math.Min(at, r.End)/r.End }
	phases := top + 3*row + 30
	bottom := phases + slender*float64(len(r.Phases))
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f">`+"\n",
		width, bottom+70, width, bottom+70)
	fmt.Fprintf(&b, "<title>One restore on a time line</title>\n<style>%s</style>\n", style)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" rx="8" fill="#fff"/>`)
	for second := 0.0; second <= r.End; second += tick(r.End) {
		fmt.Fprintf(&b, `<path class="t" d="M%.1f %.0fV%.0f"/><text class="s" x="%.1f" y="%.0f" `+
			`text-anchor="middle">%g s</text>`+"\n", x(second), top-8, bottom+4, x(second), bottom+18, second)
	}
	r.drawWhoServes(&b, x)
	for i, p := range r.Phases {
		y := phases + slender*float64(i)
		bar(&b, "p", x(p.From), math.Max(x(p.To)-x(p.From), 1.5), y, slender-5)
		anchor, at := "start", x(p.To)+6
		if at > width-right-240 {
			anchor, at = "end", x(p.From)-6
		}
		fmt.Fprintf(&b, `<text class="s" x="%.1f" y="%.0f" text-anchor="%s">%s, %.2f s</text>`+"\n",
			at, y+11, anchor, html.EscapeString(p.Name), p.To-p.From)
	}
	fmt.Fprintf(&b, `<text x="16" y="%.0f">phases</text>`+"\n", phases+11)
	at := x(r.Commit)
	fmt.Fprintf(&b, `<path class="c" d="M%.1f 30V%.0f"/><text class="b" x="%.1f" y="22" text-anchor="middle">`+
		"commit point</text>\n", at, bottom+4, at)
	fmt.Fprintf(&b, `<text class="s" x="%.1f" y="36" text-anchor="end">← a failure undoes everything</text>`+
		`<text class="s" x="%.1f" y="36">from here on only forward →</text>`+"\n", at-8, at+8)
	r.drawLegend(&b, bottom+44)
	fmt.Fprintln(&b, "</svg>")
	return b.Bytes(), nil
}

// drawWhoServes draws the kubelet, etcd and the API server, each in a row: what they did, over what
// they did not.
func (r restore) drawWhoServes(b *bytes.Buffer, x func(float64) float64) {
	for i, name := range []string{"kubelet", "etcd", "API server"} {
		y := top + row*float64(i)
		fmt.Fprintf(b, `<text x="16" y="%.0f">%s</text>`+"\n", y+15, name)
		bar(b, "x", x(0), x(r.End)-x(0), y, row-10)
		if name == "kubelet" {
			for _, k := range r.Kubelet {
				bar(b, "k", x(k.From), x(k.To)-x(k.From), y, row-10)
			}
		}
		for _, w := range r.Serves[name] {
			bar(b, map[string]string{"old": "o", "new": "n"}[w.Data], x(w.From), x(w.To)-x(w.From), y, row-10)
		}
	}
}

func (r restore) drawLegend(b *bytes.Buffer, y float64) {
	at := 16.0
	for _, l := range []struct{ class, text string }{
		{"k", "runs"}, {"o", "serves the old data"}, {"n", "serves the new data"}, {"x", "stopped, or does not serve"},
	} {
		bar(b, l.class, at, 14, y-10, 12)
		fmt.Fprintf(b, `<text class="s" x="%.0f" y="%.0f">%s</text>`+"\n", at+20, y, l.text)
		at += 38 + 6.2*float64(len(l.text))
	}
	fmt.Fprintf(b, `<text class="s" x="16" y="%.0f">A real etcd %s with %d keys, under stand-ins for the kubelet and `+
		"the API server; seen from outside every 20 ms.</text>\n", y+18, html.EscapeString(r.Etcd), r.Keys)
}

func bar(b *bytes.Buffer, class string, x, wide, y, high float64) {
	fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.0f" width="%.1f" height="%.0f" rx="2"/>`+"\n",
		class, x, y, wide, high)
}

// tick is a round number of seconds, of which there are up to ten.
func tick(end float64) float64 {
	for _, t := range []float64{0.2, 0.5, 1, 2, 5, 10, 20, 60} {
		if end/t <= 10 {
			return t
		}
	}
	return 120
}
