package target

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// s3 is a bucket of S3, or of what speaks it.
type s3 struct {
	URL
	core  minio.Core
	creds *credentials.Credentials
	sse   encrypt.ServerSide // nil: as the bucket has it
	// How long the store is to keep what is written; 0: as the bucket has it.
	lock time.Duration
	mode minio.RetentionMode
}

const amazon = "https://s3.amazonaws.com"

func dialS3(u URL) (*s3, error) {
	s := &s3{URL: u, lock: u.locks(), mode: minio.Governance}
	if u.Option("lock-mode") == "compliance" {
		s.mode = minio.Compliance
	}
	endpoint, err := url.Parse(cmp.Or(u.Option("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), amazon))
	if err != nil || endpoint.Host == "" {
		return nil, &Error{Doing: "use", At: u.String(), Why: "AWS_ENDPOINT_URL_S3 is no URL",
			Do: "correct it, or name the endpoint in the URL"}
	}
	switch kind, key, _ := strings.Cut(u.Option("sse"), ":"); {
	case kind == "s3":
		s.sse = encrypt.NewSSE()
	case kind == "kms":
		if s.sse, err = encrypt.NewSSEKMS(key, nil); err != nil {
			return nil, err
		}
	}
	t, err := transport(u)
	if err != nil {
		return nil, err
	}
	s.creds = awsCredentials()
	options := &minio.Options{Creds: s.creds, Secure: endpoint.Scheme == "https", Transport: t,
		Region: cmp.Or(u.Option("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")), MaxRetries: 4}
	if options.Region == "" && u.Option("endpoint") != "" {
		options.Region = "us-east-1" // what is not Amazon seldom has another, and may not tell
	}
	if u.Option("path-style") == "true" {
		options.BucketLookup = minio.BucketLookupPath
	}
	client, err := minio.New(endpoint.Host, options)
	if err != nil {
		return nil, s.fails("use", "", err)
	}
	s.core = minio.Core{Client: client}
	return s, nil
}

// awsCredentials come from the environment, the usual files, or the machine or pod itself. No proxy
// is between this process and what gives them.
func awsCredentials() *credentials.Credentials {
	all := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	if !strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		direct := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
		all = append(all, &credentials.IAM{Client: direct})
	}
	return credentials.NewChainCredentials(all)
}

// ready refuses to go on without a credential: the store would answer that something is not
// allowed, and not why.
func (s *s3) ready() error {
	v, err := s.creds.GetWithContext(s.core.CredContext())
	if err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return &Error{Doing: "use", At: s.String(), Kind: ErrDenied, Why: "there are no credentials for it",
			Do: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE, " +
				"for etcdpod; on a machine or in a pod that has a role, nothing is needed"}
	}
	return nil
}

func (s *s3) key(name string) string { return path.Join(s.Path, name) }

// prefix is the beginning of keys: of those below the target, all.
func (s *s3) prefix(prefix string) string {
	if s.Path == "" {
		return prefix
	}
	return s.Path + "/" + prefix
}

func (s *s3) name(key string) string { return strings.TrimPrefix(key, s.prefix("")) }

func (s *s3) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	err := cmp.Or(checkName(name), s.ready())
	if err != nil {
		return nil, s.fails("read", name, err)
	}
	stream, _, _, err := s.core.GetObject(ctx, s.Host, s.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, s.fails("read", name, within(ctx, err))
	}
	return reading{stream, func(err error) error { return s.fails("read", name, within(ctx, err)) }}, nil
}

func (s *s3) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := s.ready(); err != nil {
			yield(Object{}, s.fails("list", "", err))
			return
		}
		options := minio.ListObjectsOptions{Prefix: s.prefix(prefix), Recursive: true}
		for o := range s.core.ListObjectsIter(ctx, s.Host, options) {
			if o.Err != nil {
				yield(Object{}, s.fails("list", "", within(ctx, o.Err)))
				return
			}
			name := s.name(o.Key)
			if checkName(name) == nil && !yield(Object{Name: name, Size: o.Size, Modified: o.LastModified.UTC()}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil { // the listing may have ended early without a word
			yield(Object{}, s.fails("list", "", context.Cause(ctx)))
		}
	}
}

// Delete deletes the version that is there. On a bucket that keeps versions, a deletion without one
// would only hide it, even where the store keeps it locked.
func (s *s3) Delete(ctx context.Context, name string) error {
	if err := cmp.Or(checkName(name), s.ready()); err != nil {
		return s.fails("delete", name, err)
	}
	st, err := s.core.StatObject(ctx, s.Host, s.key(name), minio.StatObjectOptions{})
	if err != nil {
		return s.fails("delete", name, within(ctx, err))
	}
	if until := s.lockedUntil(ctx, name, st); !until.IsZero() {
		return &Error{Doing: "delete", Name: name, At: s.String(), Kind: ErrLocked,
			Why: "the store keeps it until " + until.UTC().Format(time.RFC3339)}
	}
	err = s.core.RemoveObject(ctx, s.Host, s.key(name), minio.RemoveObjectOptions{VersionID: st.VersionID})
	if code := minio.ToErrorResponse(err).Code; code == "ObjectLocked" ||
		st.VersionID != "" && code == "AccessDenied" && strings.Contains(err.Error(), "lock") {
		return &Error{Doing: "delete", Name: name, At: s.String(), Kind: ErrLocked, Why: "the store keeps it locked",
			Cause: err}
	}
	return s.fails("delete", name, within(ctx, err))
}

// lockedUntil is when the retention of an object ends; zero: it has none, or that cannot be asked.
func (s *s3) lockedUntil(ctx context.Context, name string, st minio.ObjectInfo) time.Time {
	until, err := time.Parse(time.RFC3339, st.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
	if err != nil {
		_, asked, failed := s.core.GetObjectRetention(ctx, s.Host, s.key(name), st.VersionID)
		if failed != nil || asked == nil {
			return time.Time{}
		}
		until = *asked
	}
	if until.Before(time.Now()) {
		return time.Time{}
	}
	return until
}

func (s *s3) Sweep(ctx context.Context, prefix string, before time.Time) error {
	if err := s.ready(); err != nil {
		return s.fails("tidy up", "", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing
	for u := range s.core.ListIncompleteUploads(ctx, s.Host, s.prefix(prefix), true) {
		if u.Err != nil {
			return s.fails("tidy up", "", within(ctx, u.Err))
		}
		if !u.Initiated.Before(before) {
			continue
		}
		err := s.core.AbortMultipartUpload(ctx, s.Host, u.Key, u.UploadID)
		if err != nil && minio.ToErrorResponse(err).Code != "NoSuchUpload" {
			return s.fails("tidy up", s.name(u.Key), within(ctx, err))
		}
	}
	return nil
}

// Create makes the bucket: with object lock if the URL asks for it, because that can be had later
// with some stores only.
func (s *s3) Create(ctx context.Context) error {
	if err := s.ready(); err != nil {
		return s.fails("set up", "", err)
	}
	there, err := s.core.BucketExists(ctx, s.Host)
	if err == nil && !there {
		err = s.core.MakeBucket(ctx, s.Host,
			minio.MakeBucketOptions{Region: s.Option("region"), ObjectLocking: s.lock > 0})
		if code := minio.ToErrorResponse(err).Code; code == "BucketAlreadyOwnedByYou" {
			err = nil
		}
	}
	return s.fails("set up", "", within(ctx, err))
}

func (s *s3) Close() error {
	s.creds.Expire()
	return nil
}

// fails puts an error into words.
func (s *s3) fails(doing, name string, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	e := &Error{Doing: doing, Name: name, At: s.String(), Cause: err}
	answer := minio.ToErrorResponse(err)
	switch answer.Code {
	case "":
		e.Why, e.Do = unreached(err)
		if errors.Is(err, ErrExists) {
			e.Kind, e.Why, e.Do = ErrExists, "the name is taken, and nothing is ever overwritten", ""
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			e.Why, e.Do = "the connection was cut off", "try again"
		}
	case "PreconditionFailed", "ConditionalRequestConflict":
		e.Kind, e.Why = ErrExists, "the name is taken, and nothing is ever overwritten"
	case "NoSuchKey", "NoSuchVersion", "NotFound":
		e.Kind, e.Why = ErrNotExist, "it is not there"
	case "NoSuchBucket":
		e.Kind, e.Why = ErrNoPlace, "there is no such bucket"
		e.Do = "correct the URL; or make it, for example with `etcdpod target check --create`"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed":
		e.Kind, e.Why = ErrDenied, "the store does not take the credentials: "+s.said(answer)
		e.Do = "correct the credentials, and the region in the URL; see that the clock here is right"
	case "RequestTimeTooSkewed":
		e.Kind, e.Why, e.Do = ErrDenied, "the clocks here and there differ too much", "set the clock here right"
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		e.Kind, e.Why = ErrDenied, "the store does not allow it: "+s.said(answer)
		e.Do = "give these credentials the right; /usr/share/doc/etcdpod/docs/backup-targets.md lists those that " +
			"backups need"
	case "InvalidRequest", "NotImplemented", "XAmzContentSHA256Mismatch", "BadDigest", "InvalidArgument":
		e.Why = "the store refuses the request: " + s.said(answer)
		if s.Option("checksums") != "off" {
			e.Do = "if it is a store that knows no checksums, add checksums=off to the URL"
		}
	default:
		e.Why = "the store answers: " + s.said(answer)
	}
	return e
}

// said is what the store says, without the key id that it may quote.
func (s *s3) said(answer minio.ErrorResponse) string {
	text := strings.TrimSuffix(cmp.Or(answer.Message, answer.Code), ".")
	if !strings.Contains(text, answer.Code) {
		text = answer.Code + ", " + text
	}
	var secrets []string
	if v, err := s.creds.GetWithContext(s.core.CredContext()); err == nil {
		secrets = []string{v.SecretAccessKey, v.SessionToken, v.AccessKeyID}
	}
	return scrubbed(text, secrets)
}
