package target

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/minio/minio-go/v7"
)

// locks is how long the store is to keep what is written; 0: the URL does not say.
func (u URL) locks() time.Duration {
	days, _ := strconv.Atoi(u.Option("lock-days")) // [Parse] has looked at it
	return time.Duration(days) * 24 * time.Hour
}

// partSize is the size of the parts of a large object, bytes. A part is held in memory, so that it
// can be sent again. There can be 10,000 of them.
const partSize = 16 << 20

// abortWithin is how long an upload that failed may take to be cleared away.
const abortWithin = 30 * time.Second

// Put asks first whether the name is taken, for stores that do not know conditions; those that do
// decide between two that write at once.
func (s *s3) Put(ctx context.Context, name string, r io.Reader) error {
	if err := cmp.Or(checkName(name), s.ready()); err != nil {
		return s.fails("write", name, err)
	}
	_, err := s.core.StatObject(ctx, s.Host, s.key(name), minio.StatObjectOptions{})
	switch code := minio.ToErrorResponse(err).Code; {
	case err == nil:
		return s.fails("write", name, ErrExists)
	case code != "NoSuchKey" && code != "NotFound" && code != "AccessDenied": // who may only write
		return s.fails("write", name, within(ctx, err))
	}
	first := make([]byte, partSize)
	n, err := chunk(r, first)
	switch {
	case errors.Is(err, io.EOF):
		err = s.putWhole(ctx, name, first[:n])
	case err == nil:
		err = s.putParts(ctx, name, first, r)
	}
	return s.fails("write", name, within(ctx, err))
}

// sums are the checksums that a piece is sent with: one that is signed, and one that the store
// keeps.
func (s *s3) sums(piece []byte) (md5Base64, sha256Hex string, kept http.Header) {
	sum := sha256.Sum256(piece)
	if s.Option("checksums") == "off" {
		old := md5.Sum(piece)
		return base64.StdEncoding.EncodeToString(old[:]), hex.EncodeToString(sum[:]), http.Header{}
	}
	return "", hex.EncodeToString(sum[:]),
		http.Header{"X-Amz-Checksum-Sha256": {base64.StdEncoding.EncodeToString(sum[:])}}
}

func (s *s3) options(conditional bool, more http.Header) minio.PutObjectOptions {
	o := minio.PutObjectOptions{ServerSideEncryption: s.sse, UserMetadata: map[string]string{}}
	if s.lock > 0 {
		o.Mode, o.RetainUntilDate = s.mode, time.Now().Add(s.lock).UTC()
	}
	for key := range more {
		o.UserMetadata[key] = more.Get(key)
	}
	if conditional {
		o.SetMatchETagExcept("*")
	}
	return o
}

func (s *s3) putWhole(ctx context.Context, name string, data []byte) error {
	sumMD5, sum, kept := s.sums(data)
	put := func(conditional bool) error {
		_, err := s.core.PutObject(ctx, s.Host, s.key(name), bytes.NewReader(data), int64(len(data)), sumMD5, sum,
			s.options(conditional, kept))
		return err
	}
	return s.conditionally(put)
}

// conditionally does something on the condition that the name is free; without it where the store
// does not know conditions.
func (s *s3) conditionally(do func(conditional bool) error) error {
	err := do(true)
	if code := minio.ToErrorResponse(err).Code; code == "NotImplemented" {
		return do(false)
	}
	return err
}

func (s *s3) putParts(ctx context.Context, name string, first []byte, r io.Reader) error {
	algorithm := http.Header{}
	if s.Option("checksums") != "off" {
		algorithm.Set("X-Amz-Checksum-Algorithm", "SHA256")
	}
	id, err := s.core.NewMultipartUpload(ctx, s.Host, s.key(name), s.options(false, algorithm))
	if err != nil {
		return err
	}
	parts, err := s.sendParts(ctx, name, id, first, r)
	if err == nil {
		err = s.conditionally(func(conditional bool) error {
			o := minio.PutObjectOptions{}
			if conditional {
				o.SetMatchETagExcept("*")
			}
			_, err := s.core.CompleteMultipartUpload(ctx, s.Host, s.key(name), id, parts, o)
			return err
		})
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWithin)
		defer cancel()
		_ = s.core.AbortMultipartUpload(ctx, s.Host, s.key(name), id) // else the next Sweep does it
	}
	return err
}

func (s *s3) sendParts(
	ctx context.Context, name, id string, buffer []byte, r io.Reader,
) (parts []minio.CompletePart, err error) {
	for n, number := len(buffer), 1; ; number++ {
		sumMD5, sum, kept := s.sums(buffer[:n])
		part, failed := s.core.PutObjectPart(ctx, s.Host, s.key(name), id, number, bytes.NewReader(buffer[:n]),
			int64(n), minio.PutObjectPartOptions{Md5Base64: sumMD5, Sha256Hex: sum, CustomHeader: kept})
		if failed != nil {
			return nil, failed
		}
		parts = append(parts, minio.CompletePart{PartNumber: number, ETag: part.ETag,
			ChecksumSHA256: kept.Get("X-Amz-Checksum-Sha256")})
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if n, err = chunk(r, buffer); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if n == 0 { // it ended with a whole part
			return parts, nil
		}
	}
}

// can asks, and tries what cannot be asked: name is of an object that is there.
func (s *s3) can(ctx context.Context, name string) (can Can) {
	err := s.putWhole(ctx, name, []byte("second\n"))
	can.WriteOnce = errors.Is(s.fails("write", name, err), ErrExists)
	if v, err := s.core.GetBucketVersioning(ctx, s.Host); err == nil {
		can.Versions = v.Enabled()
	}
	if on, _, _, _, err := s.core.GetObjectLockConfig(ctx, s.Host); err == nil {
		can.ObjectLock = on == "Enabled"
	}
	st, err := s.core.StatObject(ctx, s.Host, s.key(name), minio.StatObjectOptions{Checksum: true})
	if err == nil && st.ChecksumSHA256 != "" {
		can.Checksum = "SHA-256"
	}
	return can
}
