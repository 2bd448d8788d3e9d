// Package op is the closed catalogue of operations: the only ways in which a run changes a node.
// Each kind knows how to do itself, how to undo itself, and how to see in the world whether its
// effect is there. It decides nothing: which operations a run needs is planned in phases.
//
// Rules that every kind keeps, and that the crash tests hold it to:
//   - Do and Undo may be cut off at any instant and run again. They look at the world first,
//     never at the journal.
//   - When Do or Undo returns nil, or Done says yes, the effect is durable: files and the
//     directories that name them are synced. What a try that was cut off has left is there for
//     everybody to see, and need not be on the disk yet: so whoever finds the work done by an
//     earlier try syncs it all the same.
//   - What is needed to tell old from new (inodes, whether something was there) is recorded in the
//     operation by Record before Do, and so in the journal.
//   - Neither old nor new there: an error, and nothing is touched.
package op

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Op is one operation. Its exported fields are its whole state; they go into the journal as JSON.
type Op interface {
	// String says what it does in the words of a runbook: `exchange /var/lib/etcd/member and …`.
	String() string
	Do(context.Context, *Target) error
	// Undo takes the effect back, whether Do ended or was cut off. It is called on
	// started operations only.
	Undo(context.Context, *Target) error
	// Done observes whether the effect is there. It is asked after a crash, of
	// the operation in doubt.
	Done(context.Context, *Target) (bool, error)
}

// Recorder is an operation that must know how the world looked before it: the engine calls Record,
// then journals the operation, then calls Do.
type Recorder interface {
	Record(context.Context, *Target) error
}

// Skippable is an operation that only waits or looks, behind the commit point: a person may
// close a run without it.
type Skippable interface {
	Skippable()
}

// Condition is an operation that waits for what the operations after it rely on, and what a reboot
// ends: that a program runs and answers. Before the commit point, a process that goes on with a run
// carries it out again, though the journal says that it is done. Behind it every operation waits
// for itself. What looks once at what is on the disk (compare-members), or has an effect that stays
// (promote-learner, disarm-alarms), is none.
type Condition interface {
	Condition()
}

// repeated is part of every operation that is carried out again rather than found done, and that
// leaves nothing to take back.
type repeated struct{}

// Undo has nothing to take back.
func (repeated) Undo(context.Context, *Target) error { return nil }

// Done never says yes.
func (repeated) Done(context.Context, *Target) (bool, error) { return false, nil }

// FilesOnly is an operation that may need nothing but files: where all of a run's do, it goes on,
// and back, without a kubelet and a container runtime.
type FilesOnly interface {
	FilesOnly() bool
}

// Target is what an operation works on.
type Target struct {
	Host      *node.Host
	Etcd      Etcd
	APIServer APIServer
	// Certificates makes new ones, and looks at those that are served.
	Certificates Certificates
	// Involved says whether a file of the static-pod directory must not run while the fence is up.
	Involved func(manifest []byte, dataDirs []string) bool
	// Progress reports how much of the running operation is done, in bytes or in steps;
	// total is 0 when unknown.
	Progress func(done, total int64)
	// Report tells the person something worth knowing that is no error.
	Report func(message string)
}

// kinds is the catalogue. A name once used in a journal keeps its meaning.
var kinds = map[string]Op{
	"make-directory":          &MakeDirectory{},
	"open-backup":             &OpenBackup{},
	"save-snapshot":           &SaveSnapshot{},
	"prove-backup":            &ProveBackup{},
	"keep-backup":             &KeepBackup{},
	"snapshot-data-directory": &SnapshotDataDir{},
	"prove-snapshot":          &ProveSnapshot{},
	"stage-data":              &StageData{},
	"stop-kubelet":            &StopKubelet{},
	"take-out-manifest":       &TakeOutManifest{},
	"stop-containers":         &StopContainers{},
	"exchange":                &Exchange{},
	"move-aside":              &MoveAside{},
	"add-learner":             &AddLearner{},
	"promote-learner":         &PromoteLearner{},
	"put-manifest":            &PutManifest{},
	"start-kubelet":           &StartKubelet{},
	"await-peer":              &AwaitPeer{},
	"await-answer":            &AwaitAnswer{},
	"disarm-alarms":           &DisarmAlarms{},
	"compare-members":         &CompareMembers{},
	"await-apiserver":         &AwaitAPIServer{},
	"set-data-directory":      &SetDataDir{},
	"release-leases":          &ReleaseLeases{},
	"verify-restored":         &VerifyRestored{},
	"issue-certificate":       &IssueCertificate{},
	"adopt-certificate":       &AdoptCertificate{},
	"replace-certificate":     &ReplaceCertificate{},
	"request-certificate":     &RequestCertificate{},
	"restart-pod":             &RestartPod{},
	"await-served":            &AwaitServed{},
	"put-certificate":         &PutCertificate{},
	"place-manifest":          &PlaceManifest{},
	"claim-data-directory":    &ClaimData{},
	"keep-kubelet":            &KeepKubelet{},
	"replace-manifest":        &ReplaceManifest{},
	"await-replaced":          &AwaitReplaced{},
}

// former are the names that other kinds have had, with what the name alone said: journals that hold
// them are read, and none is written.
var former = map[string]Op{
	"await-etcd":    &AwaitAnswer{},
	"await-started": &AwaitAnswer{},
	"await-member":  &AwaitAnswer{},
	"await-learner": &AwaitAnswer{Learner: true},
}

// Kind returns the name of an operation's kind.
func Kind(o Op) string {
	for name, k := range kinds {
		if reflect.TypeOf(k) == reflect.TypeOf(o) {
			return name
		}
	}
	panic(fmt.Sprintf("op: %T is not in the catalogue", o))
}

// Kinds are the names of all kinds, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// Encode returns an operation as JSON.
func Encode(o Op) (json.RawMessage, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the operation %q: %w", o, err)
	}
	return body, nil
}

// Decode makes an operation from what Kind and Encode gave.
func Decode(kind string, body json.RawMessage) (Op, error) {
	k, ok := kinds[kind]
	if !ok {
		k, ok = former[kind]
	}
	if !ok {
		return nil, fmt.Errorf("cannot read an operation of the kind %q: this etcdpod does not know it; "+
			"use the etcdpod that began the run", kind)
	}
	made := reflect.New(reflect.TypeOf(k).Elem())
	made.Elem().Set(reflect.ValueOf(k).Elem())
	o := made.Interface().(Op)
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields() // what a newer etcdpod noted must not be passed over
	if err := dec.Decode(o); err != nil {
		return nil, fmt.Errorf("cannot read an operation of the kind %q: %w", kind, err)
	}
	return o, nil
}

// poll calls try about every interval until it returns nil; when the time is over, the last error
// of try is returned with what was waited for.
func poll(
	ctx context.Context, t *Target, what string, limit, interval time.Duration, try func(context.Context) error,
) error {
	deadline := t.Host.Clock.Now().Add(limit)
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		var final *finalError
		if ok := asFinal(err, &final); ok {
			return final.error
		}
		now := t.Host.Clock.Now()
		if now.After(deadline) {
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		}
		if err := t.Host.Clock.Sleep(ctx, interval); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}
