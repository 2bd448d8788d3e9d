package node

import (
	"os"
	"testing"
)

func TestAScratchFileHasNoName(t *testing.T) {
	for name, make := range map[string]func(string) (*os.File, error){
		"by the kernel": func(dir string) (*os.File, error) {
			f, path, err := Scratch(dir)
			if err == nil {
				if _, err := os.Stat(path); err != nil {
					t.Error(err)
				}
			}
			return f, err
		},
		"without it": unnamed,
	} {
		dir := t.TempDir()
		f, err := make(dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer f.Close()
		if _, err := f.WriteString("secret"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		there, err := os.ReadDir(dir)
		if err != nil || len(there) > 0 {
			t.Errorf("%s: %v, %v", name, there, err)
		}
		info, err := f.Stat()
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 6 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
