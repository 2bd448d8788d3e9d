package apiserver

import (
	"crypto/sha256"
	"fmt"
	"path"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Again plans a second change of an API server's manifest, past the commit point, where [Wire] has
// made the first: the wish then names a newcomer, on a node that may be lost by then. There is
// nothing to do where the first changes nothing.
func Again(f *observe.Facts, first, then EtcdFlags, newcomer string, limit time.Duration) ([]op.Op, error) {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil, nil
	}
	between, change, err := EtcdFlagsOf(m, container).With(first).write(m, container)
	if err != nil || change == "" {
		return nil, refusedEdit(err)
	}
	m.Manifest, m.Data = between, between.Bytes()
	edited, change, err := EtcdFlagsOf(m, container).With(then).write(m, container)
	if err != nil || change == "" {
		return nil, refusedEdit(err)
	}
	wait := awaitReplaced(f, limit, false)
	wait.Before = "" // the pod that the first change makes is not known yet
	return []op.Op{&op.NameNewcomer{
		Replace: op.ReplaceManifest{
			Path: m.Path, Data: edited.Bytes(), Change: change, Old: fmt.Sprintf("%x", sha256.Sum256(m.Data)),
			Kept: path.Join(journal.RunDir(f.Run), "manifests", path.Base(m.Path)+".between"),
		},
		Await: *wait, Node: newcomer,
	}}, nil
}

func refusedEdit(err error) error {
	if err == nil {
		return nil
	}
	return engine.Refuse("edit the file by hand", "cannot change the API server's manifest: %v", err)
}
