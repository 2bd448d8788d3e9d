package snapfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
)

// format is a kind of file that people take for a snapshot: one that holds it, or what a server
// sent in its place.
type format struct {
	magic string
	at    int    // offset of magic
	name  string // with its article
	// How to get at the snapshot; FILE stands for the file. Empty: it holds none.
	unpack string
}

func formats() []format {
	return []format{
		{"\x1f\x8b", 0, "a gzip file", "gunzip -c FILE > snapshot.db"},
		{"\x28\xb5\x2f\xfd", 0, "a zstd file", "zstd -d -c FILE > snapshot.db"},
		{"PK\x03\x04", 0, "a zip archive", "unzip -p FILE > snapshot.db"},
		{"PK\x05\x06", 0, "an empty zip archive", ""},
		{"\xfd7zXZ\x00", 0, "an xz file", "xz -d -c FILE > snapshot.db"},
		{"BZh", 0, "a bzip2 file", "bzip2 -d -c FILE > snapshot.db"},
		{"\x04\x22\x4d\x18", 0, "an lz4 file", "lz4 -d -c FILE > snapshot.db"},
		{"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", "7z x -so FILE > snapshot.db"},
		{"ustar", 257, "a tar archive", "tar -xf FILE"},
		{"age-encryption.org/", 0, "a file encrypted by age", "age -d -i KEY -o snapshot.db FILE"},
		{"Salted__", 0, "a file encrypted by openssl", "openssl enc -d -CIPHER -in FILE -out snapshot.db"},
		{"-----BEGIN PGP MESSAGE", 0, "a file encrypted by gpg", "gpg -d -o snapshot.db FILE"},
	}
}

// documents are what a server answers when it has no snapshot to send.
func documents() map[string]string {
	return map[string]string{"<?xml": "XML", "<!doctype html": "HTML", "<html": "HTML", "<error": "XML"}
}

const sniffed = 512 // bytes; tar's mark is the last

// checkFormat calls by its name a file that is none of bbolt's. A database begins with the number
// of its first page, which is eight zero bytes.
func (f *file) checkFormat() error {
	begin := make([]byte, min(sniffed, f.size))
	if n, err := f.ReadAt(begin, 0); n < len(begin) {
		return readError(f, 0, err)
	}
	for _, k := range formats() {
		if len(begin) < k.at || !bytes.HasPrefix(begin[k.at:], []byte(k.magic)) || k.at > 0 && begin[0] == 0 {
			continue
		}
		if k.unpack == "" {
			return bad(CheckLength, 0, "it is %s and contains no snapshot", k.name)
		}
		return bad(CheckLength, 0, "it is %s, not the snapshot itself: unpack it first with `%s`",
			k.name, strings.ReplaceAll(k.unpack, "FILE", f.Name()))
	}
	text := strings.ToLower(strings.TrimLeft(strings.TrimPrefix(string(begin), "\ufeff"), " \t\r\n"))
	if strings.HasPrefix(text, "{") {
		snapshot := "use the snapshot itself, without .json"
		if beside, ok := strings.CutSuffix(f.Name(), ".json"); ok {
			snapshot = "use the snapshot itself, " + beside
			if _, err := os.Lstat(beside); errors.Is(err, fs.ErrNotExist) {
				snapshot = "it belongs to the snapshot " + beside + ", which is missing"
			}
		}
		return bad(CheckLength, 0, "it is JSON, like the sidecar of a backup: %s", snapshot)
	}
	for start, name := range documents() {
		if strings.HasPrefix(text, start) {
			return bad(CheckLength, 0, "it is %s, which a server sends when it does not have the file or refuses to "+
				"send it: read it with `head -c 2000 %s`, and download the snapshot again", name, f.Name())
		}
	}
	return nil
}
