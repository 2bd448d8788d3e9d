package main

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// What is shown may come from somebody else: names of files and members, a backup's description,
// what another node says. None of it may move the cursor, change colours or add a line.

// visible writes what would not be seen as text as Go would write it: a line break is \n.
func visible(text string) string { return shown(text, false) }

// visibleLines is visible for text of several lines.
func visibleLines(text string) string { return shown(text, true) }

func shown(text string, lines bool) string {
	if strings.IndexFunc(text, hidden) < 0 {
		return text
	}
	var b strings.Builder
	for i, width := 0, 0; i < len(text); i += width {
		var r rune
		r, width = utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && width == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case hidden(r) && (r != '\n' || !lines):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hidden says whether a terminal does something else with a rune than to show it: controls, those
// that turn the direction of writing, and separators of lines. RuneError may be a byte that is no
// text at all.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == utf8.RuneError
}

// visibleIn makes all text in a value visible, as far as it can be changed: through pointers, and
// in lists and maps.
func visibleIn(value any) { clean(reflect.ValueOf(value)) }

func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		clean(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				clean(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			clean(v.Index(i))
		}
	case reflect.Map:
		cleanMap(v)
	case reflect.String:
		if v.CanSet() {
			v.SetString(visible(v.String()))
		}
	}
}

// cleanMap replaces the entries, which cannot be changed in place.
func cleanMap(v reflect.Value) {
	for _, key := range v.MapKeys() {
		is := v.MapIndex(key)
		value, name := reflect.New(is.Type()).Elem(), reflect.New(key.Type()).Elem()
		value.Set(is)
		name.Set(key)
		clean(value)
		clean(name)
		v.SetMapIndex(key, reflect.Value{})
		v.SetMapIndex(name, value)
	}
}

// visibleDisplay shows events whose text is visible. A message may have several lines, which a
// display joins.
type visibleDisplay struct{ display }

func (d visibleDisplay) event(e engine.Event) {
	for _, text := range []*string{&e.Run, &e.Node, &e.Phase, &e.Operation} {
		*text = visible(*text)
	}
	e.Message, e.Error = visibleLines(e.Message), visibleLines(e.Error)
	d.display.event(e)
}

// visibleJSON writes JSON in which nothing is hidden. The encoder escapes the controls of ASCII;
// all others are in strings, too, where an escape means the same.
type visibleJSON struct{ to io.Writer }

func (w visibleJSON) Write(text []byte) (int, error) {
	if bytes.IndexFunc(text, escaped) < 0 {
		return w.to.Write(text)
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if escaped(r) {
			if r > 0xffff {
				r = unicode.ReplacementChar
			}
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	if _, err := w.to.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(text), nil
}

func escaped(r rune) bool { return hidden(r) && r != '\n' && r != utf8.RuneError }
