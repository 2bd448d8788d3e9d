// Package rehearse tries a restore without one: it restores a snapshot into a directory of its own,
// starts an etcd on it that nobody else reaches, and looks at what it serves.
package rehearse
