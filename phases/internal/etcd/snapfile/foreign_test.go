package snapfile

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packed puts data into each kind of file.
func packed(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	var gz, z, tr bytes.Buffer
	g, a, r := gzip.NewWriter(&gz), zip.NewWriter(&z), tar.NewWriter(&tr)
	_, err := g.Write(data)
	inZip, zipErr := a.Create("snapshot.db")
	if zipErr == nil {
		_, zipErr = inZip.Write(data)
	}
	tarErr := r.WriteHeader(&tar.Header{Name: "snapshot.db", Mode: 0o600, Size: int64(len(data))})
	if tarErr == nil {
		_, tarErr = r.Write(data)
	}
	if err := errors.Join(err, zipErr, tarErr, g.Close(), a.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"gunzip -c":      gz.Bytes(),
		"unzip -p":       z.Bytes(),
		"tar -xf":        tr.Bytes(),
		"zstd -d":        append([]byte("\x28\xb5\x2f\xfd"), data...),
		"xz -d":          append([]byte("\xfd7zXZ\x00"), data...),
		"it is XML":      []byte("<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>"),
		"it is HTML":     []byte("\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"),
		"file is empty":  nil,
		"not whole page": []byte("PLAIN"),
	}
}

func TestWhatHoldsASnapshotIsCalledByItsNameWithTheCommandToUnpackIt(t *testing.T) {
	for says, data := range packed(t, bytes.Repeat([]byte("data"), 5000)) {
		file := filepath.Join(t.TempDir(), "backup")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{{}, {Raw: true}, {Quick: true}} {
			_, err := Check(t.Context(), file, o)
			var b *Bad
			if !errors.As(err, &b) || !o.Raw && !strings.Contains(err.Error(), says) {
				t.Errorf("%q, %+v: %v", says, o, err)
			}
			if command := strings.Contains(says, " -"); command && !strings.Contains(err.Error(), file) {
				t.Errorf("%q does not name the file: %v", says, err)
			}
		}
	}
}
