package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// part is what of an etcdserverpb.SnapshotResponse matters. A snapshot of 1 GB comes in 30,000 of them; this one is decoded in place, over and over, where
// the generated code allocates and copies each twice.
type part struct {
	raw       []byte // blob is within it
	remaining uint64 // bytes, not counting this part and the trailer
	blob      []byte
	version   string // storage version; in 3.6 and later
}

// parts asks a member for a snapshot.
func parts(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	codec := grpc.ForceCodecV2(partCodec{encoding.GetCodecV2("proto")})
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, pb.Maintenance_Snapshot_FullMethodName, codec, grpc.MaxCallRecvMsgSize(64<<20))
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&pb.SnapshotRequest{}); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// partCodec is the usual one, but for what is received.
type partCodec struct{ encoding.CodecV2 }

func (partCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*part)
	if !ok {
		return errors.New("not a part of a snapshot")
	}
	if n := data.Len(); n > cap(p.raw) {
		p.raw = make([]byte, n)
	} else {
		p.raw = p.raw[:n]
	}
	data.CopyTo(p.raw)
	return p.decode()
}

func (p *part) decode() error {
	p.remaining, p.blob, p.version = 0, nil, ""
	for b := p.raw; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case number == 2 && kind == protowire.VarintType:
			p.remaining, n = protowire.ConsumeVarint(b)
		case number == 3 && kind == protowire.BytesType:
			p.blob, n = protowire.ConsumeBytes(b)
		case number == 4 && kind == protowire.BytesType:
			p.version, n = protowire.ConsumeString(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}
