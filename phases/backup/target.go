package backup

import (
	"context"
	"fmt"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
)

// TargetReport is what a check of a target has tried, and what the target can do.
type TargetReport struct {
	bind.TargetReport

	err error
}

// CheckTarget tries everything that backups need of a target: it writes, reads back over another
// connection, lists, and deletes. create makes the target first where it is not there. An error is
// about the URL; what went wrong with the target is in the report.
func CheckTarget(ctx context.Context, n *engine.Node, url string, create bool) (TargetReport, error) {
	if err := checkTarget(url); err != nil {
		return TargetReport{}, err
	}
	r, err := bind.NewStores(n.Host.FS).Check(ctx, url, create)
	return TargetReport{r, r.Err()}, err
}

// Unusable says whether somebody must do something about the target first: it is not set up, or
// does not allow what backups need. Anything else may pass.
func (r TargetReport) Unusable() bool { return bind.Unusable(r.err) }

// IsTarget says whether a word is meant as the URL of a target, or of a backup in one, and not as a
// file.
func IsTarget(word string) bool { return bind.IsTarget(word) }

// checkTarget refuses what is no URL of a target. It does not quote it: there may be a password in
// it.
func checkTarget(url string) error {
	err := bind.CheckTarget(url)
	if err == nil {
		return nil
	}
	return &engine.UsageError{Reason: fmt.Sprintf("the URL of the target cannot be used: %v", err),
		Hint: "give it as file:///DIR, s3://BUCKET/PREFIX, azblob://ACCOUNT/CONTAINER/PREFIX or sftp://USER@HOST/DIR"}
}
