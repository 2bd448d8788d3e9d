package op

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// lowers are three members that know etcd's protocol: enabled, their data are lowered a look later.
type lowers struct {
	drops bool // it says yes to a cancellation, and drops it
	*members3
	enabled, cancelled int
	refuses            error
}

func (l *lowers) EnableDowngrade(_ context.Context, _ Access, target string) error {
	if l.enabled++; l.refuses != nil {
		return l.refuses
	}
	l.all(func(a *Answer) { a.Downgrade = target })
	l.look = func(int) { l.all(func(a *Answer) { a.Storage = target }) }
	return nil
}

func (l *lowers) CancelDowngrade(context.Context, Access) error {
	l.cancelled++
	if l.drops {
		return nil
	}
	l.all(func(a *Answer) { a.Downgrade = "" })
	l.look = func(int) { l.all(func(a *Answer) { a.Storage = "3.6.0" }) }
	return nil
}

func (l *lowers) Downgrading(_ context.Context, a Access) (string, error) {
	return l.says[a.Endpoints[0]].Downgrade, nil
}

func (l *lowers) all(do func(*Answer)) {
	for at := range l.says {
		l.change(at, do)
	}
}

func lowering3(t *testing.T) (*lowers, *Target, Downgrade, *string) {
	t.Helper()
	l := &lowers{members3: three()}
	l.all(func(a *Answer) { a.Version, a.Storage = "3.6.16", "3.6.0" })
	l.minor = "3.6.0"
	said := ""
	target := diskTarget(fileEtcd{})
	target.Etcd, target.Host = l, &node.Host{FS: target.Host.FS, Kubelet: l, Runtime: l, Clock: l}
	target.Warn = func(f finding.Finding) { said += f.Text }
	d := Downgrade{Access: awaits().Access, Others: awaits().Others, Version: "3.5.0", Limit: time.Minute}
	return l, target, d, &said
}

func TestADowngradeIsEnabledOnceAndSeenOnAllMembers(t *testing.T) {
	l, target, d, _ := lowering3(t)
	for range 2 {
		if err := (&EnableDowngrade{Downgrade: d}).Do(t.Context(), target); err != nil || l.enabled != 1 {
			t.Errorf("enabled %d times: %v", l.enabled, err)
		}
	}
	if err := (&AwaitStorageVersion{Downgrade: d}).Do(t.Context(), target); err != nil {
		t.Error(err)
	}
	l, target, d, _ = lowering3(t)
	l.refuses = errors.New("invalid downgrade target version")
	err := (&EnableDowngrade{Downgrade: d}).Do(t.Context(), target)
	if err == nil || !strings.Contains(err.Error(), "invalid downgrade target version") {
		t.Errorf("etcd refuses: %v", err)
	}
	l, target, d, _ = lowering3(t)
	l.all(func(a *Answer) { a.Downgrade = "3.5.0" })
	if err := (&AwaitStorageVersion{Downgrade: d}).Do(t.Context(), target); err == nil ||
		!strings.Contains(err.Error(), "the data are not yet of 3.5 at https://cp1, https://cp2, https://cp3") {
		t.Errorf("its data are never lowered: %v", err)
	}
	l.all(func(a *Answer) { a.Downgrade = "" })
	if err := (&AwaitStorageVersion{Downgrade: d}).Do(t.Context(), target); err == nil ||
		!strings.Contains(err.Error(), "somebody has cancelled the downgrade to 3.5") {
		t.Errorf("it is taken back: %v", err)
	}
	l.runs("https://cp2", "3.5.35") // then the version of the cluster does not rise
	l.all(func(a *Answer) { a.Storage = "3.5.0" })
	if err := (&AwaitStorageVersion{Downgrade: d}).Do(t.Context(), target); err != nil {
		t.Errorf("one runs the older etcd: %v", err)
	}
}

// Without a quorum etcd says yes to a cancellation that nobody hears of.
func TestADowngradeIsNotSaidToBeTakenBackWhileItGoesOn(t *testing.T) {
	l, target, d, _ := lowering3(t)
	undo := &CancelDowngrade{Downgrade: d, From: "3.6.0"}
	if err := (&EnableDowngrade{Downgrade: d}).Do(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	l.drops = true
	for _, target.Lost = range [][]string{nil, {"cp3"}} {
		if err := undo.Undo(t.Context(), target); err == nil || !strings.Contains(err.Error(), "goes on") {
			t.Errorf("with %q lost: %v", target.Lost, err)
		}
	}
}

func TestADowngradeIsTakenBackAndItsEndIsSeen(t *testing.T) {
	l, target, d, said := lowering3(t)
	undo := &CancelDowngrade{Downgrade: d, From: "3.6.0"}
	err := errors.Join((&EnableDowngrade{Downgrade: d}).Do(t.Context(), target), undo.Undo(t.Context(), target))
	if err != nil || l.cancelled != 1 || *said != "" || l.says["https://cp1"].Storage != "3.6.0" {
		t.Errorf("%v, %q, %+v", err, *said, l.says["https://cp1"])
	}
	// Without all members the version of the cluster does not rise again: that keeps no run open.
	l.look = nil
	l.all(func(a *Answer) { a.Storage = "3.5.0" })
	l.look = func(int) { l.all(func(a *Answer) { a.Storage = "3.5.0" }) }
	target.Lost = []string{"cp3"}
	if err := undo.Undo(t.Context(), target); err != nil || !strings.Contains(*said, "cp3") ||
		!strings.Contains(*said, "once all members answer") {
		t.Errorf("%v, %q", err, *said)
	}
}

// What somebody has cancelled stops the run before a member is, and only the next attempt, which a
// person has asked for, enables it again.
func TestADowngradeThatIsTakenBackIsEnabledAgainOnlyByTheNextAttempt(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		l, target, d, said := lowering3(t)
		hold := &HoldDowngrade{Downgrade: d, Stopped: stopped, Marker: filepath.Join(t.TempDir(), "marker")}
		err := hold.Do(t.Context(), target)
		if err == nil || !strings.Contains(err.Error(), "`etcdpod resume` enables the downgrade") || l.enabled > 0 {
			t.Errorf("stopped %v: enabled %d times, %v", stopped, l.enabled, err)
		}
		if err := hold.Do(t.Context(), target); err != nil || l.enabled != 1 ||
			!strings.Contains(*said, "it was enabled again") {
			t.Errorf("stopped %v: enabled %d times, %v, %q", stopped, l.enabled, err, *said)
		}
		l.minor = "3.5.0"
		if err := hold.Do(t.Context(), target); err != nil || l.enabled != 1 {
			t.Errorf("stopped %v: enabled %d times, %v", stopped, l.enabled, err)
		}
		l.minor = "" // HTTP does not tell it
		if err := hold.Do(t.Context(), target); err != nil {
			t.Errorf("stopped %v: %v", stopped, err)
		}
	}
}

func TestTheEndOfADowngradeIsSeen(t *testing.T) {
	l, target, d, said := lowering3(t)
	l.all(func(a *Answer) { a.Downgrade = "3.5.0" })
	await := &AwaitDowngraded{Downgrade: d}
	if err := await.Do(t.Context(), target); err == nil || !strings.Contains(err.Error(), "the leader ends it once") {
		t.Errorf("it has not ended: %v", err)
	}
	l.all(func(a *Answer) { a.Downgrade = "" })
	if err := await.Do(t.Context(), target); err == nil || !strings.Contains(err.Error(), "cluster is 3.6.0") {
		t.Errorf("the version of the cluster is another: %v", err)
	}
	l.minor = "3.5.0"
	if err := await.Do(t.Context(), target); err != nil {
		t.Error(err)
	}
	l.minor, target.Lost = "3.6.0", []string{"cp3"}
	if err := await.Do(t.Context(), target); err != nil || !strings.Contains(*said, "remove the member on cp3") {
		t.Errorf("one is lost: %v, %q", err, *said)
	}
}

func TestAReleaseIsTheSameHoweverItIsWritten(t *testing.T) {
	for _, text := range []string{"3.6.16", "v3.6.16", "3.6.16-0", "3.6.16+vendor.1"} {
		if !sameRelease(text, "3.6.16") || sameRelease(text, "3.6.1") {
			t.Errorf("%s", text)
		}
	}
}
