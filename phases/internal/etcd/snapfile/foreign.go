package snapfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
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
		{"\x1f\x9d", 0, "a file of compress (.Z)", "gzip -d -c < FILE > snapshot.db"},
		{"LZIP", 0, "an lzip file", "lzip -d -c FILE > snapshot.db"},
		{"\x89LZO\x00\r\n\x1a\n", 0, "an lzop file", "lzop -d -c < FILE > snapshot.db"},
		{"Rar!\x1a\x07", 0, "a RAR archive", "unrar p -inul FILE > snapshot.db"},
		{"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", "7z x -so FILE > snapshot.db"},
		{"ustar", 257, "a tar archive", "tar -xf FILE"},
		{"age-encryption.org/", 0, "a file encrypted by age", "age -d -i KEY -o snapshot.db FILE"},
		{"Salted__", 0, "a file encrypted by openssl", "openssl enc -d -CIPHER -in FILE -out snapshot.db"},
		{"-----BEGIN PGP MESSAGE", 0, "a file encrypted by gpg", gpg},
		{"$ANSIBLE_VAULT", 0, "a file encrypted by Ansible Vault", "ansible-vault decrypt --output snapshot.db FILE"},
		{"SQLite format 3", 0, "an SQLite database, such as K3s uses instead of etcd,", ""},
	}
}

const gpg = "gpg -d -o snapshot.db FILE"

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
		if len(begin) >= k.at && bytes.HasPrefix(begin[k.at:], []byte(k.magic)) && (k.at == 0 || begin[0] != 0) {
			return f.packed(k)
		}
	}
	switch {
	case isOpenPGP(begin):
		return f.packed(format{name: "a file encrypted by gpg", unpack: gpg})
	case isText(begin):
		return f.text(string(begin))
	}
	return nil
}

func (f *file) packed(k format) error {
	if k.unpack == "" {
		return bad(CheckLength, 0, "it is %s and contains no snapshot", k.name)
	}
	return bad(CheckLength, 0, "it is %s, not the snapshot itself: unpack it first with `%s`",
		k.name, strings.ReplaceAll(k.unpack, "FILE", f.Name()))
}

// text says what a file is that begins with text.
func (f *file) text(begin string) error {
	text := strings.ToLower(strings.TrimLeft(strings.TrimPrefix(begin, "\ufeff"), " \t\r\n"))
	beside, isJSON := strings.CutSuffix(f.Name(), ".json")
	name := "text"
	switch {
	case strings.HasPrefix(text, "{") && (isJSON || strings.Contains(text, `"sha256"`)):
		return bad(CheckLength, 0, "it is JSON, like the sidecar of a backup: %s", describedBy(beside, isJSON))
	case strings.HasPrefix(text, "{") || strings.HasPrefix(text, "["):
		name = "JSON"
	case isBase64(begin):
		return f.packed(format{name: "base64", unpack: "base64 -d FILE > snapshot.db"})
	}
	for start, document := range documents() {
		if strings.HasPrefix(text, start) {
			name = document
		}
	}
	return bad(CheckLength, 0, "it is %s, which a server sends when it does not have the file or refuses to "+
		"send it: read it with `head -c 2000 %s`, and download the snapshot again", name, f.Name())
}

// describedBy names the snapshot beside a sidecar.
func describedBy(beside string, known bool) string {
	_, err := os.Lstat(beside)
	switch {
	case !known:
		return "use the snapshot itself, which it describes"
	case errors.Is(err, fs.ErrNotExist):
		return "it belongs to the snapshot " + beside + ", which is missing"
	}
	return "use the snapshot itself, " + beside
}

// isText says whether all of a file's beginning can be read; its end may cut a character.
func isText(begin []byte) bool {
	for rest := begin; utf8.FullRune(rest); {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 || unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) {
			return false
		}
		rest = rest[size:]
	}
	return len(begin) > 0
}

// isBase64 recognizes lines of it that are longer than a word, and not only digits.
func isBase64(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	first = strings.TrimRight(first, "\r")
	const line, hex = 60, "0123456789abcdefABCDEF\r\n"
	other := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) &&
			!strings.ContainsRune("+/=\r\n", r)
	}
	return len(first) >= line && !strings.ContainsFunc(text, other) && strings.Trim(text, hex) != ""
}

// isOpenPGP recognizes the first packet of what gpg encrypts, with a key or with a passphrase, or
// signs (RFC 9580, sections 4.2 and 5): its kind, and the version in it.
func isOpenPGP(begin []byte) bool {
	if len(begin) < 8 || begin[0]&0x80 == 0 {
		return false
	}
	kind, header := begin[0]>>2&0xf, []int{2, 3, 5, 1}[begin[0]&3] // of the older form
	if begin[0]&0x40 != 0 {
		kind, header = begin[0]&0x3f, 2
		switch {
		case begin[1] == 255:
			header = 6
		case begin[1] >= 192 && begin[1] < 224:
			header = 3
		}
	}
	version := begin[header]
	switch kind {
	case 1: // a session key for a public key
		return version == 3 || version == 6
	case 3: // for a passphrase
		return version >= 4 && version <= 6
	case 4: // a signature follows
		return version == 3 || version == 6
	case 8: // compressed, as what is signed
		return version >= 1 && version <= 3
	}
	return false
}
