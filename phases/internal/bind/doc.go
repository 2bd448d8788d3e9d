// Package bind gives operations the real etcd, the real API server and real certificates: it
// implements the interfaces of package op, and turns host paths into those of the operating system.
package bind
