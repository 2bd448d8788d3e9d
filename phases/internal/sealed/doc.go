// Package sealed is the format in which a backup leaves the node: zstd, then age, and a signature
// over its sidecar in the form of ssh-keygen. docs/backup-format.md describes it for people who
// have nothing but age, zstd and etcdutl. Streams and bytes only: it knows nothing of etcd, of
// files or of the places that backups are sent to.
package sealed
