package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/together"
)

// What proves, at the end of a restore on several nodes, that all API servers read the same.
// Controllers, leases and events have been written by then, so every node is asked about the same
// revision: what etcd holds at that revision no longer changes.

// served is what a node's API server and its etcd show.
type served struct {
	Server    bool // false: no API server here
	Revision  int64
	Counts    []op.Count
	Member    bool // false: no etcd here
	Hash      uint32
	Compacted int64
	// Denied is why the API server does not tell; empty: it does.
	Denied string `json:",omitempty"`
}

// servedLimit is how long an API server that was ready may take to answer.
const servedLimit = time.Minute

// served asks this node's API server for etcd's revision. Given a revision, it asks the API server
// and this node's etcd what they hold at that revision.
func (p *part) served(ctx context.Context, revision int64) (served, error) {
	clock := p.Node.Host.Clock
	for deadline := clock.Now().Add(servedLimit); ; {
		s, err := p.servedNow(ctx, revision)
		if err == nil || clock.Now().After(deadline) {
			return s, err
		}
		if err := clock.Sleep(ctx, time.Second); err != nil {
			return s, err
		}
	}
}

func (p *part) servedNow(ctx context.Context, revision int64) (s served, err error) {
	s.Revision = revision
	for _, o := range p.Run.Ops {
		verify, ok := o.(*op.VerifyRestored)
		if !ok {
			continue
		}
		if s.Server = true; revision == 0 {
			s.Revision, err = p.Node.API.Revision(ctx, verify.API)
		} else {
			s.Counts, err = p.Node.API.Counts(ctx, verify.API, revision)
		}
	}
	var denied *op.DeniedError
	if errors.As(err, &denied) { // asking again would not help, and etcd can be asked all the same
		s.Server, s.Denied, err = false, fmt.Sprintf("%v; %s", denied, denied.Hint()), nil
	}
	if err != nil || revision == 0 {
		return s, err
	}
	h, err := p.Node.Look.OwnHash(ctx, revision)
	s.Member, s.Hash, s.Compacted = h.Member, h.Hash, h.Compacted
	return s, err
}

// differError says that API servers, or the etcds behind them, show different things. The commit
// point has passed, so a person must look.
type differError struct{ what string }

func (e *differError) Error() string { return e.what }

const differAdvice = "find out what differs between them (`etcdpod status --nodes` also compares flags); then run " +
	"`etcdpod resume` to compare again, or `etcdpod resume --skip-phases verify-restored` to close the run anyway"

// adviceOn says what to do when nodes show different things.
func adviceOn(cause error) string {
	if differ := (*differError)(nil); errors.As(cause, &differ) {
		return differAdvice
	}
	return ""
}

// compareServers compares all API servers, and all members of etcd, at one revision.
func compareServers(ctx context.Context, t *together.Transaction) error {
	at := int64(0)
	for _, p := range t.Peers {
		s, err := together.Query[served](ctx, p, askServed, int64(0))
		if err != nil {
			return err
		}
		if s.Server { // it has read from a quorum
			at = s.Revision
			break
		}
	}
	if at == 0 {
		return nil // each node has said why its API server cannot be asked
	}
	all, err := together.QueryAll[served](ctx, t, askServed, at)
	if err != nil {
		return err
	}
	var names []string
	for _, p := range t.Peers {
		names = append(names, p.Name)
	}
	said, err := sameServed(names, all)
	for i, s := range all {
		if s.Denied != "" && said != "" {
			said += fmt.Sprintf("; the API server of %s was not queried: %s", names[i], s.Denied)
		}
	}
	if said != "" {
		t.Node.Emit(engine.Event{Time: t.Node.Host.Clock.Now().UTC(), Run: t.Run,
			Node: t.Cluster.Coordinator, Phase: "verify-restored", State: engine.Noted, Message: said, Together: true})
	}
	return err
}

// sameServed says what all have in common, or what differs. It does not compare the hashes of
// members compacted at different revisions, nor a resource that only one API server knows (the
// other may not have read its definition yet).
func sameServed(names []string, all []served) (said string, err error) {
	member, server := -1, -1
	members, servers, objects := 0, 0, int64(0)
	for i, s := range all {
		if s.Member {
			if members++; member < 0 {
				member = i
			}
			if first := all[member]; first.Compacted == s.Compacted && first.Hash != s.Hash {
				return "", &differError{
					fmt.Sprintf("the etcd members differ at revision %d: HashKV %08x on %s, %08x on "+
						"%s", s.Revision, first.Hash, names[member], s.Hash, names[i]),
				}
			}
		}
		if s.Server {
			if servers++; server < 0 {
				server = i
			}
			for _, c := range s.Counts {
				if n, known := countOf(all[server].Counts, c.Resource); known && n != c.Objects {
					return "", &differError{
						fmt.Sprintf("the API servers differ at revision %d: %d %s on %s, %d on %s",
							s.Revision, n, c.Resource, names[server], c.Objects, names[i]),
					}
				}
			}
		}
	}
	if servers < 2 {
		return "", nil
	}
	for _, c := range all[server].Counts {
		objects += c.Objects
	}
	return fmt.Sprintf("all %d API servers read the same at revision %d: %d objects; etcd members that hold the "+
		"same: %d", servers, all[server].Revision, objects, members), nil
}

func countOf(counts []op.Count, resource string) (objects int64, known bool) {
	for _, c := range counts {
		if c.Resource == resource {
			return c.Objects, true
		}
	}
	return 0, false
}
