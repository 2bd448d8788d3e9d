package main

import (
	"bytes"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "draw the pictures anew")

// The committed pictures are what the program draws of the recordings beside them: no hand has
// been at them.
func TestThePicturesAreDrawnFromTheirRecordings(t *testing.T) {
	for cast, svg := range map[string]string{
		"testdata/small.cast":     "testdata/small.svg",
		"../../../docs/demo.cast": "../../../docs/demo.svg",
	} {
		drawn := filepath.Join(t.TempDir(), "drawn.svg")
		if *update {
			drawn = svg
		}
		must(t, render(cast, drawn))
		got, err := os.ReadFile(drawn)
		must(t, err)
		want, err := os.ReadFile(svg)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what is drawn of %s: `make picture` records and draws anew", svg, cast)
		}
	}
}

func TestEachFrameIsWhatTheTerminalShowed(t *testing.T) {
	for _, cast := range []string{"testdata/small.cast", "../../../docs/demo.cast"} {
		data, err := os.ReadFile(cast)
		must(t, err)
		r, err := read(data)
		must(t, err)
		drawn, err := r.draw()
		must(t, err)
		p := parse(t, drawn)
		var shown string
		var now, before float64
		for i, s := range r.shown {
			shown += s.text
			if now += min(s.at-before, longest); i == 0 {
				now = 0
			}
			before = s.at
			if i+1 < len(r.shown) && r.shown[i+1].at-s.at < 3*together {
				continue // they may appear as one
			}
			want := screen(shown, r.Width, r.Height)
			if got := p.frame(now+2*together, r.Height); !slices.Equal(got, want) {
				t.Fatalf("%s: at %.2f s is drawn\n%s\nand shown was\n%s", cast, s.at,
					strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		if got, want := p.frame(p.length-0.01, r.Height), screen(shown, r.Width, r.Height); !slices.Equal(got, want) {
			t.Errorf("%s ends with %q, and not with %q", cast, got, want)
		}
	}
}

// screen is a terminal, as simple as can be.
func screen(text string, width, height int) (all []string) {
	text = regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(text, "")
	text = strings.TrimSuffix(strings.ReplaceAll(text, "\r", ""), "\n")
	for _, line := range strings.Split(text, "\n") {
		chars := []rune(line)
		for len(chars) > width {
			all = append(all, string(chars[:width]))
			chars = chars[width:]
		}
		all = append(all, string(chars))
	}
	return all[max(0, len(all)-height):]
}

// drawnLine is one that appears at a moment, in percent.
type drawnLine struct {
	row  int
	x    float64
	from float64
	text string
}

// picture is what a browser makes of an SVG.
type picture struct {
	length float64
	lines  []drawnLine
	scroll [][2]float64 // percent, rows
}

func parse(t *testing.T, drawn []byte) *picture {
	t.Helper()
	p := &picture{}
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(text, 64)
		must(t, err)
		return n
	}
	css := string(drawn)
	p.length = number(regexp.MustCompile(`animation-duration:([\d.]+)s`).FindStringSubmatch(css)[1])
	appears := map[string]float64{}
	for _, m := range regexp.MustCompile(`@keyframes l(\d+)\{0%\{visibility:hidden\}([\d.]+)%`).
		FindAllStringSubmatch(css, -1) {
		appears[m[1]] = number(m[2])
	}
	scroll := regexp.MustCompile(`@keyframes s\{(.*)\}\n`).FindStringSubmatch(css)[1]
	for _, m := range regexp.MustCompile(`([\d.]+)%\{transform:translateY\((-?[\d.]+)px\)\}`).
		FindAllStringSubmatch(scroll, -1) {
		p.scroll = append(p.scroll, [2]float64{number(m[1]), -number(m[2]) / lineHeight})
	}
	group := ""
	for d := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		token, err := d.Token()
		if token == nil {
			return p
		}
		must(t, err)
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attr := map[string]string{}
		for _, a := range start.Attr {
			attr[a.Name.Local] = a.Value
		}
		if name, found := strings.CutPrefix(attr["style"], "animation-name:l"); found {
			group = name
		}
		if start.Name.Local == "text" && attr["class"] != "t" {
			row := int((number(attr["y"])+4)/lineHeight) - 1
			p.lines = append(p.lines, drawnLine{row, number(attr["x"]), appears[group], content(t, d)})
		}
	}
}

// content is the text of an element, and of those in it.
func content(t *testing.T, d *xml.Decoder) (text string) {
	for depth := 1; depth > 0; {
		token, err := d.Token()
		must(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			text += string(token)
		}
	}
	return text
}

// frame is what is in the window at a moment.
func (p *picture) frame(at float64, height int) []string {
	percent, top, last := 100*at/p.length, 0, -1
	for _, s := range p.scroll {
		if s[0] <= percent {
			top = int(s[1])
		}
	}
	texts := map[int]string{}
	for _, l := range p.lines { // the parts of a row stand in their order
		if l.from <= percent {
			texts[l.row] += l.text
			last = max(last, l.row)
		}
	}
	var all []string
	for row := top; row <= last && row < top+height; row++ {
		all = append(all, texts[row])
	}
	return all
}

func TestWhatCannotBeDrawnIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a\x1b[2Kb": "is none that is drawn", "50 %\r60 %": "is none that is drawn",
		"\x1b[35mmagenta\x1b[0m": "no look for the codes 35", "": "nothing was shown",
	} {
		r := recording{Version: 2, Width: 20, Height: 5, shown: []shown{{0.1, text}}}
		if _, err := r.draw(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is drawn: %v, and not %s", text, err, want)
		}
	}
}

func TestAProgramIsRecordedWithItsTimes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.cast")
	script := `stty size; printf '\033[1mbold\033[0m\n'; sleep 0.2; echo two`
	must(t, record(file, "a title", []string{"sh", "-c", script}))
	data, err := os.ReadFile(file)
	must(t, err)
	r, err := read(data)
	must(t, err)
	var text string
	for _, s := range r.shown {
		text += s.text
	}
	if want := "30 100\r\n\x1b[1mbold\x1b[0m\r\ntwo\r\n"; text != want || r.Width != columns || r.Height != rows {
		t.Errorf("recorded is %q at %d by %d, and not %q", text, r.Width, r.Height, want)
	}
	if last := r.shown[len(r.shown)-1].at; last < 0.2 {
		t.Errorf("the last line comes after %.3f s", last)
	}
	if err := record(file+"2", "a title", []string{"false"}); err == nil {
		t.Error("a program that fails is recorded")
	}
	if _, err := os.Stat(file + "2"); err == nil {
		t.Error("a program that fails leaves a recording")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
