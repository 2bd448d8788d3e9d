package etcd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// Status is what one endpoint reports about itself.
type Status struct {
	Endpoint       string
	Err            error // why it did not report; everything below is zero then
	ClusterID      uint64
	MemberID       uint64
	Version        string // of the server, such as 3.6.16
	StorageVersion string // of its data, such as 3.6.0; empty on 3.5
	SizeBytes      int64  // of the db file
	InUseBytes     int64
	QuotaBytes     int64  // 0 on 3.5, which does not report it
	Leader         uint64 // member id, 0 for none
	Learner        bool
	Revision       int64
	RaftTerm       uint64
	RaftIndex      uint64 // committed
	RaftApplied    uint64
	Downgrade      string   // target of a downgrade that has not ended; 3.6 and later
	Errors         []string // alarms and "no leader", as etcd words them
}

// Status asks every endpoint at once, and returns the answers in the endpoints' order. An endpoint
// that does not answer has Err set.
func (c *Client) Status(ctx context.Context) []Status {
	all := make([]Status, len(c.access.Endpoints))
	waits := make([]func(), len(all))
	for i, e := range c.access.Endpoints {
		_, waits[i] = snapfile.Beside(func() { all[i] = c.status(ctx, e) })
	}
	for _, wait := range waits {
		wait()
	}
	return all
}

func (c *Client) status(ctx context.Context, endpoint string) Status {
	// The library retries a server that is down until the time is up: check the socket first.
	if err := c.probe(ctx, endpoint); err != nil {
		return Status{Endpoint: endpoint, Err: &Unreachable{Endpoints: []string{endpoint}, Reason: c.reason(err)}}
	}
	r, err := call(ctx, c, c.access.CallTimeout, "read the status of etcd",
		endpoint, func(ctx context.Context) (*clientv3.StatusResponse, error) {
			return c.v3.Status(ctx, endpoint)
		})
	if err != nil {
		return Status{Endpoint: endpoint, Err: err}
	}
	downgrade := ""
	if d := r.DowngradeInfo; d != nil && d.Enabled {
		downgrade = d.TargetVersion
	}
	return Status{
		Endpoint: endpoint, ClusterID: r.Header.ClusterId, MemberID: r.Header.MemberId,
		Version: r.Version, StorageVersion: r.StorageVersion,
		SizeBytes: r.DbSize, InUseBytes: r.DbSizeInUse, QuotaBytes: r.DbSizeQuota,
		Leader: r.Leader, Learner: r.IsLearner,
		Revision: r.Header.Revision, RaftTerm: r.RaftTerm, RaftIndex: r.RaftIndex,
		RaftApplied: r.RaftAppliedIndex, Downgrade: downgrade, Errors: r.Errors,
	}
}

// Member is one member of the cluster, as in a snapshot.
type Member = snapfile.Member

// Members returns the members as a quorum knows them.
func (c *Client) Members(ctx context.Context) ([]Member, error) { return c.memberList(ctx) }

// OwnMembers returns the members as the first endpoint knows them: without a quorum
// there is nothing better.
func (c *Client) OwnMembers(ctx context.Context) ([]Member, error) {
	return c.memberList(ctx, clientv3.WithSerializable())
}

func (c *Client) memberList(ctx context.Context, opts ...clientv3.OpOption) ([]Member, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "list the members of etcd",
		"", func(ctx context.Context) (*clientv3.MemberListResponse, error) {
			return c.v3.MemberList(ctx, opts...)
		})
	if err != nil {
		return nil, err
	}
	members := make([]Member, len(r.Members))
	for i, m := range r.Members {
		members[i] = Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs,
			ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
	}
	return members, nil
}

// AddLearner adds a member without a vote, at its peer URLs, and returns its id. etcd refuses a
// second member at a URL.
func (c *Client) AddLearner(ctx context.Context, peerURLs []string) (uint64, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "add the learner "+peerURLs[0],
		"", func(ctx context.Context) (*clientv3.MemberAddResponse, error) {
			return c.v3.MemberAddAsLearner(ctx, peerURLs)
		})
	if err != nil {
		return 0, err
	}
	return r.Member.ID, nil
}

// PromoteLearner gives a learner its vote. etcd refuses until it has 90 % of the leader's data.
func (c *Client) PromoteLearner(ctx context.Context, id uint64) error {
	_, err := call(ctx, c, c.access.CallTimeout, "promote the learner "+FormatID(id),
		"", func(ctx context.Context) (*clientv3.MemberPromoteResponse, error) {
			return c.v3.MemberPromote(ctx, id)
		})
	return err
}

// RemoveMember removes a member from the cluster. An unknown id is no error.
func (c *Client) RemoveMember(ctx context.Context, id uint64) error {
	_, err := call(ctx, c, c.access.CallTimeout, "remove the member "+FormatID(id),
		"", func(ctx context.Context) (*clientv3.MemberRemoveResponse, error) {
			return c.v3.MemberRemove(ctx, id)
		})
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil
	}
	return err
}

// MoveLeader has the member at the first endpoint, which must lead, hand over to another voter. It
// returns once the old leader follows the new one.
func (c *Client) MoveLeader(ctx context.Context, to uint64) error {
	_, err := call(ctx, c, c.access.CallTimeout, "move the leader to "+FormatID(to),
		c.first, func(ctx context.Context) (*clientv3.MoveLeaderResponse, error) {
			return c.v3.MoveLeader(ctx, to)
		})
	return err
}

// SetPeerURLs changes at which URLs the other members reach one. It may be one that has never
// started.
func (c *Client) SetPeerURLs(ctx context.Context, id uint64, urls []string) error {
	_, err := call(ctx, c, c.access.CallTimeout, "set the peer URLs of "+FormatID(id),
		"", func(ctx context.Context) (*clientv3.MemberUpdateResponse, error) {
			return c.v3.MemberUpdate(ctx, id, urls)
		})
	return err
}

// Alarm is one raised alarm.
type Alarm struct {
	MemberID uint64 // may be of a member that no longer exists, after a restore
	Name     string // NOSPACE or CORRUPT
}

// alarmText is how a status words an alarm: as protobuf's text, whose spaces vary.
var alarmText = regexp.MustCompile(`^(?:memberID:(\d+)\s+)?alarm:(\w+)\s*$`)

// AlarmIn reads one of the [Status.Errors]. An alarm of no particular member has the id 0.
func AlarmIn(text string) (id uint64, name string, ok bool) {
	found := alarmText.FindStringSubmatch(text)
	if found == nil {
		return 0, "", false
	}
	if found[1] != "" {
		var err error
		if id, err = strconv.ParseUint(found[1], 10, 64); err != nil {
			return 0, "", false
		}
	}
	return id, found[2], true
}

// Alarms returns the raised alarms.
func (c *Client) Alarms(ctx context.Context) ([]Alarm, error) {
	r, err := call(ctx, c, c.access.CallTimeout, "list the alarms of etcd",
		"", func(ctx context.Context) (*clientv3.AlarmResponse, error) {
			return c.v3.AlarmList(ctx)
		})
	if err != nil {
		return nil, err
	}
	var alarms []Alarm
	for _, a := range r.Alarms {
		alarms = append(alarms, Alarm{MemberID: a.MemberID, Name: a.Alarm.String()})
	}
	return alarms, nil
}

// Disarm turns off all alarms, including those of members that no longer exist, and returns them.
// The cause of an alarm stays.
func (c *Client) Disarm(ctx context.Context) ([]Alarm, error) {
	return c.disarm(ctx, func(Alarm) bool { return true })
}

// NoSpace is the alarm of a member whose database has reached its quota.
const NoSpace = "NOSPACE"

// DisarmNoSpace is [Client.Disarm] for that alarm alone.
func (c *Client) DisarmNoSpace(ctx context.Context) ([]Alarm, error) {
	return c.disarm(ctx, func(a Alarm) bool { return a.Name == NoSpace })
}

func (c *Client) disarm(ctx context.Context, which func(Alarm) bool) (disarmed []Alarm, err error) {
	alarms, err := c.Alarms(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range alarms {
		if !which(a) {
			continue
		}
		_, err := call(ctx, c, c.access.CallTimeout, "disarm "+a.Name,
			"", func(ctx context.Context) (*clientv3.AlarmResponse, error) {
				return c.v3.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: a.MemberID,
					Alarm: pb.AlarmType(pb.AlarmType_value[a.Name])})
			})
		if err != nil {
			return disarmed, err
		}
		disarmed = append(disarmed, a)
	}
	return disarmed, nil
}

// Hash is a hash of the keys and values of one member. Two members' hashes are comparable when both
// revisions are equal.
type Hash struct {
	Hash            uint32
	CompactRevision int64 // -1 when nothing has been compacted yet
	Revision        int64 // the last one in the hash
}

// HashKV hashes the keys of the member behind an endpoint up to a revision (0: all). Meanwhile
// writes to that member wait, for about 0.3 s per GB; only ctx bounds the time.
func (c *Client) HashKV(ctx context.Context, endpoint string, revision int64) (Hash, error) {
	r, err := call(ctx, c, 0, "hash the keys of etcd at "+endpoint,
		endpoint, func(ctx context.Context) (*clientv3.HashKVResponse, error) {
			return c.v3.HashKV(ctx, endpoint, revision)
		})
	if err != nil {
		return Hash{}, err
	}
	h := Hash{Hash: r.Hash, CompactRevision: r.CompactRevision, Revision: r.HashRevision}
	if h.Revision == 0 { // servers before 3.6 do not report it
		h.Revision = revision
		if revision == 0 {
			h.Revision = r.Header.Revision
		}
	}
	return h, nil
}

// Ready returns nil when a quorum answers a linearizable read, as etcd's own /health does.
func (c *Client) Ready(ctx context.Context) error {
	_, err := call(ctx, c, c.access.CallTimeout, "read from etcd",
		"", func(ctx context.Context) (*clientv3.GetResponse, error) {
			r, err := c.v3.Get(ctx, "health")
			// With etcd's authentication on, a refusal came through raft just as well.
			if errors.Is(err, rpctypes.ErrPermissionDenied) {
				return r, nil
			}
			return r, err
		})
	return err
}

// FormatID writes a member or cluster id as etcdctl does.
func FormatID(id uint64) string { return fmt.Sprintf("%x", id) }
