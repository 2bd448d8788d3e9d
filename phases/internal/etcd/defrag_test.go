package etcd

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// fill writes n keys with values of those sizes, in transactions of many.
func (s *server) fill(n int, prefix string, size func(int) int) {
	s.t.Helper()
	c := s.client().v3
	for i := 0; i < n; {
		var ops []clientv3.Op
		for bytes := 0; i < n && len(ops) < 100 && bytes < 1<<20; i++ {
			value := strings.Repeat("v", size(i))
			bytes += len(value)
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/registry/%s/%07d", prefix, i), value))
		}
		if _, err := c.Txn(s.t.Context()).Then(ops...).Commit(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// compact leaves nothing but what is live now, and returns when that is done.
func (s *server) compact() {
	s.t.Helper()
	c := s.client().v3
	r, err := c.Get(s.t.Context(), "none")
	if err == nil {
		_, err = c.Compact(s.t.Context(), r.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// shapes are what databases are like.
func shapes() map[string]func(*server) {
	random := rand.New(rand.NewPCG(1, 2))
	return map[string]func(*server){
		"small ones, in order": func(s *server) { s.fill(20000, "a", func(int) int { return 200 }) },
		"two of three deleted, here and there": func(s *server) {
			s.fill(20000, "b", func(int) int { return 300 })
			c := s.client().v3
			for i := 0; i < 20000; {
				var ops []clientv3.Op
				for ; i < 20000 && len(ops) < 100; i++ {
					if random.IntN(3) > 0 {
						ops = append(ops, clientv3.OpDelete(fmt.Sprintf("/registry/b/%07d", i)))
					}
				}
				if _, err := c.Txn(s.t.Context()).Then(ops...).Commit(); err != nil {
					s.t.Fatal(err)
				}
			}
			s.compact()
		},
		"written again and again": func(s *server) {
			for range 5 {
				s.fill(3000, "c", func(int) int { return 1000 })
			}
			s.compact()
		},
		"large ones": func(s *server) {
			s.fill(60, "d", func(i int) int { return 100_000 + 7000*(i%9) })
			s.fill(30, "d", func(int) int { return 10 })
			s.compact()
		},
		"of all sizes": func(s *server) {
			for range 3 {
				s.fill(4000, "e", func(int) int { return int(random.ExpFloat64() * 2500) })
			}
			s.compact()
		},
	}
}

func TestTheSizeAfterADefragmentationIsKnownBefore(t *testing.T) {
	t.Parallel()
	for name, make := range shapes() {
		for i, version := range versions {
			if i > 0 && name != "of all sizes" {
				continue // what they write to the disk is the same
			}
			t.Run(name+", "+version, func(t *testing.T) {
				s := newServer(t, "a").start(version, "--unsafe-no-fsync").await()
				make(s)
				// It writes what is in memory alone.
				written, err := s.client().v3.Snapshot(t.Context())
				if err == nil {
					_, err = io.Copy(io.Discard, written)
				}
				if err != nil {
					t.Fatal(err)
				}
				predicted, err := snapfile.Packed(t.Context(), dbPath(s.Dir))
				if err != nil {
					t.Fatal(err)
				}
				before := s.client().Status(t.Context())[0]
				if err := <-Defragment(t.Context(), Access{Endpoints: []string{s.Endpoint}}); err != nil {
					t.Fatal(err)
				}
				after := s.client().Status(t.Context())[0].SizeBytes
				off := float64(predicted-after) / float64(after)
				t.Logf("%d bytes, %d in use; predicted %d, is %d: %+.1f %%", before.SizeBytes, before.InUseBytes,
					predicted, after, 100*off)
				if off > 0.1 || off < -0.1 {
					t.Errorf("predicted %d, is %d: %+.1f %%", predicted, after, 100*off)
				}
			})
		}
	}
}

func TestAMemberSaysWhetherItIsDefragmented(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newServer(t, "a")
			s.start(version, append([]string{"--quota-backend-bytes", "33554432"}, unflushed...)...).await()
			a, id := Access{Endpoints: []string{s.Endpoint}}, s.client().Status(t.Context())[0].MemberID
			v, err := VitalsOf(t.Context(), a, id)
			if err != nil || v != (Vitals{QuotaBytes: 32 << 20}) {
				t.Errorf("at first: %+v, %v", v, err)
			}
			if err := <-Defragment(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if v, err := VitalsOf(t.Context(), a, id); err != nil || v.Defrags != 1 || v.Defragmenting {
				t.Errorf("then: %+v, %v", v, err)
			}
			eventually(t, func() error { // on a busy machine it may not answer in time
				_, err := VitalsOf(t.Context(), a, id+1)
				if err == nil || strings.Contains(err.Error(), "of another member") {
					return nil
				}
				return err
			})
			if _, err := VitalsOf(t.Context(), a, id+1); err == nil {
				t.Error("what another member says counts")
			}
			s.kill()
			if _, err := VitalsOf(t.Context(), a, id); !errors.Is(err, ErrDown) {
				t.Errorf("one that is down: %v", err)
			}
		})
	}
}

func TestWhatMetricsDoNotSayIsAnError(t *testing.T) {
	t.Parallel()
	const whose = "etcd_server_id{server_id=\"a\"} 1\n"
	for text, want := range map[string]string{
		"": "does not say", whose: "does not say",
		whose + "etcd_disk_defrag_inflight 0\n":                                     "",
		whose + "# TYPE etcd_disk_defrag_inflight gauge\n":                          "does not say",
		"etcd_server_id{server_id=\"b\"} 1\netcd_disk_defrag_inflight 0\n":          "of another member",
		whose + "etcd_disk_defrag_inflight 1\netcd_server_quota_backend_bytes -1\n": "",
	} {
		v, err := vitalsIn(text, 10)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		if v.QuotaBytes != 0 || v.Defragmenting != strings.Contains(text, "inflight 1") {
			t.Errorf("%q: %+v", text, v)
		}
	}
}

func TestAClaimIsHadOnceAndEndsByItself(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newServer(t, "a").start(version, unflushed...).await()
			c, ctx := s.client(), t.Context()
			revision, _ := c.Revision(ctx)
			const id, ttl = 42, 2 * time.Second
			if ok, err := c.Claim(ctx, id, ttl); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if ok, err := c.Claim(ctx, id, ttl); ok || err != nil {
				t.Errorf("had twice: %v", err)
			}
			if ends, err := c.ClaimEnds(ctx, id); ends > ttl || err != nil {
				t.Errorf("%s, %v", ends, err)
			}
			if err := c.RenewClaim(ctx, id, ttl); err != nil {
				t.Error(err)
			}
			eventually(t, func() error { // nobody renews it
				ok, err := c.Claim(ctx, id, time.Minute)
				if err == nil && !ok {
					err = errors.New("it lasts")
				}
				return err
			})
			if err := errors.Join(c.EndClaim(ctx, id, time.Minute), c.EndClaim(ctx, id, time.Minute)); err != nil {
				t.Error(err)
			}
			if err := c.RenewClaim(ctx, id, ttl); err == nil {
				t.Error("renewed, and it had ended")
			}
			if ends, err := c.ClaimEnds(ctx, id); ends != 0 || err != nil {
				t.Errorf("%s, %v", ends, err)
			}
			if now, err := c.Revision(ctx); now != revision || err != nil {
				t.Errorf("it is written in revision %d, after %d: %v", now, revision, err)
			}
		})
	}
}

func TestOnlyTheAlarmOfSpaceIsDisarmed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "a").start("3.6.16", unflushed...).await()
	c, ctx := s.client(), t.Context()
	maintenance := pb.NewMaintenanceClient(c.v3.ActiveConnection())
	for _, kind := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		if _, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 7,
			Alarm: kind}); err != nil {
			t.Fatal(err)
		}
	}
	if was, err := c.DisarmNoSpace(ctx); err != nil || len(was) != 1 || was[0] != (Alarm{7, NoSpace}) {
		t.Errorf("%v, %v", was, err)
	}
	if left, err := c.Alarms(ctx); err != nil || len(left) != 1 || left[0].Name != "CORRUPT" {
		t.Errorf("%v, %v", left, err)
	}
}

func TestAMemberWithTLSIsSeenAndDefragmented(t *testing.T) {
	t.Parallel()
	ours, theirs, later := newAuthority(t), newAuthority(t), time.Now().Add(time.Hour)
	s := newServer(t, "a").startTLS(ours, "127.0.0.1", later)
	a := Access{Endpoints: []string{s.Endpoint}, CA: ours.PEM}
	a.Cert, a.Key = ours.leaf("127.0.0.1", later)
	var id uint64
	eventually(t, func() error {
		c, err := Dial(t.Context(), a)
		if err != nil {
			return err
		}
		defer c.Close()
		st := c.Status(t.Context())[0]
		id = st.MemberID
		return st.Err
	})
	if err := <-Defragment(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		v, err := VitalsOf(t.Context(), a, id)
		if err == nil && (v.Defrags != 1 || v.Defragmenting) {
			err = fmt.Errorf("%+v", v)
		}
		return err
	})
	a.Cert, a.Key = theirs.leaf("127.0.0.1", later)
	if _, err := VitalsOf(t.Context(), a, id); err == nil || errors.Is(err, ErrDown) {
		t.Errorf("with another CA's certificate: %v", err)
	}
	if err := <-Defragment(t.Context(), a); err == nil || errors.As(err, new(*LostError)) {
		t.Errorf("what was never asked is %v", err)
	}
}
