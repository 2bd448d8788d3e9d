package sandbox_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/sandbox/kubeapi"
)

func TestTheAPIServerTellsWhatEtcdHolds(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	must(t, s.Load(ctx, 200, 300))
	api, err := s.API()
	must(t, err)

	type list struct {
		Metadata struct {
			Continue           string `json:"continue"`
			RemainingItemCount int    `json:"remainingItemCount"`
			ResourceVersion    string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []struct {
			Metadata struct {
				Name      string `json:"name"`
				Namespace string `json:"namespace"`
			} `json:"metadata"`
		} `json:"items"`
	}
	var pages, names = 0, map[string]bool{}
	for token := ""; ; pages++ {
		var page list
		must(t, api.Do(ctx, http.MethodGet, "/api/v1/pods?limit=30&continue="+token, nil, &page))
		for _, item := range page.Items {
			names[item.Metadata.Namespace+"/"+item.Metadata.Name] = true
		}
		if left := 100 - len(names); page.Metadata.RemainingItemCount != left {
			t.Errorf("page %d: remainingItemCount %d, want %d", pages, page.Metadata.RemainingItemCount, left)
		}
		if token = page.Metadata.Continue; token == "" {
			break
		}
	}
	if pages != 3 || len(names) != 100 {
		t.Errorf("%d pods after %d continued pages", len(names), pages)
	}
	var one list
	must(t, api.Do(ctx, http.MethodGet, "/api/v1/namespaces/team-01/services", nil, &one))
	if len(one.Items) != 1 || one.Items[0].Metadata.Namespace != "team-01" {
		t.Errorf("services of team-01: %+v", one.Items)
	}
	var config struct {
		Data map[string]string `json:"data"`
	}
	must(t, api.Do(ctx, http.MethodGet, "/api/v1/namespaces/kube-system/configmaps/kubeadm-config", nil, &config))
	if !strings.Contains(config.Data["ClusterConfiguration"], "dataDir: /var/lib/etcd\n") {
		t.Errorf("kubeadm-config: %q", config.Data["ClusterConfiguration"])
	}
	var found struct {
		Resources []struct {
			Name string `json:"name"`
		} `json:"resources"`
	}
	must(t, api.Do(ctx, http.MethodGet, "/apis/apps/v1", nil, &found))
	if len(found.Resources) != 2 {
		t.Errorf("discovery of apps/v1: %+v", found)
	}
}

func TestTheAPIServerWritesLikeTheRealOne(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	api, err := s.API()
	must(t, err)
	const list, one = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/configmaps/a"
	type object = map[string]any
	var made object
	must(t, api.Do(ctx, http.MethodPost, list,
		object{"metadata": object{"name": "a"}, "data": object{"k": "1"}}, &made))
	for what, want := range map[string]struct {
		method, path string
		body         any
		code         int
	}{
		"creating it twice": {http.MethodPost, list, object{"metadata": object{"name": "a"}},
			http.StatusConflict},
		"updating an old version": {http.MethodPut, one,
			object{"metadata": object{"name": "a", "resourceVersion": "1"}}, http.StatusConflict},
		"reading what is not there":      {http.MethodGet, list + "/b", nil, http.StatusNotFound},
		"an unknown resource":            {http.MethodGet, "/api/v1/widgets", nil, http.StatusNotFound},
		"a watch":                        {http.MethodGet, list + "?watch=true", nil, http.StatusMethodNotAllowed},
		"a continue token that is wrong": {http.MethodGet, list + "?continue=x", nil, http.StatusBadRequest},
	} {
		if err := api.Do(ctx, want.method, want.path, want.body, nil); !kubeapi.IsStatus(err, want.code) {
			t.Errorf("%s: %v, want %d", what, err, want.code)
		}
	}
	var changed object
	made["data"] = object{"k": "2"}
	must(t, api.Do(ctx, http.MethodPut, one, made, &changed))
	if changed["metadata"].(object)["uid"] != made["metadata"].(object)["uid"] {
		t.Error("the update changed the uid")
	}
	keys, err := s.AllKeys(ctx)
	must(t, err)
	if value := keys["/registry/configmaps/default/a"]; !strings.Contains(value, `"k":"2"`) ||
		strings.Contains(value, "resourceVersion") {
		t.Errorf("etcd holds %q", value)
	}
	must(t, api.Do(ctx, http.MethodDelete, one, nil, nil))
	if err := api.Do(ctx, http.MethodGet, one, nil, nil); !kubeapi.IsStatus(err, http.StatusNotFound) {
		t.Errorf("after the deletion: %v", err)
	}
	etcd, err := s.EtcdClient()
	must(t, err)
	defer etcd.Close()
	lease, err := etcd.Get(ctx, "/registry/masterleases/"+s.Address)
	must(t, err)
	if len(lease.Kvs) != 1 || lease.Kvs[0].Lease == 0 {
		t.Errorf("master lease: %v", lease.Kvs)
	}
}

func TestTheAPIServerIsReadyOnlyWithEtcd(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	api, err := s.API()
	must(t, err)
	must(t, s.StopKubelet(ctx))
	must(t, s.Kill(ctx, "etcd"))
	if err := api.Do(ctx, http.MethodGet, "/readyz", nil, nil); !kubeapi.IsStatus(err, http.StatusInternalServerError) {
		t.Errorf("/readyz without etcd: %v", err)
	}
	must(t, s.Kill(ctx, "kube-apiserver"))
	manifest := s.Path(sandbox.ManifestDir + "/etcd.yaml")
	must(t, os.Rename(manifest, s.Path("/tmp/etcd.yaml")))
	must(t, s.StartKubelet(ctx))
	eventually(t, ctx, "the API server runs", running(t, ctx, s, "kube-apiserver"))
	always(t, "it does not open its port", func() bool {
		err := api.Do(ctx, http.MethodGet, "/livez", nil, nil)
		return err != nil && strings.Contains(err.Error(), "connection refused")
	})
	must(t, os.Rename(s.Path("/tmp/etcd.yaml"), manifest))
	must(t, s.WaitReady(ctx))
}

func TestADeploymentGetsItsReplicaSetWhenControllersWork(t *testing.T) {
	s, ctx := start(t, sandbox.Options{})
	api, err := s.API()
	must(t, err)
	must(t, api.Do(ctx, http.MethodPost, "/apis/apps/v1/namespaces/default/deployments",
		map[string]any{"metadata": map[string]any{"name": "web"}}, nil))
	eventually(t, ctx, "a ReplicaSet is made", func() bool {
		keys, err := s.AllKeys(ctx)
		must(t, err)
		for key := range keys {
			if strings.HasPrefix(key, "/registry/replicasets/default/web-") {
				return true
			}
		}
		return false
	})
}

func TestEveryTopologyHoldsData(t *testing.T) {
	for name, o := range map[string]sandbox.Options{
		"the data directory is a symbolic link": {DataLink: "/srv/disk/etcd"},
		"the WAL is elsewhere":                  {WALDir: "/var/lib/etcd-wal"},
		"there is no API server":                {NoAPIServer: true},
		"etcd speaks plain http":                {PlainHTTP: true},
		"etcd is 3.5":                           {EtcdBinary: etcdBinary(t, binaries.Etcd35)},
		"etcd is 3.7":                           {EtcdBinary: etcdBinary(t, binaries.Etcd37)},
	} {
		t.Run(name, func(t *testing.T) {
			s, ctx := start(t, o)
			must(t, s.Load(ctx, 60, 200))
			before, err := s.AllKeys(ctx)
			must(t, err)
			must(t, s.Kill(ctx, "etcd"))
			must(t, s.WaitReady(ctx))
			after, err := s.AllKeys(ctx)
			must(t, err)
			if diff := sandbox.Diff(before, after); len(before) < 60 || len(diff) > 0 {
				t.Errorf("%d keys, and after a restart of etcd: %v", len(before), diff)
			}
			wal := s.DataPath() + "/member/wal"
			if o.WALDir != "" {
				wal = s.Path(o.WALDir)
			}
			for _, dir := range []string{s.DataPath() + "/member/snap", wal} {
				if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
					t.Errorf("%s holds %d files: %v", dir, len(entries), err)
				}
			}
		})
	}
}

func TestDiffNamesEveryKeyThatDiffers(t *testing.T) {
	got := sandbox.Diff(map[string]string{"a": "1", "b": "1", "c": "1"},
		map[string]string{"a": "1", "b": "2", "d": "1"})
	if want := []string{"changed b", "lost c", "new d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAllEndsWithTheProcessThatMadeIt runs this test again as a separate process, and kills that.
func TestAllEndsWithTheProcessThatMadeIt(t *testing.T) {
	if os.Getenv("SANDBOX_MAKER") != "" {
		s, ctx := start(t, sandbox.Options{})
		fmt.Printf("made %s %d\n", s.Root, container(t, ctx, s, "etcd").PID)
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed
	}
	t.Parallel()
	maker := exec.Command(os.Args[0], "-test.run=^TestAllEndsWithTheProcessThatMadeIt$")
	maker.Env = append(os.Environ(), "SANDBOX_MAKER=1")
	out, err := maker.StdoutPipe()
	must(t, err)
	_, err = maker.StdinPipe()
	must(t, err)
	must(t, maker.Start())
	var root string
	var pid int
	for lines := bufio.NewScanner(out); root == "" && lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "made %s %d", &root, &pid); err != nil {
			continue
		}
	}
	must(t, maker.Process.Kill())
	if err := maker.Wait(); err == nil || root == "" {
		t.Fatalf("the maker was not killed, or made nothing: %v, %q", err, root)
	}
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(root)
		if os.IsNotExist(err) && ended(pid) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s: %v; etcd has ended: %v", limit, root, err, ended(pid))
		}
	}
}
