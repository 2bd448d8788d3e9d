package rehearse_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/damage"
	"github.com/etcdpod/etcdpod/phases/backup"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/rehearse"
)

func codes(r *rehearse.Report) (all []finding.Code) {
	for _, f := range r.Findings {
		all = append(all, f.Code)
	}
	return all
}

// kept is what the machine keeps.
func (w *world) kept() rehearse.Kept {
	w.t.Helper()
	k, err := rehearse.Last(node.OS(w.root))
	must(w.t, err)
	return k
}

func TestAFileThatIsNotThereIsNoRehearsal(t *testing.T) {
	w := newWorld(t)
	for _, file := range []string{filepath.Join(w.root, "no-such.db"), rehearse.Latest} {
		if _, err := w.rehearse(rehearse.Options{File: file}); !engine.IsBadSnapshot(err) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if k := w.kept(); k.Newest != nil || k.Judge(time.Now()) != nil {
		t.Errorf("it keeps %+v", k)
	}
}

func TestASealedBackupIsRehearsedByWhoCanOpenIt(t *testing.T) {
	w := newWorld(t)
	s := of(t, binaries.Etcd36)
	file, identity := w.sealed("snap/one.db.zst.age", s)
	for what, u := range map[string]backup.Unsealing{
		"nobody who is trusted":    {Identity: identity},
		"is encrypted":             {Unsigned: true},
		"cannot read the identity": {Unsigned: true, Identity: identity + "x"},
	} {
		var refused *engine.RefusedError
		_, err := w.rehearse(rehearse.Options{File: file, Unsealing: u})
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r, err := w.rehearse(rehearse.Options{File: file, Unsealing: backup.Unsealing{Unsigned: true, Identity: identity}})
	must(t, err)
	if r.Outcome != rehearse.OK || r.Keys != s.report.Keys || r.HashKV != s.report.HashKV ||
		r.Path != "/snap/one.db.zst.age" {
		t.Errorf("%+v", r)
	}
	w.nothingIsLeft()
}

func TestEveryReleaseIsRehearsedWithItsOwnEtcdAndWithTheOneInside(t *testing.T) {
	for _, version := range binaries.EtcdVersions() {
		for _, from := range []string{"file", "built-in"} {
			t.Run(version+" with "+from, func(t *testing.T) {
				w := newWorld(t)
				s := of(t, version)
				// Its sidecar tells the release: a new etcd 3.5 takes a moment to write it down.
				o := rehearse.Options{File: w.put("snap/one.db", s, func(*op.SidecarFile) {})}
				runs := binaries.Etcd37
				if from == "file" {
					o.Etcd, runs = program(t, version), version
				}
				r, err := w.rehearse(o)
				must(t, err)
				want := map[string]int64{"configmaps": 11, "pods": 12, "secrets": 12,
					"certs.certificates.example.com": 12, "nodes": 2, "masterleases": 1}
				for name, n := range want {
					if r.Resources[name] != n {
						t.Errorf("%s: %d, and not %d", name, r.Resources[name], n)
					}
				}
				if r.Outcome != rehearse.OK || r.Keys != s.report.Keys || r.Revision != s.report.Revision ||
					r.HashKV != s.report.HashKV || r.Etcd.Version != runs || r.Etcd.From != from ||
					r.RestoreSeconds <= 0 {
					t.Errorf("%+v, %+v", r, r.Etcd)
				}
				other := slices.Contains(codes(r), finding.RehearsalOtherEtcd)
				if other != (version[:3] != runs[:3]) || len(r.Grave()) > 0 {
					t.Errorf("it found %q", r.Findings)
				}
				if !slices.Equal(r.Needs.Nodes, []string{"cp1", "worker"}) || r.Needs.Checked ||
					len(r.Encrypted) != 1 || r.Encrypted[0].Readable != "unknown" {
					t.Errorf("%+v, %+v", r.Needs, r.Encrypted)
				}
				if k := w.kept(); k.Newest.Outcome != rehearse.OK || k.Served == nil || k.Judge(time.Now()) != nil {
					t.Errorf("%+v", k)
				}
			})
		}
	}
}

func TestABadSnapshotIsRehearsedNowhere(t *testing.T) {
	w := newWorld(t)
	good := of(t, binaries.Etcd36)
	for i, c := range damage.Cases() {
		if i%3 != 0 { // verify has them all
			continue
		}
		file := w.write("snap/bad.db", string(c.Make(good.data)), 0o600)
		if _, err := w.rehearse(rehearse.Options{File: file}); !engine.IsBadSnapshot(err) {
			t.Errorf("%s: %v", c.Name, err)
		}
		if k := w.kept(); k.Newest == nil || k.Newest.Outcome != rehearse.Bad || k.Served != nil {
			t.Errorf("%s: %+v", c.Name, k)
		}
	}
	file := w.put("snap/other.db", good, func(s *op.SidecarFile) { s.SHA256 = strings.Repeat("0", 64) })
	for _, bad := range []string{file, filepath.Join(w.root, "snap/nowhere.db"), filepath.Join(w.root, "snap")} {
		if _, err := w.rehearse(rehearse.Options{File: bad}); !engine.IsBadSnapshot(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if said := w.kept().Judge(time.Now()); len(said) != 1 || said[0].Code != finding.RehearsalFailed {
		t.Errorf("%q", said)
	}
}

func TestAnEtcdThatDoesNotServeIsTold(t *testing.T) {
	const never = "does not serve the restored data"
	for name, c := range map[string]struct{ script, says string }{
		"it exits":                      {"echo 'panic: of its own' >&2; exit 7", "restored data (exit status 7)"},
		"it exits at once, and well":    {"exit 0", "(exit status 0)"},
		"it hangs":                      {"exec sleep 600", never},
		"it hangs, and so do its own":   {"sleep 600 & trap '' TERM INT; while :; do sleep 1; done", never},
		"it listens, and serves nobody": {"exec " + os.Args[0] + " " + asMute, never},
		"it says what it lacks": {
			`echo '{"level":"fatal","msg":"failed","error":"no space left on device"}'; exit 1`,
			"no space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			o := rehearse.Options{File: w.put("snap/one.db", of(t, binaries.Etcd36), nil),
				Etcd: w.write("bin/etcd", "#!/bin/sh\n"+c.script+"\n", 0o700), Timeout: 3 * time.Second}
			r, err := w.rehearse(o)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if ended := strings.Contains(c.script, "exit"); !ended && !strings.Contains(engine.Hint(err), "--timeout") {
				t.Errorf("the hint is %q", engine.Hint(err))
			}
			if k := w.kept(); r.Outcome != rehearse.Failed || k.Newest.Outcome != rehearse.Failed ||
				k.Newest.Why == "" {
				t.Errorf("%+v", k.Newest)
			}
		})
	}
}

func TestWhatCannotBeStartedIsRefused(t *testing.T) {
	w := newWorld(t)
	file := w.put("snap/one.db", of(t, binaries.Etcd37), nil)
	for name, o := range map[string]rehearse.Options{
		"no such file":      {Etcd: filepath.Join(w.root, "nowhere")},
		"a directory":       {Etcd: w.root},
		"no program":        {Etcd: w.write("bin/text", "text", 0o600)},
		"an older etcd":     {Etcd: program(t, binaries.Etcd36)},
		"no such scratch":   {Scratch: filepath.Join(w.root, "nowhere")},
		"a file as such":    {Scratch: file},
		"too little for it": {Memory: rehearse.LeastMemory - 1},
		"no time":           {Timeout: -1},
	} {
		o.File = file
		_, err := w.rehearse(o)
		var refused *engine.RefusedError
		var usage *engine.UsageError
		if !errors.As(err, &refused) && !errors.As(err, &usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if k := w.kept(); k.Newest != nil {
		t.Errorf("what was refused is kept: %+v", k.Newest)
	}
}

// A restore disarms them. Whoever only reads does not need that.
func TestAlarmsInTheDataKeepNobodyFromReading(t *testing.T) {
	w := newWorld(t)
	for _, alarm := range []pb.AlarmType{pb.AlarmType_CORRUPT, pb.AlarmType_NOSPACE} {
		s := take(t, binaries.Etcd36, func(ctx context.Context, c *clientv3.Client) error {
			err := fill(ctx, c, 2)
			if err == nil {
				_, err = pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(ctx,
					&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 7, Alarm: alarm})
			}
			return err
		})
		if len(s.report.Alarms) != 1 {
			t.Fatalf("%+v", s.report.Alarms)
		}
		for _, with := range []string{"", program(t, binaries.Etcd36)} {
			r, err := w.rehearse(rehearse.Options{File: w.put("snap/alarm.db", s, nil), Etcd: with})
			if err != nil || r.Outcome != rehearse.OK {
				t.Errorf("%v: %v", alarm, err)
			}
		}
	}
}

func TestWhatIsBehindAPasswordIsTold(t *testing.T) {
	w := newWorld(t)
	s := take(t, binaries.Etcd36, func(ctx context.Context, c *clientv3.Client) error {
		for _, step := range []func() error{
			func() error { _, err := c.UserAdd(ctx, user, user); return err },
			func() error { _, err := c.UserGrantRole(ctx, user, user); return err },
			func() error { _, err := c.AuthEnable(ctx); return err },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := w.rehearse(rehearse.Options{File: w.put("snap/users.db", s, nil)}); err == nil ||
		!strings.Contains(err.Error(), "without a password") {
		t.Error(err)
	}
}

func TestTooLittleTimeIsTold(t *testing.T) {
	w := newWorld(t)
	o := rehearse.Options{File: w.put("snap/one.db", of(t, binaries.Etcd36), nil), Timeout: time.Millisecond}
	_, err := w.rehearse(o)
	if err == nil || !strings.Contains(err.Error(), "ended after 1ms") ||
		!strings.Contains(engine.Hint(err), "--timeout") || w.kept().Newest.Outcome != rehearse.Failed {
		t.Errorf("%v", err)
	}
}

func TestARehearsalThatIsInterruptedLeavesNothing(t *testing.T) {
	for _, at := range []string{"verify-snapshot", "stage", "boot", "hash", "count"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := rehearse.Options{File: w.put("snap/one.db", of(t, binaries.Etcd36), nil)}
			seen := false
			_, err := run(ctx, w.root, o, func(e engine.Event) {
				if e.Phase == at {
					seen = true
					cancel()
				}
			})
			if seen && err == nil && at != "count" {
				t.Error("it went on")
			}
			if k := w.kept(); err != nil && k.Newest != nil {
				t.Errorf("it is kept: %+v", k.Newest)
			}
		})
	}
}

// Killed anywhere, its etcd ends with it, and the next one removes what is left on disk.
func TestARehearsalThatIsKilledLeavesNothingThatRuns(t *testing.T) {
	w := newWorld(t)
	file := w.put("snap/one.db", of(t, binaries.Etcd36), nil)
	left, serving := 0, 0
	for i := range 12 {
		before := w.sockets()
		cmd := exec.Command(os.Args[0], asRehearse, w.root, file)
		must(t, cmd.Start())
		// The first ones before there is anything, the last ones when all of it runs.
		wait := time.Duration(i) * 25 * time.Millisecond
		if i%3 == 2 { // once its etcd serves
			w.awaitSocket(before)
			serving++
		} else {
			time.Sleep(wait)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for deadline := time.Now().Add(time.Minute); len(w.processes()) > 0; {
			if time.Now().After(deadline) {
				t.Fatalf("%q outlive it", w.processes())
			}
			time.Sleep(time.Millisecond)
		}
		if n, _ := filepath.Glob(filepath.Join(w.home(), ".etcdpod-rehearsal-*")); len(n) > 0 {
			left++
		}
	}
	if left < serving {
		t.Errorf("only %d were killed on their way: this shows nothing", left)
	}
	_, err := w.rehearse(rehearse.Options{File: file})
	must(t, err)
}

// sockets are those at which etcds listen, or did.
func (w *world) sockets() []string {
	found, _ := filepath.Glob(filepath.Join(w.home(), ".etcdpod-rehearsal-*", "client:1"))
	return found
}

// awaitSocket waits until an etcd listens that did not before.
func (w *world) awaitSocket(before []string) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		for _, socket := range w.sockets() {
			if !slices.Contains(before, socket) {
				return
			}
		}
		if time.Now().After(deadline) {
			w.t.Fatal("no etcd has listened")
		}
	}
}

func TestTheKeysOfThisNodeAreTried(t *testing.T) {
	for secret, want := range map[string]string{"A": "yes", "B": "no"} {
		t.Run(want, func(t *testing.T) {
			w := newWorld(t)
			w.encrypts(secret)
			r, err := w.rehearse(rehearse.Options{File: w.put("snap/one.db", of(t, binaries.Etcd36), nil)})
			must(t, err)
			if len(r.Encrypted) != 1 || r.Encrypted[0].Readable != want || r.Encrypted[0].Objects != 12 {
				t.Errorf("%+v", r.Encrypted)
			}
			if unread := slices.Contains(codes(r), finding.EncryptionUnread); unread != (want == "no") ||
				unread != (r.Outcome == rehearse.Found) {
				t.Errorf("%s: %q", r.Outcome, r.Findings)
			}
			if !r.Needs.Checked {
				t.Error("its files were not looked at")
			}
		})
	}
}

func TestOtherFilesThanThenAreFound(t *testing.T) {
	w := newWorld(t)
	w.encrypts("A")
	r, err := w.rehearse(rehearse.Options{File: w.put("snap/one.db", of(t, binaries.Etcd36), func(s *op.SidecarFile) {
		s.Fingerprints = map[string]string{"/etc/kubernetes/pki/ca.crt": "another",
			"/etc/kubernetes/enc/enc.yaml": "old"}
	})})
	must(t, err)
	if !slices.Contains(codes(r), finding.RehearsalOtherFiles) || len(r.Needs.Files) != 2 || r.Needs.Files[1].Here {
		t.Errorf("%q, %+v", r.Findings, r.Needs)
	}
}

func TestHalfOfAKindGoneIsFound(t *testing.T) {
	w := newWorld(t)
	half := take(t, binaries.Etcd36, func(ctx context.Context, c *clientv3.Client) error {
		if err := fill(ctx, c, 12); err != nil {
			return err
		}
		_, err := c.Delete(ctx, "/registry/pods/kube-system/x-0", clientv3.WithPrefix()) // two stay
		return err
	})
	whole := of(t, binaries.Etcd36)
	first := w.put("var/lib/etcdpod/backups/first.db", whole,
		func(s *op.SidecarFile) { s.TakenAt = s.TakenAt.Add(-time.Hour) })
	must(t, os.Chmod(w.home(), 0o700))
	r, err := w.rehearse(rehearse.Options{File: first})
	must(t, err)
	if r.Previous != nil {
		t.Errorf("%+v", r.Previous)
	}
	w.put("var/lib/etcdpod/backups/second.db", half, func(*op.SidecarFile) {})
	r, err = w.rehearse(rehearse.Options{File: rehearse.Latest})
	must(t, err)
	if r.Path != "/var/lib/etcdpod/backups/second.db" || r.Previous == nil || r.Outcome != rehearse.Found {
		t.Fatalf("%+v", r)
	}
	if len(r.Grave()) != 1 || r.Grave()[0].Code != finding.RehearsalShrunk ||
		!strings.Contains(r.Grave()[0].Text, "pods: 2, and 12 then") {
		t.Errorf("%q", r.Findings)
	}
	// The same again is not found again; nor is another cluster's, nor an older one's.
	for name, change := range map[string]func(*op.SidecarFile){
		"second.db": func(*op.SidecarFile) {},
		"third.db":  func(s *op.SidecarFile) { s.ClusterID = "beef" },
	} {
		r, err = w.rehearse(rehearse.Options{File: w.put("var/lib/etcdpod/backups/"+name, half, change)})
		must(t, err)
		if len(r.Grave()) > 0 {
			t.Errorf("%s: %q", name, r.Findings)
		}
	}
	if k := w.kept(); k.Times != 4 {
		t.Errorf("there were %d", k.Times)
	}
}

func TestWithoutABackupThereIsNoLatest(t *testing.T) {
	w := newWorld(t)
	_, err := w.rehearse(rehearse.Options{File: rehearse.Latest})
	if !engine.IsBadSnapshot(err) || !strings.Contains(engine.Hint(err), "--dir") {
		t.Errorf("%v, %q", err, engine.Hint(err))
	}
}

func TestWhatIsKeptIsDamagedAndIsWrittenAnew(t *testing.T) {
	w := newWorld(t)
	w.write("var/lib/etcdpod/rehearsals.json", "{", 0o600)
	_, err := w.rehearse(rehearse.Options{File: w.put("snap/one.db", of(t, binaries.Etcd36), nil)})
	must(t, err)
	st, err := os.Stat(filepath.Join(w.home(), "rehearsals.json"))
	if err != nil || st.Mode().Perm() != 0o600 || w.kept().Times != 1 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestWhatStatusSaysOfRehearsals(t *testing.T) {
	now := time.Now()
	day := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	ok := func(taken time.Time) *rehearse.Report {
		return &rehearse.Report{At: day(-1), TakenAt: taken, Outcome: rehearse.OK, Path: "/b.db"}
	}
	ended := func(how rehearse.Outcome, found ...finding.Finding) rehearse.Kept {
		return rehearse.Kept{Newest: &rehearse.Report{Outcome: how, Why: "x", Findings: found}, Times: 1}
	}
	for name, c := range map[string]struct {
		kept rehearse.Kept
		want finding.Code
	}{
		"there was none":                  {rehearse.Kept{}, ""},
		"a new one":                       {rehearse.Kept{Newest: ok(day(-2)), Times: 9}, ""},
		"somebody tried it once":          {rehearse.Kept{Newest: ok(day(-99)), Times: 1}, ""},
		"a habit that has ended":          {rehearse.Kept{Newest: ok(day(-31)), Times: 2}, finding.RehearsalOld},
		"a habit, and old without a date": {rehearse.Kept{Newest: ok(time.Time{}), Times: 2}, ""},
		"it failed":                       {ended(rehearse.Failed), finding.RehearsalFailed},
		"the backup was bad":              {ended(rehearse.Bad), finding.RehearsalFailed},
		"it found something": {ended(rehearse.Found, finding.New(finding.RehearsalDiffers, "", "x")),
			finding.RehearsalFailed},
	} {
		said := c.kept.Judge(now)
		if len(said) > 1 || (len(said) == 1) != (c.want != "") || len(said) == 1 && said[0].Code != c.want {
			t.Errorf("%s: %q", name, said)
		}
	}
}
