// Command first compiles what `make demo` needs, in one go, and says how far it is. It imports the
// standard library alone, so that it runs seconds after it was asked for, on a machine on which
// nothing is compiled yet.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	dir := flag.String("o", "", "the directory for the programs")
	ldflags := flag.String("ldflags", "", "what to tell the linker")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	info, err := os.Stderr.Stat()
	p := &progress{to: os.Stderr, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, begun: time.Now()}
	if err := p.build(ctx, *dir, *ldflags, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// build lists what there is to compile, and compiles it. The flags are those of `make build`: with
// others, Go would compile everything once more.
func (p *progress) build(ctx context.Context, dir, ldflags string, packages []string) error {
	list, err := p.run(ctx, append([]string{"list", "-deps"}, packages...), p.downloads)
	if err != nil {
		return err
	}
	p.packages = strings.Count(list, "\n")
	args := append([]string{"build", "-v", "-trimpath", "-ldflags", ldflags, "-o", dir}, packages...)
	if _, err := p.run(ctx, args, p.compiles); err != nil {
		return err
	}
	p.end()
	return nil
}

// run runs go, and hands over what it says on standard error, line by line. It returns what go
// writes to standard output.
func (p *progress) run(ctx context.Context, args []string, says func(line string) bool) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	var out, wrong strings.Builder
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if !says(lines.Text()) {
			fmt.Fprintln(&wrong, lines.Text())
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, wrong.String())
	}
	return out.String(), nil
}

// progress is one line on a terminal, written again and again, and elsewhere a line now and then.
type progress struct {
	to                        io.Writer
	terminal                  bool
	begun, said               time.Time
	modules, packages, number int
}

// between is the time between two lines where there is no terminal.
const between = 10 * time.Second

// downloads takes what go says of a module that it fetches.
func (p *progress) downloads(line string) bool {
	if !strings.HasPrefix(line, "go: downloading ") {
		return false
	}
	p.modules++
	p.say(fmt.Sprintf("fetching modules: %d", p.modules))
	return true
}

// compiles takes the name of a package that go begins to compile.
func (p *progress) compiles(line string) bool {
	if strings.ContainsAny(line, " :") || strings.HasPrefix(line, "#") {
		return p.downloads(line)
	}
	p.number++
	p.say(fmt.Sprintf("compiling: package %d of %d", p.number, p.packages))
	return true
}

func (p *progress) say(text string) {
	switch passed := time.Since(p.begun).Round(time.Second); {
	case p.terminal:
		fmt.Fprintf(p.to, "\r\x1b[K%s, %s", text, passed)
	case time.Since(p.said) >= between:
		fmt.Fprintf(p.to, "%s, %s\n", text, passed)
		p.said = time.Now()
	}
}

// end says what it was, if it was something.
func (p *progress) end() {
	if p.terminal && p.modules+p.number > 0 {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	if p.number > 0 {
		fmt.Fprintf(p.to, "compiled %d packages in %s\n", p.number, time.Since(p.begun).Round(time.Second))
	}
}
