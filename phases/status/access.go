package status

import (
	"context"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// listener is one client URL at which the local etcd listens.
type listener struct {
	url  string // as this host reaches it
	open bool   // it answers without a client certificate
}

// listeners dials all of etcd's client listeners, without a certificate. One that several URLs lead
// to counts once.
func listeners(ctx context.Context, n *observe.Node, pod *observe.EtcdPod) []listener {
	var all []listener
	var ways [][]string
	for _, raw := range observe.SplitList(pod.Setting("", "listen-client-urls")) {
		urls := n.FromHere(pod, raw)
		if len(urls) > 0 && !slices.ContainsFunc(all, func(l listener) bool { return l.url == urls[0] }) {
			all, ways = append(all, listener{url: urls[0]}), append(ways, urls)
		}
	}
	engine.Concurrently(len(all), func(i int) {
		for _, url := range ways[i] {
			if etcd.AnswersStrangers(ctx, url) {
				all[i] = listener{url, true}
				return
			}
		}
	})
	return all
}

// judgeAccess warns where anybody can reach etcd: only those who need it may.
func (s seen) judgeAccess() found {
	var w found
	plain := map[string]bool{}
	for _, l := range s.listeners {
		switch {
		case strings.HasPrefix(l.url, "unix://"): // who may open the file may ask: its mode says
		case strings.HasPrefix(l.url, "http://"):
			plain[l.url] = true
			w = append(w, plainHTTP(l.url))
		case l.open:
			w = append(w, finding.New(finding.EtcdNoClientCerts, l.url, "etcd answers at %s without requiring a "+
				"client certificate: anyone who can reach it can read and change everything; set "+
				"--client-cert-auth=true and --trusted-ca-file", l.url))
		}
	}
	// The given endpoints may differ from those in the manifest.
	if pod := s.facts.Etcd; pod != nil {
		if at := pod.Access.Endpoints[0]; strings.HasPrefix(at, "http://") && !plain[at] {
			w = append(w, plainHTTP(at))
		}
	}
	return w
}

func plainHTTP(at string) finding.Finding {
	return finding.New(finding.EtcdPlainHTTP, at,
		"etcd answers over plain HTTP at %s: anyone who can reach it can read and change everything", at)
}
