// Package systemd reads units as systemd does, as far as etcdpod writes them: systemd.syntax(7),
// and COMMAND LINES in systemd.service(5).
package systemd

import (
	"fmt"
	"strings"
)

// Setting returns the last value of a setting, as it is written; empty: it is not there.
func Setting(unit, name string) (value string) {
	for line := range strings.Lines(unit) {
		if found, is := strings.CutPrefix(line, name+"="); is {
			value = strings.TrimSpace(found)
		}
	}
	return value
}

// Command returns the words that a service runs.
func Command(service string) (words []string, err error) {
	words, err = Words(Setting(service, "ExecStart"))
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "$$", "$")
	}
	if len(words) == 0 && err == nil {
		err = fmt.Errorf("the service runs nothing:\n%s", service)
	}
	return words, err
}

// Words splits a value at spaces, and reads quotes, escapes and doubled percent signs.
func Words(value string) (words []string, err error) {
	var word strings.Builder
	inside, begun := false, false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"':
			inside, begun = !inside, true
		case c == ' ' && !inside:
			end()
		case c == '\\', c == '%':
			i++
			if i == len(value) || c == '%' && value[i] != '%' || c == '\\' && value[i] != '\\' && value[i] != '"' {
				return nil, fmt.Errorf("etcdpod does not write %q", value)
			}
			word.WriteByte(value[i])
			begun = true
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if inside {
		return nil, fmt.Errorf("a quote has no end in %q", value)
	}
	end()
	return words, nil
}
