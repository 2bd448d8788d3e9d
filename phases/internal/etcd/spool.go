package etcd

import "github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"

// A spool writes in large pieces, which cost a file system a fraction of what many small ones do.
const (
	pieceSize = 1 << 20 // bytes
	pieces    = 3       // being filled, waiting, and being written
)

// spool takes a stream into memory and hands it on concurrently, so that the receiver never waits
// for a disk that keeps up.
type spool struct {
	piece      []byte      // being filled
	full, free chan []byte // with room for all pieces
	ended      <-chan struct{}
	wait       func() // until it has ended
	err        error  // once ended
}

// newSpool starts passing what is written to take, piece by piece, until take fails.
// finish must be called.
func newSpool(take func([]byte) error) *spool {
	s := &spool{full: make(chan []byte, pieces), free: make(chan []byte, pieces)}
	for range pieces {
		s.free <- make([]byte, 0, pieceSize)
	}
	s.piece = <-s.free
	s.ended, s.wait = snapfile.Beside(func() {
		for piece := range s.full {
			if s.err = take(piece); s.err != nil {
				return
			}
			s.free <- piece[:0]
		}
	})
	return s
}

// write returns the error of an earlier piece, if one failed.
func (s *spool) write(p []byte) error {
	for len(p) > 0 {
		n := copy(s.piece[len(s.piece):cap(s.piece)], p)
		s.piece, p = s.piece[:len(s.piece)+n], p[n:]
		if len(s.piece) < cap(s.piece) {
			continue
		}
		s.full <- s.piece
		select {
		case s.piece = <-s.free:
		case <-s.ended:
			s.wait()
			return s.err
		}
	}
	return nil
}

// finish passes on the rest and waits until all was taken.
func (s *spool) finish() error {
	s.full <- s.piece
	close(s.full)
	s.wait()
	return s.err
}
