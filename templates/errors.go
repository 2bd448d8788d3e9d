package templates

import (
	"fmt"
	"strings"
)

// InvalidError is one thing that is wrong with kubeadm's configuration, or with what was
// given along with it.
type InvalidError struct {
	Kind string // of the document; "" if it concerns none
	// Of the file, from 1; 0 if it concerns no line: a default, a flag, the
	// cluster's own configuration.
	Line       int
	Field      string // "etcd.local.dataDir"; "" if it concerns none
	Reason     string
	Suggestion string // may be ""
}

func (e *InvalidError) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	for _, s := range []string{e.Kind, e.Field} {
		if s != "" {
			b.WriteString(s + ": ")
		}
	}
	return b.String() + e.Reason
}

// Hint says what to do.
func (e *InvalidError) Hint() string { return e.Suggestion }
