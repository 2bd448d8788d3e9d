package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// maxV2 is how many keys and requests of the v2 API are named.
const maxV2 = 3

// V2Content finds what clients of the v2 API have left in a member's files, which etcd 3.6 does not
// start with: keys in the newest snapshot of the log, and requests in the log after that. It names
// the first few; none: there is nothing. own counts the requests of that API in the log that etcd
// 3.5 wrote itself: 3.6 reads them, and 3.7 panics. The member may be running, and nothing is
// changed. walDir is "" where it is member/wal.
func V2Content(dir, walDir string) (found []string, own int, err error) {
	if walDir == "" {
		walDir = filepath.Join(dir, "member", "wal")
	}
	snapshot, err := newestSnapshot(filepath.Join(dir, "member", "snap"))
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the v2 store in %s: %w", dir, err)
	}
	found = []string{}
	if snapshot != nil {
		if found, err = keysInV2(snapshot.GetData()); err != nil {
			return nil, 0, fmt.Errorf("cannot read the v2 store in %s: %w", dir, err)
		}
	}
	after := snapshot.GetMetadata().GetIndex()
	err = eachEntry(walDir, after, func(e *raftpb.Entry) {
		request, etcds := v2Request(e)
		if etcds {
			own++
		} else if request != "" && len(found) < maxV2 && !slices.Contains(found, request) {
			found = append(found, request)
		}
	})
	return found, own, err
}

// newestSnapshot is the newest one that is whole: etcd may be writing another. nil: there is none.
func newestSnapshot(dir string) (*raftpb.Snapshot, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if filepath.Ext(f.Name()) == ".snap" {
			names = append(names, f.Name())
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(names))) // term and index, in hex
	var broken error
	for _, name := range names {
		file := filepath.Join(dir, name)
		if st, err := os.Lstat(file); err != nil || !st.Mode().IsRegular() {
			continue
		}
		s, err := snap.Read(zap.NewNop(), file)
		if err == nil {
			return s, nil
		}
		if broken == nil && !errors.Is(err, fs.ErrNotExist) { // purged meanwhile
			broken = fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil, broken
}

// v2Node is a key of the v2 store (etcd 3.5, server/etcdserver/api/v2store/node.go).
type v2Node struct {
	Path     string
	Children map[string]*v2Node
}

// shown are the children that a listing shows: those with an underscore are hidden.
func (n *v2Node) shown() (all []*v2Node) {
	for name, child := range n.Children {
		if !strings.HasPrefix(name, "_") && child != nil {
			all = append(all, child)
		}
	}
	slices.SortFunc(all, func(a, b *v2Node) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// keysInV2 finds the keys that are not etcd's own, as etcd 3.6 looks for them when it starts
// (server/etcdserver/api/membership: IsMetaStoreOnly): members and version are below /0, users and
// roles below /2, where empty lists of them stay for ever.
func keysInV2(data []byte) ([]string, error) {
	found := []string{}
	if len(data) == 0 {
		return found, nil
	}
	var store struct{ Root *v2Node }
	if err := json.Unmarshal(data, &store); err != nil {
		return nil, err
	}
	if store.Root == nil {
		return found, nil
	}
	add := func(nodes []*v2Node) {
		for _, n := range nodes {
			if len(found) < maxV2 {
				found = append(found, "the key "+n.Path)
			}
		}
	}
	for _, top := range store.Root.shown() {
		switch top.Path {
		case "/0":
		case "/2":
			for _, list := range top.shown() {
				add(list.shown())
			}
		default:
			add(top.shown())
		}
	}
	return found, nil
}

// ownV2 are the paths that etcd up to 3.5 writes by a request of the v2 API itself.
var ownV2 = regexp.MustCompile(`^/0/(version|members/[[:xdigit:]]{1,16}/attributes)$`)

// v2Request names the request of the v2 API in an entry; empty: it has none. own says that etcd
// wrote it itself. etcd 3.6 panics at all others that it replays (server/etcdserver/apply_v2.go).
func v2Request(e *raftpb.Entry) (request string, own bool) {
	if e.GetType() != raftpb.EntryNormal || len(e.Data) == 0 {
		return "", false
	}
	if r, err := decodeRequest(e); r != nil || err != nil {
		return "", false
	}
	data := e.Data
	if inner, ok := bytesField(e.Data, 2); ok {
		if _, wrapped := bytesField(inner, 2); wrapped {
			data = inner
		}
	}
	method, _ := bytesField(data, 2)
	at, _ := bytesField(data, 3)
	return strings.TrimSpace(fmt.Sprintf("the request %s %s", method, at)),
		string(method) == "PUT" && ownV2.Match(at)
}

// eachEntry goes through the entries of a log after an index, and keeps none. A torn end is one
// that etcd is writing.
func eachEntry(walDir string, after uint64, visit func(*raftpb.Entry)) error {
	files, _, err := logFiles(walDir, after)
	if err != nil {
		return err
	}
	for i, file := range files {
		if err := entriesOf(file, after, visit); err != nil && i < len(files)-1 {
			return fmt.Errorf("cannot read %s: %w", file, err)
		}
	}
	return nil
}

func entriesOf(file string, after uint64, visit func(*raftpb.Entry)) error {
	f, _, err := snapfile.OpenPlain(file)
	if err != nil {
		return err
	}
	defer f.Close()
	decoder, rec := wal.NewDecoder(fileutil.NewFileReader(f)), new(walpb.Record)
	for {
		err := decoder.Decode(rec)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case rec.GetType() == wal.CrcType:
			decoder.UpdateCRC(rec.GetCrc())
		case rec.GetType() == wal.EntryType:
			e := new(raftpb.Entry)
			if err := proto.Unmarshal(rec.Data, e); err != nil {
				return err
			}
			if e.GetIndex() > after {
				visit(e)
			}
		}
	}
}
