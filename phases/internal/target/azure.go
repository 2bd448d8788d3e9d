package target

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// azure is a container of Azure Blob Storage. What was cut off there has no name, and Azure itself
// drops it within a week.
type azure struct {
	URL
	client *container.Client
	below  string // the prefix in the container
}

func dialAzure(u URL) (*azure, error) {
	name, below, _ := strings.Cut(u.Path, "/")
	t, err := transport(u)
	if err != nil {
		return nil, err
	}
	a := &azure{URL: u, below: below}
	endpoint := cmp.Or(u.Option("endpoint"), "https://"+u.Host+".blob.core.windows.net")
	at := strings.TrimSuffix(endpoint, "/") + "/" + name
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: &http.Client{Transport: t}, Telemetry: policy.TelemetryOptions{Disabled: true},
		Retry: policy.RetryOptions{MaxRetries: 3, RetryDelay: time.Second, MaxRetryDelay: 10 * time.Second}}}
	a.client, err = azureCredentials(u.Host).client(at, options)
	if err != nil {
		return nil, a.fails("use", "", err)
	}
	return a, nil
}

func (a *azure) key(name string) string { return path.Join(a.below, name) }

func (a *azure) prefix(prefix string) string {
	if a.below == "" {
		return prefix
	}
	return a.below + "/" + prefix
}

// blockSize is the size of the blocks of a large object, bytes; there can be 50,000 of them.
const blockSize = 8 << 20

func (a *azure) Put(ctx context.Context, name string, r io.Reader) error {
	if err := checkName(name); err != nil {
		return a.fails("write", name, err)
	}
	to := a.client.NewBlockBlobClient(a.key(name))
	if _, err := to.GetProperties(ctx, nil); err == nil { // before all of it is sent for nothing
		return a.fails("write", name, ErrExists)
	}
	return a.fails("write", name, within(ctx, putBlocks(ctx, to, r)))
}

// free is the condition that the name is free.
func free() *blob.AccessConditions {
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{
		IfNoneMatch: to.Ptr(azcore.ETagAny)}}
}

func body(data []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(data)) }

func summed(data []byte) *blockblob.StageBlockOptions {
	sum := md5.Sum(data)
	return &blockblob.StageBlockOptions{TransactionalValidation: blob.TransferValidationTypeMD5(sum[:])}
}

// putBlocks writes small objects as blocks, too: a blob that is put whole must not meet blocks that
// were cut off under its name. The ids of blocks are nobody else's: with the same ones, of two that
// write at once one would commit what the other has sent.
func putBlocks(ctx context.Context, to *blockblob.Client, r io.Reader) error {
	ids, buffer, own := []string{}, make([]byte, blockSize), rand.Text()
	for ended := false; !ended; {
		n, err := chunk(r, buffer)
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return err
		}
		if n == 0 {
			break
		}
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s-%08d", own, len(ids)))
		if _, err := to.StageBlock(ctx, id, body(buffer[:n]), summed(buffer[:n])); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	_, err := to.CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{AccessConditions: free()})
	return err
}

func (a *azure) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, a.fails("read", name, err)
	}
	answer, err := a.client.NewBlobClient(a.key(name)).DownloadStream(ctx, nil)
	if err != nil {
		return nil, a.fails("read", name, within(ctx, err))
	}
	return reading{answer.Body, func(err error) error { return a.fails("read", name, within(ctx, err)) }}, nil
}

func (a *azure) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		pages := a.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: to.Ptr(a.prefix(prefix))})
		for pages.More() {
			page, err := pages.NextPage(ctx)
			if err == nil && page.Segment == nil {
				err = errors.New("the store answers without a list")
			}
			if err != nil {
				yield(Object{}, a.fails("list", "", within(ctx, err)))
				return
			}
			for _, item := range page.Segment.BlobItems {
				o, ok := a.object(item)
				if ok && !yield(o, nil) {
					return
				}
			}
		}
	}
}

func (a *azure) object(item *container.BlobItem) (o Object, ok bool) {
	if item == nil || item.Name == nil || item.Properties == nil {
		return o, false
	}
	o.Name = strings.TrimPrefix(*item.Name, a.prefix(""))
	if p := item.Properties; p.ContentLength != nil {
		o.Size = *p.ContentLength
	}
	if p := item.Properties; p.LastModified != nil {
		o.Modified = p.LastModified.UTC()
	}
	return o, checkName(o.Name) == nil
}

func (a *azure) Delete(ctx context.Context, name string) error {
	err := checkName(name)
	if err == nil {
		_, err = a.client.NewBlobClient(a.key(name)).Delete(ctx, nil)
	}
	return a.fails("delete", name, within(ctx, err))
}

// Sweep has nothing to do: see [azure].
func (a *azure) Sweep(context.Context, string, time.Time) error { return nil }

func (a *azure) Create(ctx context.Context) error {
	_, err := a.client.Create(ctx, nil)
	if bloberror.HasCode(err, bloberror.ContainerAlreadyExists, bloberror.ResourceAlreadyExists) {
		return nil
	}
	return a.fails("set up", "", within(ctx, err))
}

func (*azure) Close() error { return nil }

// fails puts an error into words. What the SDK says is not shown: it quotes whole answers.
func (a *azure) fails(doing, name string, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	e := &Error{Doing: doing, Name: name, At: a.String(), Cause: err}
	var answer *azcore.ResponseError
	switch {
	case errors.Is(err, ErrExists), bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet,
		bloberror.ResourceAlreadyExists, bloberror.TargetConditionNotMet):
		e.Kind, e.Why = ErrExists, "the name is taken, and nothing is ever overwritten"
	case bloberror.HasCode(err, bloberror.BlobNotFound, bloberror.ResourceNotFound):
		e.Kind, e.Why = ErrNotExist, "it is not there"
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		e.Kind, e.Why = ErrNoPlace, "there is no such container"
		e.Do = "correct the URL; or make it, for example with `etcdpod target check --create`"
	case bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy, bloberror.LeaseIDMissing,
		bloberror.ImmutabilityPolicyDeleteOnLockedPolicy):
		e.Kind, e.Why = ErrLocked, "a policy, or a lease, of the container keeps it"
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound && name != "":
		e.Kind, e.Why = ErrNotExist, "it is not there"
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusForbidden ||
		answer.StatusCode == http.StatusUnauthorized):
		e.Kind = ErrDenied
		e.Why = "the store does not allow it: " + cmp.Or(answer.ErrorCode, http.StatusText(answer.StatusCode))
		e.Do = "correct the credentials, or give them the right; see that the clock here is right"
	case errors.As(err, &answer):
		e.Why = fmt.Sprintf("the store answers %d: %s", answer.StatusCode,
			cmp.Or(answer.ErrorCode, http.StatusText(answer.StatusCode)))
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Why, e.Do = "the connection was cut off", "try again"
	default:
		e.Why, e.Do = unreached(err)
	}
	return e
}
