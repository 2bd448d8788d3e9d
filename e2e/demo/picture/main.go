// Command picture records what a program shows on a terminal, and draws it as a picture that plays.
//
//	picture record docs/demo.cast 'make demo' bin/demo/demo -pause
//	picture render docs/demo.cast docs/demo.svg
//
// A recording is an asciicast of version 2, as asciinema makes and plays them. What is drawn is in
// the recording, and nothing else: whoever wants another picture records again.
package main

import (
	"fmt"
	"os"
)

func main() {
	err := fmt.Errorf("usage: picture record CAST TITLE PROGRAM [ARG...]\n       picture render CAST SVG")
	switch args := os.Args[1:]; {
	case len(args) > 3 && args[0] == "record":
		err = record(args[1], args[2], args[3:])
	case len(args) == 3 && args[0] == "render":
		err = render(args[1], args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func render(cast, svg string) error {
	data, err := os.ReadFile(cast)
	if err != nil {
		return err
	}
	r, err := read(data)
	if err != nil {
		return fmt.Errorf("%s: %w", cast, err)
	}
	drawn, err := r.draw()
	if err != nil {
		return fmt.Errorf("cannot draw %s: %w", cast, err)
	}
	return os.WriteFile(svg, drawn, 0o644)
}
