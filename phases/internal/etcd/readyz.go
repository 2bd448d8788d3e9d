package etcd

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Failing asks a member, at its first endpoint, for its own checks of whether it could serve, and
// returns those that fail (etcd, server/etcdserver/api/etcdhttp/health.go). One that is a learner
// is not asked whether it is none. An etcd before 3.5.11 has no such checks, and neither has
// a port that serves no HTTP: then nothing fails.
func Failing(ctx context.Context, a Access) ([]string, error) {
	status, text, err := a.get(ctx, a.Endpoints[0], a.Name, "/readyz?verbose&exclude=non_learner")
	if err != nil {
		return nil, fmt.Errorf("cannot query the checks of %s: %w", a.Endpoints[0], err)
	}
	if status == http.StatusNotFound {
		return nil, nil
	}
	var failing []string
	said := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		name, failed := strings.CutPrefix(line, "[-]")
		if said = said || failed || strings.HasPrefix(line, "[+]"); !failed {
			continue
		}
		name, _, _ = strings.Cut(name, " ")
		failing = append(failing, name)
	}
	if !said && status != http.StatusOK {
		return nil, fmt.Errorf("cannot query the checks of %s: it answers %d %s", a.Endpoints[0], status,
			http.StatusText(status))
	}
	return failing, nil
}
