package rehearse

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// registeredNodes is where nodes are stored, under their historical name: k8s.io/kubernetes,
// pkg/registry/core/node.
const registeredNodes = "/registry/minions/"

// lookInside compares what etcd serves with what the file holds, all as of the file's revision: by
// now leases may have ended, and taken their keys along.
func (r *rehearsal) lookInside(ctx context.Context, c *etcd.Client) error {
	file := r.source.report
	status := c.Status(ctx)[0]
	if status.Err != nil {
		return status.Err
	}
	r.Report.Etcd.Version = status.Version
	if status.Revision < file.Revision {
		r.differs("it serves revision %d, and the file is at %d", status.Revision, file.Revision)
	}
	told := r.telling("hash", "have etcd hash all keys")
	hash, err := c.HashKV(ctx, c.Endpoint(), file.HashRevision)
	told()
	if err != nil {
		return err
	}
	r.HashKV = hash.Hash
	if hash.CompactRevision == file.HashCompactRevision && hash.Hash != file.HashKV {
		r.differs("its HashKV is %d, and that of the file is %d", hash.Hash, file.HashKV)
	}
	if err := r.count(ctx, c); err != nil {
		return err
	}
	if err := r.decrypt(ctx, c); err != nil {
		return err
	}
	nodes, err := c.Keys(ctx, registeredNodes)
	if err != nil {
		return err
	}
	r.need(nodes)
	r.compare()
	return nil
}

func (r *rehearsal) differs(format string, args ...any) {
	r.found(finding.RehearsalDiffers, r.Path, "what the restored etcd holds is not what the file holds: %s",
		fmt.Sprintf(format, args...))
}

// count reads all objects through etcd. The server reads their values, too, so many bytes at once.
func (r *rehearsal) count(ctx context.Context, c *etcd.Client) (err error) {
	const (
		atOnce      = 4 << 20 // bytes
		least, most = 50, 5000
	)
	file := r.source.report
	if r.Keys, err = c.CountAt(ctx, "", file.Revision); err != nil {
		return err
	}
	if r.Keys != file.Keys {
		r.differs("it has %d keys, and the file has %d", r.Keys, file.Keys)
	}
	each := file.SizeBytes/max(1, file.Revisions) + 1
	r.Resources, err = c.ResourcesAt(ctx, file.Revision, min(most, max(least, atOnce/each)),
		func(done, total int64) { // in bytes, as elsewhere
			share := float64(done) / float64(max(1, total))
			r.tell("count", "read the objects in etcd", int64(share*float64(file.SizeBytes)), file.SizeBytes)
		})
	if err != nil {
		return err
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(union(r.Resources, file.Resources))) {
		if is, was := r.Resources[name], file.Resources[name]; is != was && file.Resources["other"] == 0 {
			words = append(words, fmt.Sprintf("%s: %d, and %d in the file", name, is, was))
		}
	}
	if len(words) > 0 {
		r.differs("%s", observe.Few(words))
	}
	return nil
}

func union(a, b map[string]int64) map[string]int64 {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// decrypt tries the keys of this node on one value of each provider and resource, as etcd serves
// it.
func (r *rehearsal) decrypt(ctx context.Context, c *etcd.Client) error {
	stored := slices.Clone(r.source.report.Stored)
	for i, s := range stored {
		if s.Sample == nil {
			continue
		}
		v, err := c.ValueAt(ctx, s.Sample.Key, r.source.report.Revision)
		if err != nil {
			return err
		}
		if v == nil || !bytes.Equal(v.Data, s.Sample.Value) {
			r.differs("%s has another value", s.Sample.Key)
			continue
		}
		stored[i].Sample = &snapfile.Sample{Key: v.Key, Value: v.Data}
	}
	e := r.look.Encryption(ctx, r.facts.Manifests, stored)
	_, _, api := observe.Program(r.facts.Manifests, "kube-apiserver")
	for _, s := range stored {
		if s.Prefix == "" {
			continue
		}
		one := Encrypted{Resource: s.Resource, Provider: s.Prefix, Objects: s.Objects, Readable: "unknown"}
		switch {
		case !api || e.Error != nil:
		case slices.Contains(e.Opened, s.Prefix+s.Resource):
			one.Readable = "yes"
		case e.Unread[s.Resource] > 0:
			one.Readable = "no"
		}
		r.Encrypted = append(r.Encrypted, one)
	}
	r.judgeKeys(e, api)
	r.fit(e, api)
	return nil
}

// judgeKeys says what the API server of this node could not read. Without one nothing can be said.
func (r *rehearsal) judgeKeys(e observe.Encryption, api bool) {
	if !api {
		return
	}
	if e.Error != nil {
		r.found(finding.EncryptionUntried, e.File, "it could not be checked whether the API server can decrypt what "+
			"the snapshot holds: %v", e.Error)
		return
	}
	for _, cannot := range e.Cannot() {
		r.found(finding.EncryptionUnread, e.File, "%s: %s", cannot.Reason, cannot.Hint)
	}
	if prefixes := strings.Join(e.Untried, ", "); prefixes != "" {
		r.found(finding.EncryptionUntried, prefixes, "no value of %s could be tried: only the API server can tell "+
			"whether its key is right", prefixes)
	}
	for _, why := range e.Unasked {
		r.found(finding.EncryptionUntried, "", "%s. Only the API server will show whether it can decrypt what the "+
			"snapshot holds", why)
	}
}

// need tells who the cluster's machines are.
func (r *rehearsal) need(nodes []string) {
	r.Needs.Nodes = nodes
	for _, m := range bind.MembersOf(r.source.report.Members) {
		r.Needs.Members = append(r.Needs.Members, Need{m.Name, r.Needs.Checked && m.Name == r.facts.Node})
	}
}
