package op

import (
	"context"
	"fmt"
	"strings"
)

// ReleaseLeases gives up the leader leases in the data, as their holders do on a clean exit
// (client-go, tools/leaderelection). The fence killed the holders, and their successors would wait
// for most of a lease, usually 15 s, before they work.
type ReleaseLeases struct {
	repeated
	API    APIAccess `json:"api"`
	Leases []string  `json:"leases"` // namespace/name
}

func (r *ReleaseLeases) String() string {
	return "release the leader leases " + strings.Join(r.Leases, ", ")
}

// Do never fails for a lease that it cannot release: the lease expires by itself. An interrupt is
// another matter: it has released nothing, and is tried again.
func (r *ReleaseLeases) Do(ctx context.Context, t *Target) error {
	for _, lease := range r.Leases {
		namespace, name, ok := strings.Cut(lease, "/")
		if !ok {
			return fmt.Errorf("cannot release lease %q: it is not a namespace/name", lease)
		}
		if err := t.APIServer.ReleaseLease(ctx, r.API, namespace, name); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.report("leader lease %s was not released, and expires by itself: %v", lease, err)
		}
	}
	return nil
}
