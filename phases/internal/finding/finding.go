// Package finding is the catalogue of what can be wrong: each has a code, by which programs know
// it, a severity, and what to do about it.
package finding

import (
	"fmt"
	"slices"
	"strings"
)

// Code names one kind of finding. A code that was ever published keeps its meaning.
type Code string

// Severity says how urgent a finding is.
type Severity string

// The severities.
const (
	// Critical: something does not serve, or data is lost or may be lost by the next failure.
	Critical Severity = "critical"
	// Warning: it works now, and somebody should look at it.
	Warning Severity = "warning"
	// Info: nothing is wrong now; it is so by how the node was set up.
	Info Severity = "info"
)

// Finding is one thing that is wrong. The JSON names are stable.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Node     string   `json:"node,omitempty"`    // empty: it is between several nodes, or on none
	Subject  string   `json:"subject,omitempty"` // the file, member, address or flag
	Text     string   `json:"text"`              // for people: it may change
}

// New makes a finding, on one line.
func New(code Code, subject, format string, args ...any) Finding {
	text := strings.FieldsFunc(fmt.Sprintf(format, args...), func(r rune) bool { return r == '\n' || r == '\r' })
	return Finding{Code: code, Severity: severityOf(code), Subject: subject, Text: strings.Join(text, "; ")}
}

func severityOf(code Code) Severity {
	for _, k := range Kinds() {
		if k.Code == code {
			return k.Severity
		}
	}
	return Warning
}

// On returns findings as those of a node, as far as they name none.
func On(node string, all []Finding) []Finding {
	named := slices.Clone(all)
	for i := range named {
		if named[i].Node == "" {
			named[i].Node = node
		}
	}
	return named
}

// Texts are the sentences of findings. It is never nil.
func Texts(all []Finding) []string {
	texts := []string{}
	for _, f := range all {
		texts = append(texts, f.Text)
	}
	return texts
}
