package op

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// lists is a container runtime that only lists.
type lists struct {
	node.Runtime
	all []node.Container
}

func (l lists) Containers(context.Context) ([]node.Container, error) { return l.all, nil }

func (l lists) LogFile(context.Context, string) (string, error) { return "", nil }

func (l lists) Exit(context.Context, string) (node.Exit, bool, error) { return node.Exit{}, false, nil }

// usage is what etcd prints after an error in its flags.
const usage = "\nUsage:\n\n  etcd [flags]\n    Start an etcd server.\n"

// The logs are those of etcd 3.5 to 3.7 and of kube-apiserver 1.37.
func TestTheLogOfAContainerThatEndedIsReadAndSaid(t *testing.T) {
	etcd := func(level, msg, err string) string {
		return `{"level":"` + level + `","ts":"2026-11-29T08:57:29.05Z","caller":"etcdmain/etcd.go:204","msg":"` + msg +
			`","error":"` + err + `","stacktrace":"go.etcd.io/etcd/server/v3/etcdmain.Main\n\tmain.go:40"}` + "\n"
	}
	for name, tt := range map[string]struct {
		log  string
		want []string
	}{
		"its data was emptied": {etcd("fatal", "discovery failed", "member 8e9e05c52164694d has already been "+
			"bootstrapped"),
			[]string{"was emptied", "etcdpod remove", "etcdpod join"}},
		"its data was emptied, and it was let in": {
			etcd("panic", "tocommit(12) is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or "+
				"lost?", "") +
				"panic: tocommit(12) is out of range\n\ngoroutine 90 [running]:\n", []string{"was emptied"}},
		"its log is damaged": {etcd("fatal", "discovery failed", "walpb: crc mismatch: expected: 61 computed: 36"),
			[]string{"its data cannot be read", "--from-data-dir"}},
		"its db is damaged": {etcd("panic", "failed to open database", "invalid database") +
			"panic: failed to open database\n\ngoroutine 1 [running]:\n" + strings.Repeat("x.y(...)\n", 99),
			[]string{"its data cannot be read", "failed to open database: invalid database"}},
		"its db is older than the log reaches back": {etcd("fatal", "discovery failed",
			"database file (/var/lib/etcd/member/snap/db index 61) does not match with snapshot (index 12600)"),
			[]string{"its data cannot be read"}},
		"a flag": {"flag provided but not defined: -no-such-flag" + usage, []string{"does not know one of its flags " +
			"(flag " +
			"provided but not defined: -no-such-flag)"}},
		"a " +
			"value": {`invalid value "abc" for flag -snapshot-count: parse error` + usage, []string{"cannot use"}},
		"a flag of the API server": {"Error: unknown flag: --no-such\n", []string{"does not know one of its flags"}},
		"an address in use": {etcd("fatal", "discovery failed", "listen tcp 127.0.0.1:2380: bind: address already "+
			"in use"),
			[]string{"another program is listening", "ss -ltnp"}},
		"an address of nobody": {etcd("fatal", "discovery failed",
			"listen tcp 10.0.0.9:2380: bind: cannot assign requested address"), []string{"no interface of this node"}},
		"a certificate that is not there": {etcd("fatal", "listener failed",
			"open /etc/kubernetes/pki/etcd/server.crt: no such file or directory"), []string{"a " +
			"certificate", "certs check"}},
		"a certificate and another's key": {etcd("fatal", "listener failed",
			"tls: private key does not match public key"), []string{"a certificate", "certs check"}},
		"a full disk": {etcd("fatal", "failed to create WAL", "write /var/lib/etcd/member/wal: no space left on "+
			"device"),
			[]string{"its disk is full", "free some space"}},
		"an API server without etcd": {`I1129 08:57:52.0 1 server.go:1] begins` + "\n" +
			`E1129 08:57:52.063323   13408 run.go:72] "command failed" err="context deadline exceeded"` + "\n",
			[]string{"it cannot reach something that it needs", "etcdpod status"}},
		"as etcd writes for a console": {"2026-11-30T03:27:37.281334Z\tinfo\tembed/etcd.go:1\tstarts\n" +
			"2026-11-30T03:27:37.281334Z\tfatal\tetcdmain/etcd.go:183\tdiscovery failed\t" +
			"{\"error\": \"listen tcp 10.250.1.1:2379: bind: cannot assign requested address\"}\n" +
			"go.etcd.io/etcd/server/v3/etcdmain.Main\n" +
			"\tgo.etcd.io/etcd/server/v3@v3.6.16/etcdmain/main.go:40\n", []string{"no interface of this node"}},
		"so, with the name of a logger": {"2026-11-30T03:27:37.222448Z\terror\tbbolt\tbbolt@v1.4.3/db.go:322\t" +
			"Opening bbolt db (d/member/snap/db) failed: invalid database\n",
			[]string{"the last error in its log is: Opening " +
				"bbolt db (d/member/snap/db) failed: invalid database (its data"}},
		"so, and it was told to end": {"2026-11-30T03:27:37.2Z\terror\te.go:1\tit went wrong\n" +
			"2026-11-30T03:27:40.506979Z\tinfo\tosutil/interrupt_unix.go:65\treceived signal; shutting down\t" +
			"{\"signal\": \"terminated\"}\n", nil},
		"as JSON of the API server": {
			`{"ts":1796009248623.7,"caller":"options/a.go:1","msg":"deprecated","v":0}` + "\n" +
				`{"ts":1796009248623.8132,"caller":"cli/run.go:72","msg":"command failed","err":"failed to parse ` +
				`service-account-issuer-key-file: open /x: no such file or directory"}` + "\n",
			[]string{"a file named in its flags is missing (failed to parse service-account-issuer-key-file"}},
		"as JSON of the API server, and no end": {
			`{"ts":1.5,"caller":"a.go:1","msg":"it went wrong","err":"moon"}` + "\n" +
				`{"ts":1.6,"caller":"a.go:1","msg":"tried again","v":2,"err":"sun"}` + "\n",
			[]string{"the last error in its log is: it went wrong: moon"}},
		"something else": {etcd("fatal", "discovery failed", "the moon is full \\u001b"), []string{"it said: " +
			"discovery failed: " +
			"the moon is full"}},
		"an error, and then the end for another reason": {etcd("error", "it went wrong", "x509: unknown authority"),
			[]string{"the last error in its log is: it went wrong: x509: unknown authority (a certificate"}},
		"an error long ago, and then it was told to end": {etcd("error", "it went wrong", "x509: unknown authority") +
			etcd("info", "received signal; shutting down", ""), nil},
		"nothing": {etcd("info", "closed", ""), nil},
	} {
		for _, written := range []func(string) string{
			func(line string) string { return line },
			func(line string) string { return "2026-11-29T08:57:29.05Z stderr F " + line },
			func(line string) string { // by Docker
				text, _ := json.Marshal(line)
				return `{"log":` + string(text) + `,"stream":"stderr","time":"2026-11-29T08:57:29.05Z"}` + "\n"
			},
		} {
			t.Run(name, func(t *testing.T) {
				root := t.TempDir()
				c := node.Container{ID: "1", Name: "etcd", Namespace: "kube-system", Pod: "etcd-cp1", PodUID: "u",
					State: stateExited, Attempt: 2}
				var log strings.Builder
				for line := range strings.Lines(tt.log) {
					log.WriteString(written(line))
				}
				file := filepath.Join(root, usualLog(c))
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755),
					os.WriteFile(file, []byte(log.String()), 0o600)); err != nil {
					t.Fatal(err)
				}
				disk := node.OS(root)
				words := LastWordsOf(disk, usualLog(c)).String()
				for _, want := range tt.want {
					if !strings.Contains(words, want) || strings.Contains(words, "\x1b") {
						t.Errorf("%q, and not %q", words, want)
					}
				}
				if tt.want == nil && words != "" {
					t.Errorf("%q", words)
				}
				target := &Target{Host: &node.Host{FS: disk, Runtime: lists{all: []node.Container{c}}}}
				crashes, err := Watched{}.watch(t.Context(), target, "etcd")
				crashes.earlier = true
				failed := crashes.explain(t.Context(), target, errors.Join(err, errors.New("etcd does not serve")))
				if has := strings.Contains(failed.Error(), "its container ended"); has != (tt.want != nil) {
					t.Errorf("a wait that fails says %v", failed)
				}
			})
		}
	}
}

// The logs are real ones, without the lines about connections: of an etcd that was removed while it
// ran, and of ones that were removed while they were down, and started again.
func TestAnEtcdThatWasRemovedSaysSoWhateverItLogsAfterwards(t *testing.T) {
	logs, err := filepath.Glob("testdata/removed/etcd-3.[567]-*.log")
	if err != nil || len(logs) != 9 {
		t.Fatalf("%q, %v", logs, err)
	}
	for _, log := range logs {
		t.Run(filepath.Base(log), func(t *testing.T) {
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			const told = `{"level":"info","caller":"osutil/interrupt_unix.go:65","msg":"received signal; ` +
				`shutting down"}` + "\n"
			for name, text := range map[string]string{"": string(text), ", for a console": console(t, text),
				", and was told to exit then": string(text) + told} {
				root := t.TempDir()
				if err := os.WriteFile(filepath.Join(root, "0.log"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				words := LastWordsOf(node.OS(root), "/0.log")
				if !words.Last || words.Why != "it was removed from its cluster" ||
					words.Said != "server error: the member has been permanently removed from the cluster" {
					t.Errorf("it ended%s: %+v", name, words)
				}
			}
		})
	}
}

// console is a log of JSON as etcd writes it for a console.
func console(t *testing.T, log []byte) string {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(string(log)) {
		var l struct{ Level, TS, Caller, Msg, Error string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		fields, err := json.Marshal(map[string]string{"error": l.Error})
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(strings.Join([]string{l.TS, l.Level, l.Caller, l.Msg, string(fields)}, "\t") + "\n")
	}
	return all.String()
}

// The kubelet starts etcd as long as its manifest is there, and one that finds no data may begin a
// cluster of its own.
func TestAMemberWhoseDataMustGoIsStoppedBeforeItsDataIsMoved(t *testing.T) {
	for _, m := range meanings() {
		if !strings.Contains(m.do, "etcdpod join") {
			continue
		}
		manifest, exited := strings.Index(m.do, "manifest out"), strings.Index(m.do, "wait until etcd has exited")
		data, join := strings.Index(m.do, "data directory"), strings.Index(m.do, "run `etcdpod join`")
		if m.why == "it was removed from its cluster" && strings.Contains(m.do, "etcdpod remove") {
			t.Errorf("it is to be removed again: %q", m.do)
		}
		if join < 0 {
			join = strings.Index(m.do, "then `etcdpod join`")
		}
		if manifest < 0 || exited < manifest || data < exited || join < data || strings.Contains(m.do, "empty") {
			t.Errorf("for %q: %q", m.why, m.do)
		}
	}
	for member, want := range map[string]string{
		"":   "move away what is in /d; then run `etcdpod join` here",
		"1f": "move away what is in /d; run `etcdpod remove 1f` on another member, then `etcdpod join` here",
	} {
		if got := JoinAgain("", "/d", member); got != want {
			t.Errorf("%q, and not %q", got, want)
		}
	}
}

func TestALogThatIsLongIsReadFromItsEnd(t *testing.T) {
	root := t.TempDir()
	c := node.Container{Name: "etcd", Namespace: "kube-system", Pod: "etcd-cp1", PodUID: "u"}
	file := filepath.Join(root, usualLog(c))
	text := "flag provided but not defined: -old\n" + strings.Repeat("nothing\n", 1<<16) + "Error: unknown flag: " +
		"--new\n"
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := LastWordsOf(node.OS(root), usualLog(c)); got.Said != "unknown flag: --new" {
		t.Errorf("%+v", got)
	}
	if got := LastWordsOf(node.OS(t.TempDir()), usualLog(c)); got.String() != "" {
		t.Errorf("without a log: %+v", got)
	}
}
