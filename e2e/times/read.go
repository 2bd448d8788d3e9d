package main

import (
	"bufio"
	"errors"
	"io"
	"regexp"
	"strings"
	"time"
)

// A timing is a package or a test.
type timing struct {
	Name   string
	Took   time.Duration
	Remark string // how it ended, unless well, or where its time is not one that it took now
	Tests  []timing
}

var (
	packageLine = regexp.MustCompile(`^(ok  |FAIL)\t(\S+)[\t ](\(cached\)|\[[^\]]+\]|[0-9.]+s)`)
	testLine    = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+) \(([^)]+)\)$`)
	runLine     = regexp.MustCompile(`^=== RUN\s+([^\s/]+)$`)
	runningLine = regexp.MustCompile(`^\t\t([^\s/]+) \(([^)]+)\)$`)
)

// read takes the packages, with their tests, out of a log. go test writes package after package,
// each ending with a line of its own; subtests are part of their test. A test that began, and whose
// package ended without it, ended with the process: what the log says of its time then is what a
// test that was too slow leaves behind.
func read(log io.Reader) ([]timing, error) {
	var packages []timing
	var tests []timing
	var running []string
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if found := runLine.FindStringSubmatch(line); found != nil {
			running = append(running, found[1])
		} else if found := testLine.FindStringSubmatch(line); found != nil {
			tests = put(tests, timing{Name: found[2], Took: duration(found[3]), Remark: remark(found[1])})
		} else if found := runningLine.FindStringSubmatch(line); found != nil {
			tests = put(tests, timing{Name: found[1], Took: duration(found[2]), Remark: "did not end"})
		} else if p, ok := ended(line); ok {
			for _, name := range running {
				if find(tests, name) < 0 {
					tests = append(tests, timing{Name: name, Remark: "did not end"})
				}
			}
			p.Tests = tests
			packages = append(packages, p)
			tests, running = nil, nil
		}
		if errors.Is(err, io.EOF) {
			return packages, nil
		}
		if err != nil {
			return packages, err
		}
	}
}

// ended reads the line that ends a package. Packages without tests are none.
func ended(line string) (timing, bool) {
	found := packageLine.FindStringSubmatch(line)
	if found == nil {
		return timing{}, false
	}
	p := timing{Name: found[2]}
	switch {
	case strings.HasPrefix(found[3], "["):
		p.Remark = strings.Trim(found[3], "[]") // the build, or what comes before it, failed
	case found[3] == "(cached)":
		p.Remark = "cached"
	default:
		p.Took = duration(found[3])
		if found[1] == "FAIL" {
			p.Remark = "failed"
		}
	}
	return p, true
}

func remark(result string) string {
	return map[string]string{"FAIL": "failed", "SKIP": "skipped"}[result]
}

func duration(text string) time.Duration {
	d, _ := time.ParseDuration(text) // what is none took none
	return d
}

func find(all []timing, name string) int {
	for i, t := range all {
		if t.Name == name {
			return i
		}
	}
	return -1
}

// put adds a test, or what is known of it later.
func put(all []timing, t timing) []timing {
	if i := find(all, t.Name); i >= 0 {
		all[i] = t
		return all
	}
	return append(all, t)
}
