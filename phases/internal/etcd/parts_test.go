package etcd

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

func TestPartsAreDecodedAsEtcdMeansThem(t *testing.T) {
	codec, p := partCodec{}, new(part)
	for name, want := range map[string]*pb.SnapshotResponse{
		"the first part of a 3.6": {Header: &pb.ResponseHeader{Revision: 7},
			RemainingBytes: 1 << 40, Blob: bytes.Repeat([]byte{1}, 32<<10), Version: "3.6.0"},
		"a later part":         {RemainingBytes: 5, Blob: []byte{2, 3}},
		"the trailer of a 3.5": {Blob: bytes.Repeat([]byte{9}, 32)},
		"nothing":              {},
	} {
		raw, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		data := mem.BufferSlice{mem.SliceBuffer(raw[:len(raw)/3]), mem.SliceBuffer(raw[len(raw)/3:])}
		if err := codec.Unmarshal(data, p); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.remaining != want.RemainingBytes || !bytes.Equal(bytes.Join(p.blob, nil), want.Blob) {
			t.Errorf("%s: got %d bytes, %d to come", name, len(bytes.Join(p.blob, nil)), p.remaining)
		}
		if len(raw) > 0 {
			if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw[:len(raw)-1])}, p); err == nil {
				t.Errorf("%s: its beginning passes for the whole", name)
			}
		}
	}
}
