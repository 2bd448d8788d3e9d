package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The kubelet's flags say where its configuration is, and may say what is in it. The running
// kubelet's own command line tells them; without one, its unit, with its drop-ins and environment
// files; without a unit, the environment files that kubeadm's packages would use.

// kubeletFlags are the kubelet's flags, with the paths that name its configuration made absolute.
func kubeletFlags(f Reader, proc string) (map[string]string, error) {
	if flags := runningFlags(f, proc); flags != nil {
		return flags, nil
	}
	words, err := unitCommand(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubelet's unit: %w", err)
	}
	if words != nil {
		return flagValues(words), nil
	}
	return readFlags(f)
}

// pathFlags are those whose values may be relative to the directory that the kubelet was started
// in.
var pathFlags = []string{"config", "config-dir", "pod-manifest-path", "kubeconfig", "bootstrap-kubeconfig"}

// runningFlags are the flags of the kubelet that runs on f's root; nil when none does, when several
// might be meant, or when we may not look.
func runningFlags(f Reader, proc string) map[string]string {
	pid := runningKubelet(f, proc)
	if pid == "" {
		return nil
	}
	flags := flagValues(nulSeparated(filepath.Join(proc, pid, "cmdline")))
	cwd, err := os.Readlink(filepath.Join(proc, pid, "cwd"))
	for _, name := range pathFlags {
		if value := flags[name]; value != "" && !filepath.IsAbs(value) && err == nil {
			flags[name] = filepath.Join(cwd, value)
		}
	}
	return flags
}

// runningKubelet finds a kubelet that has our root and sees our mounts. One that has other mounts
// counts if it is the only one: a service may have mounts of its own.
func runningKubelet(f Reader, proc string) (pid string) {
	root, err := identify(f.Real("/"))
	if err != nil {
		return ""
	}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return ""
	}
	mounts, _ := os.Readlink(filepath.Join(proc, "self/ns/mnt"))
	var near, far []string
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		dir := filepath.Join(proc, entry.Name())
		argv := nulSeparated(filepath.Join(dir, "cmdline"))
		if len(argv) == 0 || filepath.Base(argv[0]) != "kubelet" {
			continue
		}
		if at, err := identify(filepath.Join(dir, "root")); err != nil || at != root {
			continue
		}
		if own, err := os.Readlink(filepath.Join(dir, "ns/mnt")); err == nil && own == mounts {
			near = append(near, entry.Name())
		} else {
			far = append(far, entry.Name())
		}
	}
	switch {
	case len(near) == 1:
		return near[0]
	case len(near) == 0 && len(far) == 1:
		return far[0]
	}
	return ""
}

// unitDirs are where systemd looks for units, the first first (systemd.unit(5)).
func unitDirs() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
		"/usr/lib/systemd/system", "/lib/systemd/system"}
}

const kubeletUnit = "kubelet.service"

// unitCommand is the command line of the kubelet's unit, with its variables filled in; nil when
// there is no unit that starts a kubelet.
func unitCommand(f Reader) ([]string, error) {
	u, err := readUnit(f)
	if err != nil || u.command() == "" {
		return nil, err
	}
	return u.words(f)
}

// readUnit reads the kubelet's unit with its drop-ins; without a unit it has no command.
func readUnit(f Reader) (unit, error) {
	files, err := unitFiles(f)
	if err != nil {
		return unit{}, err
	}
	u := unit{whole: len(files) > 0 && filepath.Base(files[0]) == kubeletUnit}
	for _, file := range files {
		data, err := f.ReadFile(file)
		if err != nil {
			return unit{}, err
		}
		u.read(string(data))
	}
	return u, nil
}

// unitFiles are the unit and its drop-ins, in the order in which they are read: of two of one name
// the one in the earlier directory counts, and drop-ins come in the order of their names.
func unitFiles(f Reader) (files []string, err error) {
	dropins := map[string]string{} // path by name
	for _, dir := range unitDirs() {
		file := filepath.Join(dir, kubeletUnit)
		if regular, err := IsRegular(f, file); err == nil && regular && len(files) == 0 {
			files = append(files, file)
		}
		names, err := f.ReadDir(file + ".d")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, name := range names {
			at := filepath.Join(file+".d", name)
			regular, err := IsRegular(f, at)
			masks := Resolved(f, at) == "/dev/null" // hides those of its name behind it
			if filepath.Ext(name) != ".conf" || !masks && (err != nil || !regular) {
				continue
			}
			if _, known := dropins[name]; !known {
				dropins[name] = at
			}
			if masks && dropins[name] == at {
				dropins[name] = ""
			}
		}
	}
	var names []string
	for name, at := range dropins {
		if at != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		files = append(files, dropins[name])
	}
	return files, nil
}

// unit is what matters here of a service: an empty assignment takes back those before it.
type unit struct {
	commands     []string // of a service other than oneshot, systemd takes one alone
	before       []string // commands that have to succeed before
	environment  []string // NAME=value, quoted as in the unit
	environments []string // files
	oneshot      bool
	elsewhere    bool // its paths are not the host's
	whole        bool // not only its drop-ins were found
}

// command is what is started; empty where nothing is.
func (u *unit) command() string {
	if len(u.commands) == 0 {
		return ""
	}
	return u.commands[len(u.commands)-1]
}

// read takes the assignments of one file. A line that is none is passed over, as by systemd: the
// kubelet's own configuration may lie among the drop-ins.
func (u *unit) read(text string) {
	section := ""
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Service]" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "ExecStart":
			u.commands = assigned(u.commands, value)
		case "ExecStartPre", "ExecCondition":
			u.before = assigned(u.before, value)
		case "Type":
			u.oneshot = value == "oneshot"
		case "RootDirectory", "RootImage":
			u.elsewhere = value != ""
		case "Environment":
			u.environment = assigned(u.environment, value)
		case "EnvironmentFile":
			u.environments = assigned(u.environments, value)
		}
	}
}

func assigned(before []string, value string) []string {
	if value == "" {
		return nil
	}
	return append(before, value)
}

// words are the command's, with the unit's variables filled in.
func (u *unit) words(f Reader) ([]string, error) {
	env := map[string]string{}
	for _, line := range u.environment {
		pairs, err := SplitWords(line)
		if err != nil {
			return nil, fmt.Errorf("its Environment=%s: %w", line, err)
		}
		for _, pair := range pairs {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
	}
	for _, file := range u.environments {
		if err := readEnvironment(f, file, env); err != nil {
			return nil, err
		}
	}
	given, err := SplitWords(strings.TrimLeft(u.command(), execPrefixes))
	if err != nil {
		return nil, fmt.Errorf("its ExecStart=%s: %w", u.command(), err)
	}
	var words []string
	for _, word := range given {
		if name, alone := variableName(word); alone { // becomes words of its own
			more, err := SplitWords(env[name])
			if err != nil {
				return nil, fmt.Errorf("the variable %s: %w", name, err)
			}
			words = append(words, more...)
			continue
		}
		words = append(words, os.Expand(word, func(name string) string {
			if name == "$" { // $$ is a dollar
				return name
			}
			return env[name]
		}))
	}
	return unshelled(words), nil
}

// variableName says whether a word is $NAME alone, without braces.
func variableName(word string) (string, bool) {
	name, ok := strings.CutPrefix(word, "$")
	return name, ok && name != "" && !strings.ContainsAny(name, "{}$-./=")
}

// unshelled splits the script of a shell that starts the kubelet.
func unshelled(words []string) []string {
	if len(words) == 0 || !slices.Contains([]string{"sh", "bash", "dash"}, filepath.Base(words[0])) {
		return words
	}
	var all []string
	for _, word := range words[1:] {
		split, err := SplitWords(word)
		if err != nil {
			split = strings.Fields(word)
		}
		all = append(all, split...)
	}
	return all
}

// readEnvironment adds the variables of an environment file; a name that begins with a dash may be
// missing.
func readEnvironment(f Reader, file string, env map[string]string) error {
	name := strings.TrimPrefix(file, "-")
	data, err := f.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the kubelet does without it, or does not start: see unitFails
	}
	if err != nil {
		return err
	}
	for key, value := range settings(string(data)) {
		words, err := SplitWords(value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		env[key] = strings.Join(words, " ")
	}
	return nil
}

// settings are the variables of a systemd environment file, of each the last value, as it is
// written.
func settings(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			all[key] = value
		}
	}
	return all
}
