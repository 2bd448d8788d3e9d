package op

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// File helpers beyond those of node: for small files, read and written whole.

func read(t *Target, name string) ([]byte, node.Stat, error) {
	st, err := t.Host.FS.Lstat(name)
	if err != nil {
		return nil, st, fmt.Errorf("cannot read %s: %w", name, err)
	}
	data, err := t.Host.FS.ReadFile(name)
	if err != nil {
		return nil, st, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return data, st, nil
}

func exists(t *Target, name string) bool {
	_, err := t.Host.FS.Lstat(name)
	return err == nil
}

func remove(t *Target, name string) error {
	if err := t.Host.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", name, err)
	}
	return syncDirs(t, name)
}

// syncDirs makes the directories of the names durable.
func syncDirs(t *Target, names ...string) error {
	for _, name := range names {
		if err := t.Host.FS.Sync(path.Dir(name)); err != nil {
			return fmt.Errorf("cannot sync %s: %w", path.Dir(name), err)
		}
	}
	return nil
}

func writeJSON(t *Target, name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return node.WriteAtomic(t.Host.FS, name, data, node.Mine(0o600))
}

func readJSON(t *Target, name string, value any) error {
	data, _, err := read(t, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	return nil
}

func sumOf(t *Target, file string) (string, error) {
	data, err := t.Host.FS.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", file, err)
	}
	return sumOfData(data), nil
}

func sumOfData(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// settleWritten makes a written file durable, and drops what an interrupted write left.
func settleWritten(t *Target, file string) error {
	real, err := t.Host.FS.Resolve(file)
	if err != nil {
		return fmt.Errorf("cannot find %s: %w", file, err)
	}
	return errors.Join(node.DropTemp(t.Host.FS, real), syncDirs(t, real))
}
