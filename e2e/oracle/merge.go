package oracle

import (
	"maps"
	"slices"
	"strings"
)

// The texts that versions make of one configuration differ by a line or two. They are kept as one:
// each line after the minors of the versions that have it, and after none where all have it.
//
//	    |    - --data-dir=/var/lib/etcd
//	45  |    - --experimental-initial-corrupt-check=true
const margin = "|"

type mergedLine struct {
	text string
	of   []bool // by version
}

// ofAll makes one text of those of several versions. Each must be empty, or end with a newline.
func ofAll(texts, versions []string) string {
	var merged []mergedLine
	for i, text := range texts {
		merged = mergeOne(merged, slices.Collect(strings.Lines(text)), i, len(texts))
	}
	var b strings.Builder
	for _, l := range merged {
		marks := ""
		if slices.Contains(l.of, false) {
			for i, has := range l.of {
				if has {
					marks += mark(versions[i])
				}
			}
		}
		b.WriteString(marks + strings.Repeat(" ", len(versions)-len(marks)) + margin + l.text)
	}
	return b.String()
}

// mergeOne puts the lines of one more version, the i-th of n, into the text of those before it:
// along the longest common subsequence.
func mergeOne(merged []mergedLine, lines []string, i, n int) []mergedLine {
	longest := make([][]int, len(merged)+1) // of merged[a:] and lines[b:]
	longest[len(merged)] = make([]int, len(lines)+1)
	for a := len(merged) - 1; a >= 0; a-- {
		longest[a] = make([]int, len(lines)+1)
		for b := len(lines) - 1; b >= 0; b-- {
			if merged[a].text == lines[b] {
				longest[a][b] = longest[a+1][b+1] + 1
			} else {
				longest[a][b] = max(longest[a+1][b], longest[a][b+1])
			}
		}
	}
	var all []mergedLine
	for a, b := 0, 0; a < len(merged) || b < len(lines); {
		switch {
		case a < len(merged) && b < len(lines) && merged[a].text == lines[b]:
			merged[a].of[i] = true
			all = append(all, merged[a])
			a, b = a+1, b+1
		case b == len(lines) || a < len(merged) && longest[a+1][b] >= longest[a][b+1]:
			all = append(all, merged[a])
			a++
		default:
			l := mergedLine{text: lines[b], of: make([]bool, n)}
			l.of[i] = true
			all = append(all, l)
			b++
		}
	}
	return all
}

// ofOne is the text of the i-th of some versions.
func ofOne(text string, i int, versions []string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		marks, rest, _ := strings.Cut(line, margin)
		if marks = strings.TrimSpace(marks); marks == "" || strings.Contains(marks, mark(versions[i])) {
			b.WriteString(rest)
		}
	}
	return b.String()
}

// mark is the last digit of a version's minor: 1.34.4 is 4.
func mark(version string) string {
	minor := strings.Split(version, ".")[1]
	return minor[len(minor)-1:]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
