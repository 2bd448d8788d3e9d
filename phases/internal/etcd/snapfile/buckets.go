package snapfile

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The buckets that etcd 3.5 to 3.7 reads when it boots (server/storage/schema/bucket.go). What
// would make it panic is checked; a newer etcd's buckets and keys are skipped.
const (
	maxRecord  = 64 << 10 // bytes of one record that is decoded
	maxMembers = 1024     // far beyond any cluster; so are the other limits
	maxAlarms  = 4 * maxMembers
	maxBuckets = 64
)

// contents gathers the contents of all buckets except the key bucket, and that one's place.
type contents struct {
	report      *Report
	keys        *bucket
	metaSeen    bool
	finished    int64 // compact revisions; -1 if not stored
	scheduled   int64
	keyVisitor  func(bucket) *visitor // nil: the key bucket is skipped
	onlyBuckets []string              // nil: all
}

func newContents(r *Report) *contents { return &contents{report: r, finished: -1, scheduled: -1} }

// missing returns a bucket that a db must have and does not; "" if it has all. etcd makes them when
// it boots, and commits each before it applies its first entry (3.5: lease/lessor.go,
// auth/store.go, etcdserver/api/v3alarm/alarms.go; 3.6 and 3.7: storage/schema). bbolt has no
// checksum that would show a damaged name.
func (c *contents) missing() string {
	if c.report.ConsistentIndex == 0 || len(c.report.Buckets) == maxBuckets {
		return ""
	}
	for _, name := range []string{"alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members",
		"members_removed", "meta"} {
		if !slices.Contains(c.report.Buckets, name) {
			return name
		}
	}
	return ""
}

// root visits the root bucket.
func (c *contents) root() *visitor { return &visitor{bucket: c.top} }

func (c *contents) top(name []byte, b bucket) (*visitor, error) {
	if len(c.report.Buckets) < maxBuckets {
		c.report.Buckets = append(c.report.Buckets, string(name[:min(len(name), 256)]))
	}
	if c.onlyBuckets != nil && string(name) != "key" && !slices.Contains(c.onlyBuckets, string(name)) {
		return nil, nil
	}
	records := func(f func(k, v []byte) string) (*visitor, error) { return c.records(string(name), f), nil }
	switch string(name) {
	case "key":
		c.keys = &b
		if c.keyVisitor == nil {
			return nil, nil
		}
		return c.keyVisitor(b), nil
	case "meta":
		c.metaSeen = true
		return records(c.metaRecord)
	case "members":
		return records(c.member)
	case "members_removed":
		return records(c.removed)
	case "cluster":
		return records(c.cluster)
	case "alarm":
		return records(func(k, _ []byte) string { return c.alarm(k) })
	case "lease":
		return records(c.lease)
	}
	return anything(), nil
}

// anything visits a bucket and checks only its structure.
func anything() *visitor {
	return &visitor{entry: func(*entry) error { return nil }, bucket: func([]byte, bucket) (*visitor, error) {
		return anything(), nil
	}}
}

// records visits a bucket of small records. f says what is wrong with one.
func (c *contents) records(name string, f func(k, v []byte) string) *visitor {
	return &visitor{bucket: noBucket(name), entry: func(e *entry) error {
		wrong := ""
		if e.size > maxRecord {
			wrong = fmt.Sprintf("its value has %d bytes", e.size)
		} else if b, err := e.window.at(e.off, len(e.key)+int(e.size)); err != nil {
			return err
		} else {
			wrong = f(b[:len(e.key)], b[len(e.key):])
		}
		if wrong == "" {
			return nil
		}
		return bad(CheckKeys, e.off, "the record %q at offset %d in the bucket %q: %s",
			short(e.key), e.off, name, wrong)
	}}
}

func (c *contents) metaRecord(k, v []byte) string {
	r := c.report
	switch string(k) {
	case "consistent_index", "term":
		if len(v) != 8 {
			return fmt.Sprintf("%d bytes are not a number", len(v))
		}
		if string(k) == "term" {
			r.Term = binary.BigEndian.Uint64(v)
		} else {
			r.ConsistentIndex = binary.BigEndian.Uint64(v)
		}
	case "finishedCompactRev", "scheduledCompactRev":
		if len(v) != 17 || v[8] != '_' || v[0] >= 0x80 {
			return fmt.Sprintf("%q is not a revision", short(v))
		}
		rev := int64(binary.BigEndian.Uint64(v))
		if string(k) == "finishedCompactRev" {
			c.finished, r.CompactRevision = rev, rev
		} else {
			c.scheduled, r.ScheduledCompactRevision = rev, rev
		}
	case "storageVersion":
		r.StorageVersion = string(v)
		return notVersion(v)
	case "confState":
		if !json.Valid(v) {
			return "it is not JSON"
		}
	}
	return ""
}

func (c *contents) cluster(k, v []byte) string {
	switch string(k) {
	case "clusterVersion":
		c.report.ClusterVersion = string(v)
		return notVersion(v)
	case "downgrade":
		if !json.Valid(v) {
			return "it is not JSON"
		}
	}
	return ""
}

// notVersion says what is wrong with major.minor.patch.
func notVersion(v []byte) string {
	number, _, _ := strings.Cut(string(v), "-")
	number, _, _ = strings.Cut(number, "+")
	parts := strings.Split(number, ".")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 31); err != nil || len(parts) != 3 {
			return fmt.Sprintf("%q is not a version", short(v))
		}
	}
	return ""
}

func memberID(k []byte) (uint64, string) {
	id, err := strconv.ParseUint(string(k), 16, 64)
	if err != nil {
		return 0, "its key is not a member ID in hexadecimal digits"
	}
	return id, ""
}

func (c *contents) member(k, v []byte) string {
	id, wrong := memberID(k)
	if wrong != "" {
		return wrong
	}
	var m struct {
		ID                   *uint64
		Name                 string
		PeerURLs, ClientURLs []string
		IsLearner            bool
	}
	if err := json.Unmarshal(v, &m); err != nil {
		return "it is not a member: " + err.Error()
	}
	switch {
	case m.ID != nil && *m.ID != id:
		return fmt.Sprintf("it is of member %x", *m.ID)
	case len(c.report.Members) == maxMembers:
		return fmt.Sprintf("more than %d members", maxMembers)
	}
	c.report.Members = append(c.report.Members, Member{id, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner})
	return ""
}

func (c *contents) removed(k, _ []byte) string {
	id, wrong := memberID(k)
	if wrong == "" && len(c.report.Removed) < maxMembers {
		c.report.Removed = append(c.report.Removed, id)
	}
	return wrong
}

// alarm decodes an etcdserverpb.AlarmMember, which etcd stores as the key.
func (c *contents) alarm(k []byte) string {
	var a Alarm
	kind := uint64(0)
	wrong := smallMessage(k, func(number, value uint64) {
		switch number {
		case 1:
			a.MemberID = value
		case 2:
			kind = value
		}
	})
	switch kind {
	case 0:
		return wrong // NONE: not raised
	case 1:
		a.Type = "NOSPACE"
	case 2:
		a.Type = "CORRUPT"
	default:
		a.Type = strconv.FormatUint(kind, 10)
	}
	if len(c.report.Alarms) == maxAlarms {
		return fmt.Sprintf("more than %d alarms", maxAlarms)
	}
	c.report.Alarms = append(c.report.Alarms, a)
	return wrong
}

// lease decodes a leasepb.Lease.
func (c *contents) lease(k, v []byte) string {
	if len(k) != 8 {
		return fmt.Sprintf("a key of %d bytes is not a lease ID", len(k))
	}
	var id uint64
	if wrong := smallMessage(v, func(number, value uint64) {
		if number == 1 {
			id = value
		}
	}); wrong != "" {
		return wrong
	}
	if id != binary.BigEndian.Uint64(k) {
		return fmt.Sprintf("it is of lease %x", id)
	}
	c.report.Leases++
	return ""
}

// smallMessage goes through the numbers of a protobuf message in memory.
func smallMessage(b []byte, f func(number, value uint64)) string {
	m := message{window: &window{buf: b, max: len(b), limit: int64(len(b))}, end: int64(len(b))}
	for {
		field, wrong, err := m.next()
		if err != nil {
			return err.Error()
		}
		if wrong != "" || field.number == 0 {
			return wrong
		}
		if !field.delimited {
			f(field.number, field.value)
		}
	}
}

// judge says what is missing, and works out the revisions that an etcd would boot with (mvcc
// kvstore.go, restore): it resumes a compaction that was begun, and never reuses a revision
// that compaction removed.
func (c *contents) judge(last int64) error {
	switch {
	case c.keys == nil:
		return bad(CheckKeys, 0, "there is no bucket %q: this is not etcd's database", "key")
	case !c.metaSeen:
		return bad(CheckKeys, 0, "there is no bucket %q: this is not etcd's database", "meta")
	}
	r := c.report
	r.HashCompactRevision = c.finished
	if c.scheduled > 0 {
		r.HashCompactRevision = max(c.finished, c.scheduled)
	}
	r.Revision = max(1, last, c.finished, c.scheduled)
	r.HashRevision = r.Revision
	return nil
}
