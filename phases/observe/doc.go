// Package observe looks at the node and at the cluster around it, and reads what kubeadm has
// configured. It changes nothing, and has no way to: a [Node] here is what a [node.View] shows.
package observe
