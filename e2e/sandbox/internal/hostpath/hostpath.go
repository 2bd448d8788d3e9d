// Package hostpath finds, below a sandbox's root, what the node's programs would find at a path.
package hostpath

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// mostLinks is the kernel's own limit (path_resolution(7)).
const mostLinks = 40

// Resolve returns the path on this machine of a host path, with every symbolic link followed as if
// root were /. Missing names count as plain ones.
func Resolve(root, host string) (string, error) {
	done, rest := "/", strings.Split(host, "/")
	for links := 0; len(rest) > 0; {
		next := filepath.Join(done, rest[0])
		rest = rest[1:]
		to, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			done = next
			continue
		}
		if links++; links > mostLinks {
			return "", fmt.Errorf("cannot resolve %s: %w", host, syscall.ELOOP)
		}
		if filepath.IsAbs(to) {
			done = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return filepath.Join(root, done), nil
}
