package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// archive makes the tar.gz, in which all is below one directory.
func (r *release) archive(dir string, b build) (err error) {
	name := fmt.Sprintf("etcdpod_%s_linux_%s", r.version, b.arch)
	f, err := os.Create(filepath.Join(dir, name+".tar.gz"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zipped, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(zipped)
	for _, one := range b.files {
		if one.archive == "" {
			continue
		}
		data, err := os.ReadFile(one.source)
		if err != nil {
			return err
		}
		if err := writeTar(w, path.Join(name, one.archive), one.mode, data, r.date); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), zipped.Close())
}

func writeTar(w *tar.Writer, name string, mode os.FileMode, data []byte, date time.Time) error {
	err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(mode.Perm()), Size: int64(len(data)), ModTime: date,
		Typeflag: tar.TypeReg, Format: tar.FormatUSTAR})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(data))
	return err
}

const sumsName = "SHA256SUMS"

// writeSums writes the checksums of all files in dir, for sha256sum --check.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var lines []string
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(data), e.Name()))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	return os.WriteFile(filepath.Join(dir, sumsName), []byte(strings.Join(lines, "")), 0o644)
}
