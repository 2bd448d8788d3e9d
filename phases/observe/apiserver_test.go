package observe

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// hurried is a clock on which nobody waits.
type hurried struct{}

func (hurried) Now() time.Time { return time.Now() }

func (hurried) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func TestAnAPIServerServesOnlyIfItAnswersMoreThanThatItIsReady(t *testing.T) {
	for name, c := range map[string]struct {
		ready, list []int // its answers, the last one for ever
		fails       string
		denied      bool
	}{
		"it serves":                        {[]int{200}, []int{200}, "", false},
		"it is not ready":                  {[]int{500}, nil, "500 Internal Server Error to GET /readyz: etcd", false},
		"it is not for a moment":           {[]int{500, 500, 200}, []int{200}, "", false},
		"it is ready, and answers no more": {[]int{200}, []int{500}, "500 Internal Server Error to GET /api", false},
		"it does not for a moment":         {[]int{200}, []int{500, 200}, "", false},
		"it has much to do":                {[]int{200}, []int{429}, "", false},
		"it denies all":                    {[]int{200}, []int{403}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			asked := map[bool]int{}
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answers := c.list
				if r.URL.Path == "/readyz" {
					answers = c.ready
				}
				i := asked[r.URL.Path == "/readyz"]
				asked[r.URL.Path == "/readyz"]++
				w.WriteHeader(answers[min(i, len(answers)-1)])
				if r.URL.Path == "/readyz" {
					fmt.Fprint(w, "[+]ping ok\n[-]etcd failed: reason withheld\n")
				} else {
					fmt.Fprint(w, `{"metadata":{"resourceVersion":"42"}}`)
				}
			}))
			defer web.Close()
			n, _ := newNode(t, map[string]string{"/etc/kubernetes/admin.conf": `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + web.URL + `"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`}, "", "")
			n.API, n.Clock = bind.NewAPIServer(n.FS), hurried{}
			fails, denied := n.CheckAPIServer(t.Context(),
				op.APIAccess{Kubeconfig: "/etc/kubernetes/admin.conf", Server: web.URL})
			if (fails != nil) != (c.fails != "") || fails != nil && !strings.Contains(fails.Error(), c.fails) ||
				(denied != nil) != c.denied {
				t.Errorf("%v, %v", fails, denied)
			}
		})
	}
}
