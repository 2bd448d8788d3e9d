package main

import (
	"regexp"
	"strings"
)

var (
	linkDefinition = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:`)
	fence          = regexp.MustCompile("^\\s*(?:[-*+>] )*(```+|~~~+)")
)

// markdown finds the lines of a page that are too wide. Left out is what cannot be wrapped: blocks
// of code, tables, headings, definitions of links, and lines of one word.
func markdown(text string) ([]finding, error) {
	var all []finding
	block, indented, blank := "", false, true
	for i, line := range strings.Split(text, "\n") {
		if mark := fence.FindStringSubmatch(line); mark != nil {
			switch {
			case block == "":
				block = mark[1]
			case strings.HasPrefix(mark[1], block):
				block = ""
			}
			continue
		}
		if block != "" {
			continue
		}
		trimmed := strings.TrimSpace(line)
		deep := strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "\t")
		// Four spaces behind an empty line are code, unless the line is a
		// list's, which none here is.
		indented = deep && (indented || blank) || trimmed == "" && indented
		blank = trimmed == ""
		if indented || strings.HasPrefix(trimmed, "|") || strings.HasPrefix(line, "#") ||
			linkDefinition.MatchString(line) || !breakable(line) {
			continue
		}
		if width := columns(line); width > textLimit {
			all = append(all, finding{Line: i + 1, Width: width, Limit: textLimit})
		}
	}
	return all, nil
}
