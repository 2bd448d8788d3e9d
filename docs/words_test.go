package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// A word in bold on docs/words.md is never right. What is code, or what a program writes, is not
// ours to choose here.
func TestNoPageHasAWordThatIsNeverRight(t *testing.T) {
	all := pages(t)
	never := neverRight(all["docs/words.md"])
	if len(never) < 5 {
		t.Fatalf("only %d words are never right: %q", len(never), never)
	}
	delete(all, "docs/words.md")
	messages, err := os.ReadFile("messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	all["docs/messages.txt"] = string(messages)
	delete(all, "CHANGELOG.md") // what was said stays said
	for name, page := range all {
		for _, word := range wordsIn(page, never) {
			t.Errorf("%s has %q: docs/words.md says what to write", name, word)
		}
	}
}

// One thing is written in one way: what etcd's log says is not ours.
func TestAnIDIsWrittenInCapitals(t *testing.T) {
	messages, err := os.ReadFile("messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(messages), "cluster id mismatch", "")
	for _, line := range regexp.MustCompile(`(?m)^.*\bids?\b.*$`).FindAllString(text, -1) {
		t.Errorf("docs/messages.txt writes ID otherwise: %s", line)
	}
}

func TestAWordThatIsNeverRightIsFound(t *testing.T) {
	never := neverRight("| again | once more | **anew**, twice |\n| undo | to end it | **take back** |\n")
	page := "It is made Anew.\nThen you take\nback `anew`.\n\n    make anew\n\n```\nanew\n```\nanewer\n"
	if got := strings.Join(wordsIn(page, never), ", "); got != "anew, take back" {
		t.Errorf("found is %q", got)
	}
}

func neverRight(page string) (words []string) {
	for _, bold := range regexp.MustCompile(`\*\*([^*]+)\*\*`).FindAllStringSubmatch(page, -1) {
		words = append(words, bold[1])
	}
	return words
}

func wordsIn(page string, never []string) (found []string) {
	page = plainSpaces(codeSpan.ReplaceAllString(codeBlock.ReplaceAllString(page, ""), ""))
	for _, word := range never {
		if regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(word) + `\b`).MatchString(page) {
			found = append(found, word)
		}
	}
	return found
}
