// Package op is the closed catalogue of operations: the only ways in which a run changes a node.
// Each kind knows how to do itself, how to undo itself, and how to see in the world whether its
// effect is there. It decides nothing: phases plan which operations a run needs.
//
// Rules for every kind, checked by the crash tests:
//   - Do and Undo may be cut off at any instant and run again. They look at the world first,
//     never at the journal.
//   - When Do or Undo returns nil, or Done says yes, the effect is durable: files and the
//     directories that name them are synced. What an interrupted attempt left is visible but maybe
//     not yet on disk: so an operation that finds its work already done still syncs it.
//   - Before Do, Record puts into the operation, and so into the journal, what is needed to tell
//     old from new (inodes, whether something was there).
//   - If neither old nor new is there, it fails and touches nothing.
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

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Op is one operation. Its exported fields are its whole state; they go into the journal as JSON.
type Op interface {
	// String says what it does in the words of a runbook: `exchange /var/lib/etcd/member and …`.
	String() string
	Do(context.Context, *Target) error
	// Undo takes the effect back, whether Do finished or was cut off. It is called on
	// started operations only.
	Undo(context.Context, *Target) error
	// Done observes whether the effect is there. After a crash, the engine asks it of
	// the operation in doubt.
	Done(context.Context, *Target) (bool, error)
}

// Recorder is an operation that must know the world before it: the engine calls Record, then
// journals the operation, then calls Do.
type Recorder interface {
	Record(context.Context, *Target) error
}

// Skippable is an operation after the commit point that only waits or looks: a person may
// close a run without it.
type Skippable interface {
	Skippable()
}

// Condition is an operation that waits for something that later operations rely on and a reboot
// ends: a program that runs and answers. Before the commit point, a process that continues a run
// carries it out again, though the journal says it is done. After it every operation does its own
// waiting. An operation that looks once at the disk (compare-members), or whose effect stays
// (promote-learner, disarm-alarms), is none.
type Condition interface {
	Condition()
}

// Guard is an operation from whose start to the commit point nothing may run on the data but what
// it says. Guard makes that true again and proves it; false: the operation says nothing about it,
// and the one before it counts.
type Guard interface {
	Guard(context.Context, *Target) (bool, error)
}

// Lasting is an operation whose effect later operations rely on, and which somebody else can take
// away: by mounting another disk, or by moving directories. Lasts fails if that has happened.
type Lasting interface {
	Lasts(context.Context, *Target) error
}

// repeated is embedded in operations that are always carried out again and leave nothing to undo.
type repeated struct{}

// Undo has nothing to take back.
func (repeated) Undo(context.Context, *Target) error { return nil }

// Done never says yes.
func (repeated) Done(context.Context, *Target) (bool, error) { return false, nil }

// FilesOnly is an operation that may need nothing but files. If that holds for all of a run's, it
// can go on, and back, without a kubelet and a container runtime.
type FilesOnly interface {
	FilesOnly() bool
}

// Target is what an operation works on.
type Target struct {
	Host      *node.Host
	Etcd      Etcd
	APIServer APIServer
	// Certificates makes new certificates, and looks at those being served.
	Certificates Certificates
	// Stores are where backups are sent to.
	Stores Stores
	// Involved says whether a file of the static-pod directory must not run while the fence is up.
	Involved func(manifest []byte, dataDirs []string) bool
	// Progress reports how much of the running operation is done, in bytes or steps;
	// total is 0 when unknown.
	Progress func(done, total int64)
	// Report tells the person something worth knowing that is no error.
	Report func(message string)
	// Warn does so where somebody must do something about it.
	Warn func(finding.Finding)
	// GiveUp is what a person has agreed to: going back takes data out of use that clients have
	// written to.
	GiveUp bool
	// Lost are nodes that a person has declared destroyed.
	Lost []string
}

// kinds is the catalogue. A name once used in a journal keeps its meaning.
var kinds = map[string]Op{
	"make-directory":          &MakeDirectory{},
	"open-backup":             &OpenBackup{},
	"save-snapshot":           &SaveSnapshot{},
	"prove-backup":            &ProveBackup{},
	"seal-backup":             &SealBackup{},
	"reach-targets":           &ReachTargets{},
	"ship-backup":             &ShipBackup{},
	"end-backup":              &EndBackup{},
	"keep-backup":             &KeepBackup{},
	"snapshot-data-directory": &SnapshotDataDir{},
	"prove-snapshot":          &ProveSnapshot{},
	"stage-data":              &StageData{},
	"unseal-snapshot":         &UnsealSnapshot{},
	"drop-unsealed":           &DropUnsealed{},
	"stop-kubelet":            &StopKubelet{},
	"take-out-manifest":       &TakeOutManifest{},
	"stop-containers":         &StopContainers{},
	"exchange":                &Exchange{},
	"move-aside":              &MoveAside{},
	"add-learner":             &AddLearner{},
	"promote-learner":         &PromoteLearner{},
	"put-back-manifest":       &PutBackManifest{},
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
	"write-manifest":          &WriteManifest{},
	"claim-data-directory":    &ClaimData{},
	"keep-kubelet":            &KeepKubelet{},
	"replace-manifest":        &ReplaceManifest{},
	"await-replaced":          &AwaitReplaced{},
	"give-up-reserve":         &GiveUpReserve{},
	"exchange-contents":       &ExchangeContents{},
	"exchange-both":           &ExchangeBoth{},
	"stop-member":             &StopMember{},
	"remove-member":           &RemoveMember{},
	"end-pod":                 &EndPod{},
	"set-peer-urls":           &SetPeerURLs{},
	"await-others":            &AwaitOthers{},
	"await-serving":           &AwaitServing{},
	"see-newcomer":            &SeeNewcomer{},
	"name-newcomer":           &NameNewcomer{},
	"admit-newcomer":          &AdmitNewcomer{},
	"pull-image":              &PullImage{},
	"take-backup":             &TakeBackup{},
	"see-manifest":            &SeeManifest{},
	"await-version":           &AwaitVersion{},
	"await-cluster-version":   &AwaitClusterVersion{},
	"set-image-tag":           &SetImageTag{},
	"cancel-downgrade":        &CancelDowngrade{},
	"enable-downgrade":        &EnableDowngrade{},
	"await-storage-version":   &AwaitStorageVersion{},
	"hold-downgrade":          &HoldDowngrade{},
	"await-downgraded":        &AwaitDowngraded{},
}

// former maps the old names of kinds to what each name meant. Journals with these names are
// read, but never written.
var former = map[string]Op{
	"await-etcd":     &AwaitAnswer{},
	"await-started":  &AwaitAnswer{},
	"await-member":   &AwaitAnswer{},
	"await-learner":  &AwaitAnswer{Learner: true},
	"put-manifest":   &PutBackManifest{},
	"place-manifest": &WriteManifest{},
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

// Can says whether operations of a kind have what T asks for, such as [Skippable]; no operation has
// to be read for that.
func Can[T any](kind string) bool {
	k, ok := kinds[kind]
	if !ok {
		k = former[kind]
	}
	_, can := k.(T)
	return can
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
		return nil, fmt.Errorf("cannot read an operation of kind %q: this etcdpod does not know it; use the version "+
			"that began the run", kind)
	}
	made := reflect.New(reflect.TypeOf(k).Elem())
	made.Elem().Set(reflect.ValueOf(k).Elem())
	o := made.Interface().(Op)
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields() // what a newer etcdpod recorded must not be ignored
	if err := dec.Decode(o); err != nil {
		return nil, fmt.Errorf("cannot read an operation of kind %q: %w", kind, err)
	}
	return o, nil
}

// poll calls try about every interval until it returns nil. When the time is up, it returns try's
// last error with what it waited for.
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
