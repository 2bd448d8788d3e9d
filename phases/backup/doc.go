// Package backup takes proven snapshots, lists them, and proves them again.
package backup
