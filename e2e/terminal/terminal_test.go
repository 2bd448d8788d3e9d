package terminal

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestACtrlCThrowsNothingAwayThatWasNotReadYet(t *testing.T) {
	person, tty, err := open(80)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = person.Close() }()
	screen := strings.Repeat("x", 9999) // more than the kernel has ready for who reads
	_, shown := io.WriteString(tty, screen)
	_, typed := io.WriteString(person, Interrupt+"and a line\n")
	line, err := bufio.NewReader(tty).ReadString('\n') // it comes after Ctrl-C, which did its work
	if err := errors.Join(shown, typed, err, tty.Close()); err != nil || line != "and a line\n" {
		t.Fatalf("%v, typed %q", err, line)
	}
	read, _ := io.ReadAll(person) // EIO, since nobody has the other end any more
	if got := strings.Count(string(read), "x"); got != len(screen) {
		t.Errorf("of %d characters %d were read", len(screen), got)
	}
}
