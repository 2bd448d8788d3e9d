// Package members makes members of nodes: the first one of a cluster (init), and
// further ones (join).
package members
