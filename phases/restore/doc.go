// Package restore replaces etcd's data with a snapshot, or with the data of a stopped member, on
// one node or on several as one run.
package restore
