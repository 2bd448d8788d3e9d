package snapfile

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// archived puts data into each kind of file.
func archived(t *testing.T, data []byte) map[string][]byte {
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
	lines := []byte(base64.StdEncoding.EncodeToString(data))
	for at := 76; at < len(lines); at += 77 {
		lines = slices.Insert(lines, at, '\n')
	}
	zeros := strings.Repeat("\x00", 8)
	page := zeros + "\x04" + zeros[:7] + "\xed\x0c\xda\xed" + strings.Repeat(zeros, 99)
	after := func(begin string) []byte { return append([]byte(begin), data...) }
	return map[string][]byte{
		"gunzip -c":              gz.Bytes(),
		"unzip -p":               z.Bytes(),
		"tar -xf":                tr.Bytes(),
		"zstd -d":                after("\x28\xb5\x2f\xfd"),
		"xz -d":                  after("\xfd7zXZ\x00"),
		"lzip -d":                after("LZIP\x01\x0c"),
		"lzop -d":                after("\x89LZO\x00\r\n\x1a\n\x10\x40"),
		"gzip -d":                after("\x1f\x9d\x90"),
		"gpg -d -o snapshot.db":  after("\x8c\x0d\x04\x09\x03\x02\x39\xf8\x3b"), // passphrase
		"gpg -d -o snapshot":     after("\x85\x01\x8c\x03\xf2\xe0\x9e\xf2\x49"), // RSA
		"gpg -d -o":              after("\x84\x5e\x03\xd3\x39\x21\x04\x7f\x00"), // a curve
		"gpg -d":                 after("\xc3\x0d\x04\x09\x03\x08\x11\xf8\x3b"), // newer form
		"encrypted by gpg":       after("\xa3\x01\xed\xc8\xdb\x4b\x53\x01\x00"), // signed
		"base64 -d":              lines,
		"base64 -d FILE":         []byte(base64.StdEncoding.EncodeToString([]byte(page))),
		"it is XML":              []byte("<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>"),
		"it is HTML":             []byte("\n<!DOCTYPE html>\n<html><body>Sign in</body></html>"),
		"it is JSON, which a":    []byte(`{"message":"denied"}`),
		"it is JSON, which":      []byte(`[{"message":"denied"}]`),
		"it is JSON, like the":   []byte(`{"format":1,"sha256":"01","revision":7}`),
		"it is text, which":      []byte("AccessDenied"),
		"it is text, ":           []byte(strings.Repeat("00112233445566778899aabbccddeeff\n", 99)),
		"it is text":             []byte(strings.Repeat("nicht verf\u00fcgbar\n", 999)),
		"such as K3s uses":       after("SQLite format 3\x00"),
		"file is empty":          nil,
		"not whole page":         []byte("\x01PLAIN"),
		"not whole pages plus a": append([]byte{0x85}, bytes.Repeat([]byte{0xaa}, 9999)...),
	}
}

func TestWhatHoldsASnapshotIsCalledByItsNameWithTheCommandToUnpackIt(t *testing.T) {
	for says, data := range archived(t, bytes.Repeat([]byte("data"), 5000)) {
		file := filepath.Join(t.TempDir(), "backup")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{{}, {Raw: true}, {Quick: true}} {
			_, err := Check(t.Context(), file, o)
			var b *Bad
			says := strings.ReplaceAll(says, "FILE", file)
			if !errors.As(err, &b) || !o.Raw && !strings.Contains(err.Error(), says) {
				t.Errorf("%q, %+v: %v", says, o, err)
			}
			if command := strings.Contains(says, " -"); command && !strings.Contains(err.Error(), file) {
				t.Errorf("%q does not name the file: %v", says, err)
			}
		}
	}
}
