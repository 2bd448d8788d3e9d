// Package restore puts a snapshot, or the data of a stopped member, in the place of what etcd has,
// on one node or on several as one run.
package restore
