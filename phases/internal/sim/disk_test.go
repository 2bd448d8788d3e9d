package sim

import (
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// A file's durable contents, and a clone's, share bytes with the file that is still written to.
func TestSharedBytesAreNotOverwritten(t *testing.T) {
	d := NewDisk()
	do := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	is := func(what string, d *Disk, want string) {
		t.Helper()
		if got := string(d.Peek("/f")); got != want {
			t.Errorf("%s: %q instead of %q", what, got, want)
		}
	}
	do(d.Create("/f", []byte("first "), node.Attr{}), d.Append("/f", []byte("line")), d.Sync("/f"), d.Sync("/"))
	before := d.clone()
	do(d.Append("/f", []byte(" more")), d.Truncate("/f", 6), d.Append("/f", []byte("word and much more")))
	after := d.clone()
	do(after.Append("/f", []byte(" there")), d.Append("/f", []byte(" here")), before.Append("/f", []byte(" elsewhere")))
	is("written on", d, "first word and much more here")
	is("cloned at the end", after, "first word and much more there")
	is("cloned at the beginning", before, "first line elsewhere")
	for _, lost := range []*Disk{d, after, before} {
		lost.PowerLoss(DropUnsynced, nil)
		is("after a power loss", lost, "first line")
	}
	do(d.Append("/f", []byte(" again")))
	is("written on after that", d, "first line again")
	is("the other one", after, "first line")
}
