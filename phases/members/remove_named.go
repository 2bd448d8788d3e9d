package members

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Which member an API server means by a URL. It need not be one that the member advertises: a DNS
// name, another listener or a balancer's address do as well. So whoever answers there is asked.

// named is whom a URL leads to.
type named int

const (
	unknown    named = iota // nobody answers, and no member advertises it
	another                 // a member that stays, or the etcd of another cluster
	theLeaving              // the member that is removed
)

// names says whom a URL of this node's API server leads to. What answers counts before what members
// advertise: they may advertise what leads elsewhere.
func (o remover) names(f *RemoveFacts, url string) named {
	for _, a := range f.Answers {
		switch {
		case a.URL != url || a.MemberID == 0:
		case a.MemberID == uint64(o.Gone.ID):
			return theLeaving
		default:
			return another
		}
	}
	advertised := strings.TrimSuffix(url, "/")
	own := f.Etcd != nil && f.Etcd.Serves([]string{url})
	switch {
	case slices.Contains(o.URLs, advertised), own && o.leaves(f):
		return theLeaving
	case own, slices.Contains(o.Known, advertised):
		return another
	}
	return unknown
}

// askNamed asks at each URL of this node's API server, as it would, who answers.
func askNamed(ctx context.Context, n *observe.Node, f *RemoveFacts) {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return
	}
	if flags := apiserver.EtcdFlagsOf(m, container); len(apiserver.WrongFiles(n, m, container, flags)) == 0 {
		f.Answers = apiserver.Ask(ctx, n, m, container, flags)
	}
}

// strangers are the URLs of this node's API server of which nobody knows whom they lead to, and how
// many others it would be left with.
func (o remover) strangers(f *RemoveFacts) (urls []string, others int) {
	m, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil, 0
	}
	for _, url := range apiserver.EtcdFlagsOf(m, container).Servers {
		switch o.names(f, url) {
		case unknown:
			urls = append(urls, url)
		case another:
			others++
		}
	}
	return urls, others
}

// checkNamed refuses where an API server would be left with nothing but URLs of which nobody knows
// whom they lead to: it may be the member that is removed.
func (o remover) checkNamed(f *RemoveFacts) error {
	urls, others := o.strangers(f)
	if len(urls) == 0 || others > 0 {
		return nil
	}
	m, _, _ := observe.Program(f.Manifests, "kube-apiserver")
	return engine.Refuse("on this node, give it a URL at which a member that stays answers, with `etcdpod apiserver "+
		"set`, and run the command again",
		"this node's API server may use the member that is removed, and nothing else: %s names %s, where no etcd "+
			"answers and which no member advertises", m.Path, strings.Join(urls, ","))
}

// unnamed says why an API server keeps its etcds.
func (o remover) unnamed(f *RemoveFacts, manifest string) []string {
	found := []string{manifest + " does not name that member: left unchanged"}
	if urls, _ := o.strangers(f); len(urls) > 0 {
		found[0] = fmt.Sprintf("%s is left unchanged: no etcd answers at %s, so it is not known whether that is %s; "+
			"the others that it names stay", manifest, strings.Join(urls, ","), o.Name)
	}
	return found
}
