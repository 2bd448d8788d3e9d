package main

import (
	"bytes"
	"fmt"
	"html"
	"strings"
	"unicode/utf8"
)

// The sizes of the picture, in pixels.
const (
	charWidth  = 8.4
	lineHeight = 19.0
	margin     = 16.0
	bar        = 28.0
)

const (
	hold     = 5.0  // seconds for which the end is shown, before all begins anew
	together = 0.04 // seconds; what comes closer appears at once
)

// looks are the styles that stand for SGR codes.
var looks = map[string]string{
	"1": "b", "2": "d", "31": "r", "32": "g", "1;36": "c",
}

const style = `text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;` +
	`fill:#d1d7e0;white-space:pre}.b{font-weight:700;fill:#f0f6fc}.d{fill:#9198a1}.r{fill:#ff7b72}` +
	`.g{fill:#3fb950}.c{fill:#79c0ff;font-weight:700}.t{fill:#9198a1}`

// draw makes the picture: each row is drawn once, and an animation shows it from its moment on, and
// moves all of them up. Where there are no animations the end is shown.
func (r recording) draw() ([]byte, error) {
	lines, err := r.lines()
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("nothing was shown")
	}
	moments := bundle(lines)
	length := moments[len(moments)-1].at + hold
	width, height := 2*margin+charWidth*float64(r.Width), bar+2*margin+lineHeight*float64(r.Height)

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>\n%s\n", html.EscapeString(r.Title), style)
	b.WriteString(r.animations(moments, length))
	fmt.Fprintf(&b, "</style>\n"+`<rect width="100%%" height="100%%" rx="8" fill="#0d1117"/>`+"\n")
	fmt.Fprintf(&b, `<text class="t" x="%.0f" y="19" text-anchor="middle">%s</text>`+"\n",
		width/2, html.EscapeString(r.Title))
	fmt.Fprintf(&b, `<svg y="%.0f" width="%.0f" height="%.0f"><g class="s">`+"\n", bar+margin-4, width,
		lineHeight*float64(r.Height)+4)
	for i, m := range moments {
		fmt.Fprintf(&b, `<g class="l" style="animation-name:l%d">`+"\n", i)
		for _, l := range m.lines {
			if err := l.draw(&b); err != nil {
				return nil, err
			}
		}
		fmt.Fprintln(&b, "</g>")
	}
	fmt.Fprintln(&b, "</g></svg>\n</svg>")
	return b.Bytes(), nil
}

// moment is one at which lines appear.
type moment struct {
	at    float64
	lines []line
}

// bundle takes lines together that appear at the same moment, or nearly.
func bundle(lines []line) (all []moment) {
	for _, l := range lines {
		if n := len(all); n > 0 && l.at-all[n-1].at < together {
			all[n-1].lines = append(all[n-1].lines, l)
			continue
		}
		all = append(all, moment{l.at, []line{l}})
	}
	return all
}

// animations are the style sheet's: one for the lines of each moment, and one that scrolls.
func (r recording) animations(moments []moment, length float64) string {
	var b, scroll strings.Builder
	percent := func(at float64) string { return fmt.Sprintf("%.2f%%", 100*at/length) }
	up := func(rows int) string {
		return fmt.Sprintf("{transform:translateY(%.0fpx)}", -lineHeight*float64(max(0, rows-r.Height)))
	}
	rows := 0
	for i, m := range moments {
		rows = m.lines[len(m.lines)-1].row + 1
		fmt.Fprintf(&b, "@keyframes l%d{0%%{visibility:hidden}%s,to{visibility:visible}}\n", i, percent(m.at))
		if rows > r.Height {
			fmt.Fprintf(&scroll, "%s%s", percent(m.at), up(rows))
		}
	}
	fmt.Fprintf(&b, "@keyframes s{0%%%s%sto%s}\n", up(0), scroll.String(), up(rows))
	fmt.Fprintf(&b, ".l,.s{animation-duration:%.2fs;animation-timing-function:step-end;"+
		"animation-iteration-count:infinite}\n.s{animation-name:s;transform:translateY(%.0fpx)}\n",
		length, -lineHeight*float64(max(0, rows-r.Height)))
	b.WriteString("@media (prefers-reduced-motion:reduce){.l,.s{animation:none!important}}\n")
	return b.String()
}

func (l line) draw(b *bytes.Buffer) error {
	if len(l.spans) == 0 {
		return nil
	}
	var text strings.Builder
	count := 0
	for _, s := range l.spans {
		count += utf8.RuneCountInString(s.text)
		class, known := looks[s.look]
		switch {
		case s.look == "":
			text.WriteString(html.EscapeString(s.text))
		case known:
			fmt.Fprintf(&text, `<tspan class="%s">%s</tspan>`, class, html.EscapeString(s.text))
		default:
			return fmt.Errorf("there is no look for the codes %s: add it to those in svg.go", s.look)
		}
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.0f" textLength="%.1f" xml:space="preserve">%s</text>`+"\n",
		margin+charWidth*float64(l.column), lineHeight*float64(l.row+1)-4, charWidth*float64(count), text.String())
	return nil
}
