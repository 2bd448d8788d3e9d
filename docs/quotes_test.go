package docs_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Whoever reads a table with the column "it says" looks for the words on the screen: they are those
// of a message, with … for what varies.
func TestWhatThePagesQuoteIsWhatEtcdpodSays(t *testing.T) {
	messages, err := os.ReadFile("messages.txt")
	must(t, err)
	found := 0
	for name, page := range pages(t) {
		for _, quote := range quoted(page) {
			found++
			if !said(string(messages), quote) {
				t.Errorf("%s quotes %q, which no message says", name, quote)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d quotes were found on the pages", found)
	}
}

func TestAQuoteThatNoMessageSaysIsFound(t *testing.T) {
	page := "| code | it says | do |\n|---|---|---|\n| 5 | `no room in …`, or `… is full`, `exited` | `rm -rf it` |\n" +
		"\n| says | do |\n|---|---|\n| `not a quote` | nothing |\n"
	quotes := quoted(page)
	if want := []string{"no room in …", "… is full"}; !slices.Equal(quotes, want) {
		t.Fatalf("quoted are %q", quotes)
	}
	const messages = "error       there is no room in %s: %v\ntext        full is %s\n"
	if !said(messages, quotes[0]) || said(messages, quotes[1]) {
		t.Error("what is said is not told from what is not")
	}
}

// quoted are the sentences in the columns "it says" of a page's tables.
func quoted(page string) (all []string) {
	column := -1
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "|") {
			column = -1
			continue
		}
		cells := strings.Split(line, "|")
		if n := slices.IndexFunc(cells, func(c string) bool { return strings.TrimSpace(c) == "it says" }); n >= 0 {
			column = n
			continue
		}
		if column < 0 || column >= len(cells) {
			continue
		}
		for _, span := range codeSpan.FindAllString(cells[column], -1) {
			if strings.Contains(span, " ") {
				all = append(all, strings.Trim(span, "`"))
			}
		}
	}
	return all
}

// said tells whether one message has all parts of a quote, in this order.
func said(messages, quote string) bool {
	parts := strings.Split(quote, "…")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(strings.TrimSpace(part))
	}
	return regexp.MustCompile(strings.Join(parts, ".*")).MatchString(messages)
}
