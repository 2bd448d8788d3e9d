package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
)

func TestTheOrderOfFlagsAndArgumentsIsFree(t *testing.T) {
	for _, tt := range []struct{ name, typed, want string }{
		{"flags before the argument", "restore --data-dir /new --yes f", "--yes=true restore --data-dir=/new -- f"},
		{"flags behind the argument", "restore f --data-dir /new --yes", "--yes=true restore --data-dir=/new -- f"},
		{"global flags before the command", "--root /r -o json runs", "--root=/r --output=json runs --"},
		{"global flags behind the command", "runs -o json --root=/r", "--output=json --root=/r runs --"},
		{"one dash is as good as two", "-root /r runs -verbose", "--root=/r --verbose=true runs --"},
		{"a value may look like a flag", "restore --data-dir --yes f", "restore --data-dir=--yes -- f"},
		{"a value may be empty", "runs --root=", "--root= runs --"},
		{"a value may hold an equals sign", "runs --kubelet-stop-command a=b", "--kubelet-stop-command=a=b runs --"},
		{"a flag that needs no value takes none", "restore --yes f", "--yes=true restore -- f"},
		{"but may be given one", "restore --yes=false f", "--yes=false restore -- f"},
		{"two dashes end the flags", "verify -- --quick", "verify -- --quick"},
		{"one dash is an argument", "verify -", "verify -- -"},
		{"the last of two wins, as they stay in order", "--root /a runs --root /b", "--root=/a --root=/b runs --"},
		{"--version is the command", "--version -o json", "--output=json version --"},
		{"a command of two words, with flags before, between and behind",
			"--root /r certs -o json check --verbose", "--root=/r --output=json --verbose=true certs check --"},
		{"by its other name", "certs check-expiration", "certs check --"},
		{"help takes both words", "help certs check", "help -- certs check"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &session{}
			l, err := arrange(s.app(), strings.Split(tt.typed, " "), func(string) string { return "" })
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(l.argv()[1:], " "); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.typed, got, tt.want)
			}
		})
	}
}

func TestACommandOfTwoWordsWantsBoth(t *testing.T) {
	for typed, why := range map[string]string{
		"certs": "certs needs one of: check, check-expiration", "certs chek": `unknown command "certs chek"`,
		"certs check now": `unexpected argument "now"`,
		"certs -o json":   "certs needs one of", "check": `unknown command "check"`,
		"runs check":        `unexpected argument "check"`,
		"member remove cp3": `unknown command "member remove"`, "members remove cp3": `unexpected argument "remove"`,
	} {
		s := &session{}
		if _, err := arrange(s.app(), strings.Split(typed, " "), func(string) string { return "" }); err == nil ||
			!strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", typed, err)
		}
	}
	app := (&session{}).app()
	for typed, want := range map[string]string{
		"certs ":           "check\t",
		"certs c":          "check\t",
		"help certs ":      "check\t",
		"apise":            "apiserver\tone of: s",
		"init ph":          "phase\tone of: ",
		"cer":              "certs\tone of: check, ",
		"certs check --ou": "--output\t",
	} {
		got := complete(app, strings.Split(typed, " "), nil)
		if len(got) == 0 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%q is completed by %q", typed, got)
		}
	}
}

func TestVariablesStandForFlagsThatAreNotTyped(t *testing.T) {
	env := map[string]string{
		"ETCDPOD_ROOT": "/env", "ETCDPOD_BACKUP_DIR": "/backups", "ETCDPOD_QUICK": "true",
		"ETCDPOD_YES": "true", "ETCDPOD_DRY_RUN": "true", "ETCDPOD_KEEP": "1", "ETCDPOD_CACERT": "",
	}
	for _, tt := range []struct{ name, typed, want string }{
		{"of the command and global ones", "backup", "--root=/env backup --dir=/backups --"},
		{"what is typed wins", "backup --dir /d --root /r", "--root=/r backup --dir=/d --"},
		{"those of another command do not count", "runs", "--root=/env runs --"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &session{}
			l, err := arrange(s.app(), strings.Split(tt.typed, " "), func(name string) string { return env[name] })
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(l.argv()[1:], " "); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.typed, got, tt.want)
			}
		})
	}
}

func TestASlipOfTheFingerIsRecognized(t *testing.T) {
	names := []string{"restore", "resume", "runs", "rollback"}
	for typed, want := range map[string]string{
		"restor":  "restore",
		"resotre": "restore",
		"rusn":    "runs",
		"run":     "runs",
		"delete":  "",
		"x":       "",
		"rums":    "runs",
		"rnsu":    "",
	} {
		if got := nearest(typed, names); got != want {
			t.Errorf("%q: got %q, want %q", typed, got, want)
		}
	}
}

// A person copies the example, and changes what differs.
func TestEveryCommandHasAnExampleThatIsRight(t *testing.T) {
	app := (&session{}).app()
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		for _, example := range strings.Split(c.UsageText, "\n") {
			typed, own := strings.CutPrefix(example, "etcdpod ")
			typed, _, _ = strings.Cut(typed, " > ") // of the shell
			l, err := arrange(app, strings.Fields(typed), func(string) string { return "" })
			if !own || err != nil || l.command != c {
				t.Errorf("%s: the example %q: %v", c.Name, example, err)
			}
		}
	}
}

func TestWhatMembersIsAskedForIsNamed(t *testing.T) {
	for typed, want := range map[string]string{
		"member remove cp3": "etcdpod remove", "members remove cp3": "etcdpod remove",
		"members list": "etcdpod members", "members add cp4": "etcdpod join",
		"members update cp3": "set-peer-url", "set-peer-url cp3": "set-peer-url",
	} {
		_, err := arrange((&session{}).app(), strings.Split(typed, " "), func(string) string { return "" })
		if err == nil || !strings.Contains(engine.Hint(err), want) {
			t.Errorf("%s: %v, hint %q", typed, err, engine.Hint(err))
		}
	}
}

func TestNoHabitHidesACommand(t *testing.T) {
	app := (&session{}).app()
	for words, hint := range habits() {
		last := words[strings.LastIndex(words, " ")+1:]
		if strings.Contains(hint, "does not do that") && commandNamed(app, last) != nil {
			t.Errorf("%s: %q, and there is `etcdpod %s`", words, hint, last)
		}
		// What others' programs are asked for may become a command: then that is what is meant.
		if c := commandNamed(app, words); c != nil {
			l, err := arrange(app, append(strings.Fields(words), "--help"), func(string) string { return "" })
			if l.command != c {
				t.Errorf("%s is a command, and is not found: %v", words, err)
			}
			continue
		}
		for _, quoted := range strings.Split(hint, "`") {
			typed, own := strings.CutPrefix(quoted, "etcdpod ")
			if !own || strings.HasPrefix(typed, "does") {
				continue
			}
			if _, err := arrange(app, strings.Fields(typed), func(string) string { return "" }); err != nil {
				t.Errorf("%s: %q: %v", words, quoted, err)
			}
		}
	}
}

func TestAnEmptyArgumentIsCalledByItsName(t *testing.T) {
	for want, args := range map[string][]string{
		"MEMBER is empty": {"members", "set-peer-url", "", "https://10.0.0.1:2380"},
		"URL is empty":    {"members", "set-peer-url", "cp1", ""},
		"FILE is empty":   {"verify", ""},
		"NAME is empty":   {"certs", "renew", "etcd-peer", ""},
	} {
		_, err := arrange((&session{}).app(), args, func(string) string { return "" })
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// What concerns members is looked for below etcdctl's `member`, and below `members`.
func TestWhatConcernsMembersIsFoundBelowMembers(t *testing.T) {
	app := (&session{}).app()
	for _, c := range app.Commands {
		if c.Category != section(sectionMembers).heading() || strings.Contains(c.Name, " ") || c.Name == "members" {
			continue
		}
		for _, typed := range []string{"member " + c.Name, "members " + c.Name, "members " + c.Name + " cp3"} {
			_, err := arrange(app, strings.Fields(typed), func(string) string { return "" })
			if err == nil || !strings.Contains(engine.Hint(err), "run `etcdpod "+c.Name) {
				t.Errorf("%s: %v, hint %q", typed, err, engine.Hint(err))
			}
		}
	}
}

func TestValuesAreCompletedFromWhatTheNodeHas(t *testing.T) {
	app := (&session{}).app()
	has := func(command, what string) []string {
		if what == "MEMBER" {
			return []string{"cp1", "cp2"}
		}
		return map[string][]string{
			"runs show argument": {"20260801T020000Z-restore-ab12", "20260701T020000Z-renew-cd34"},
			"restore --nodes":    {"cp1", "cp2", "cp3"}, "status --nodes": {"cp1"},
			"restore --skip-phases": {"await-apiserver"}, "certs renew argument": {"etcd-peer", "etcd-server"},
			"verify argument": {"/b/one.db"},
		}[command+" "+what]
	}
	for typed, want := range map[string]string{
		"runs show 202607":             "20260701T020000Z-renew-cd34",
		"runs sh":                      "show\tshow one run: what was typed, each operation with its time, what failed",
		"runs show one t":              "",
		"restore --nodes cp":           "cp1 cp2 cp3",
		"restore --nodes cp1,cp2,":     "cp1,cp2,cp3",
		"restore --nodes=cp3,cp":       "--nodes=cp3,cp1 --nodes=cp3,cp2",
		"status --nodes = c":           "cp1",
		"restore f --skip-phases ":     "await-apiserver",
		"certs renew etcd-peer etcd-s": "etcd-server",
		"verify /b/":                   "/b/one.db",
		"verify ./":                    "",
		"verify --quick x ":            "",
		"prune --older-than ":          "",
	} {
		if got := strings.Join(complete(app, strings.Split(typed, " "), has), " "); got != want {
			t.Errorf("%q is completed by %q, not %q", typed, got, want)
		}
	}
	for _, c := range app.Commands {
		if got := complete(app, append(strings.Fields(c.Name), ""), has); strings.Contains(c.ArgsUsage, "MEMBER") &&
			!slices.Contains(got, "cp2") {
			t.Errorf("the member of %s is completed by %q", c.Name, got)
		}
	}
}

func TestTheHelpOfACommandNamesThoseThatHaveMoreWords(t *testing.T) {
	app := (&session{}).app()
	for name, more := range map[string]string{"members": "members move-leader", "runs": "runs show [RUN]",
		"init": "init phase certs"} {
		b := page{width: helpColumns}
		writeHelpOf(&b, app, commandNamed(app, name))
		if !strings.Contains(b.String(), "\n  "+more) {
			t.Errorf("the help of %s does not name %q:\n%s", name, more, b.String())
		}
	}
	if hint := habits()["alarm disarm"]; !strings.Contains(hint, "`etcdpod defrag`") {
		t.Errorf("etcdpod disarms NOSPACE, and says %q", hint)
	}
}
