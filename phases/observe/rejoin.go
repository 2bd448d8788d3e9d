package observe

import "github.com/etcdpod/etcdpod/phases/internal/op"

// JoinAgain is [op.JoinAgain] for an etcd whose manifest is in place; member is empty when it has
// left its cluster.
func (p *EtcdPod) JoinAgain(member string) string {
	return op.JoinAgain(p.File.Path, p.allData(), member)
}

// allData are the directories that hold the member's data, for a message.
func (p *EtcdPod) allData() string {
	if p.WALDir == "" {
		return p.DataDir
	}
	return p.DataDir + " and " + p.WALDir
}
