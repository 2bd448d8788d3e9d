package main

import "testing"

func TestACommandStaysInOnePieceAndBeginsALineRatherThanRunOverItsEnd(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"type `etcdpod resume` to finish", "hint: type\n  `etcdpod resume`\n  to finish\n"},
		{"`a` is shorter", "hint: `a` is\n  shorter\n"},
		{"`etcdpod resume --skip-phases x` at once", "hint: `etcdpod resume --skip-phases x`\n  at once\n"},
		{"see `etcdpod resume --skip-phases x`.", "hint: see\n  `etcdpod resume --skip-phases x`.\n"},
		{"a quote ` that never ends", "hint: a quote\n  ` that never ends\n"},
	} {
		if got := wrapped("hint: ", tt.text, 2, 18); got != tt.want {
			t.Errorf("%q becomes\n%s", tt.text, got)
		}
	}
}
