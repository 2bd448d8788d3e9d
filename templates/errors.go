package templates

import (
	"fmt"
	"strings"
)

// InvalidError is one thing that is wrong with kubeadm's configuration, or with what
// was given beside it.
type InvalidError struct {
	Kind string // of the document; "" where it is about none
	// Of the file, from 1; 0 where it is about no line of it: a default, a flag,
	// what the cluster keeps.
	Line       int
	Field      string // "etcd.local.dataDir"; "" where it is about none
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
