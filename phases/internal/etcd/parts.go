package etcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// part is what matters of an etcdserverpb.SnapshotResponse. A 1 GB snapshot has 30,000
// of them; this one is decoded in place and reused, where the generated code allocates
// and copies each twice.
type part struct {
	data      mem.BufferSlice // as received; held until the next part comes
	remaining uint64          // bytes, not counting this part and the trailer
	blob      [][]byte        // within data
}

// parts asks a member for a snapshot.
func parts(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	codec := grpc.ForceCodecV2(partCodec{encoding.GetCodecV2("proto")})
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true},
		pb.Maintenance_Snapshot_FullMethodName, codec, grpc.MaxCallRecvMsgSize(64<<20))
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&pb.SnapshotRequest{}); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// partCodec is the usual codec, except for what is received.
type partCodec struct{ encoding.CodecV2 }

func (partCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*part)
	if !ok {
		return errors.New("not a part of a snapshot")
	}
	p.release()
	data.Ref()
	p.data = data
	return p.decode()
}

// release frees the part's receive buffer.
func (p *part) release() {
	p.data.Free()
	p.data, p.blob = nil, p.blob[:0]
}

func (p *part) decode() error {
	p.remaining = 0
	r := p.data.Reader()
	defer func() { _ = r.Close() }()
	for r.Remaining() > 0 {
		tag, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		value := uint64(0) // of a number, or the length of bytes
		switch kind {
		case protowire.VarintType, protowire.BytesType:
			value, err = binary.ReadUvarint(r)
		case protowire.Fixed32Type:
			_, err = r.Discard(4)
		case protowire.Fixed64Type:
			_, err = r.Discard(8)
		default:
			err = fmt.Errorf("field %d is of the unknown kind %d", number, kind)
		}
		if err == nil && kind == protowire.BytesType {
			err = p.take(r, number, value)
		}
		if err != nil {
			return err
		}
		if number == 2 && kind == protowire.VarintType {
			p.remaining = value
		}
	}
	return nil
}

// take reads a field of bytes.
func (p *part) take(r *mem.Reader, number protowire.Number, size uint64) (err error) {
	if size > uint64(r.Remaining()) {
		return io.ErrUnexpectedEOF
	}
	if number == 3 {
		if p.blob, err = r.Peek(int(size), p.blob[:0]); err != nil {
			return err
		}
	}
	_, err = r.Discard(int(size))
	return err
}
