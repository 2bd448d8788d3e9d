// Package observe looks at the node and at the cluster around it, and reads kubeadm's
// configuration. It changes nothing, and has no means to: a [Node] here is built on a [node.View].
package observe
