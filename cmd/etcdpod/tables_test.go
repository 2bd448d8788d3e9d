package main

import (
	"strings"
	"testing"
)

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

// A terminal breaks what is too wide for it anywhere; what is written breaks at spaces.
func TestATableThatIsTooWideForATerminalIsWrittenAsParagraphs(t *testing.T) {
	rows := [][]string{{"CERTIFICATE", "EXPIRES", "NOTE"}, {"etcd-server", "Nov 29, 2027 17:09 UTC", "-"},
		{"etcd-peer", "Nov 29, 2027 17:09 UTC", "of another CA than the others have"}, {"short"}}
	for width, want := range map[int]string{
		0: "CERTIFICATE  EXPIRES                 NOTE\n" +
			"etcd-server  Nov 29, 2027 17:09 UTC  -\n" +
			"etcd-peer    Nov 29, 2027 17:09 UTC  of another CA than the others have\nshort\n",
		40: "etcd-server\n  expires  Nov 29, 2027 17:09 UTC\n\netcd-peer\n  expires  Nov 29, 2027 17:09 UTC\n" +
			"  note     of another CA than the others\n           have\n\nshort\n",
	} {
		w := &page{width: width}
		if table(w, rows); w.String() != want {
			t.Errorf("%d columns:\n%s", width, w.String())
		}
	}
}

func TestWhatIsSaidBesideANameStaysBesideIt(t *testing.T) {
	w := &page{width: 30}
	pairs(w, [][]string{{"kubelet", "running"}, {"database", "88.0 KiB, 88.0 KiB of it in use"}})
	behind(w, "  ! ", "there is no backup of this node")
	want := "kubelet   running\ndatabase  88.0 KiB, 88.0 KiB\n          of it in use\n" +
		"  ! there is no backup of this\n    node\n"
	if w.String() != want {
		t.Errorf("it says\n%s", w.String())
	}
	w = &page{}
	if behind(w, "Next: ", strings.Repeat("far ", 50)); strings.Count(w.String(), "\n") != 1 {
		t.Errorf("no terminal has an end, and it says\n%s", w.String())
	}
}
