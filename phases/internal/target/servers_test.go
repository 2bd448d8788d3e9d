package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// The servers are built by `make e2e`, or `go run ./e2e/binaries/build stores`. Where they are not
// there, the tests that need them are skipped, but not in `make e2e`.

const secret = "hunter22-and-a-bit-more"

// built returns a program that was built before.
func built(t *testing.T, parts ...string) string {
	t.Helper()
	cache, err := binaries.Cache()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(append([]string{cache, "build"}, parts...)...)
	if _, err := os.Stat(file); err != nil && mustBuild {
		t.Fatal(err)
	} else if err != nil {
		t.Skipf("%s is not built: go run ./e2e/binaries/build stores", file)
	}
	return file
}

// serve runs a server until the test has ended; it answers HTTP at the address that it gets.
func serve(t *testing.T, command func(port string) *exec.Cmd) (at string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at = free.Addr().String()
	_, port, _ := net.SplitHostPort(at)
	free.Close()
	cmd := command(port)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", at); err == nil {
			conn.Close()
			return at
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case err := <-ended:
			t.Fatalf("%s: %v\n%s", cmd.Path, err, &said)
		case <-ctx.Done():
			t.Fatalf("%s never answers\n%s", cmd.Path, &said)
		}
	}
}

// startS3 runs versitygw; dir is what it serves.
func startS3(t *testing.T) (at, dir string) {
	t.Helper()
	program := built(t, "versitygw-"+binaries.VersityGW, "bin", "versitygw")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAETCDPOD")
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // it is not for us
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	dir = t.TempDir()
	versions := t.TempDir()
	at = serve(t, func(port string) *exec.Cmd {
		cmd := exec.Command(program, "--port", "127.0.0.1:"+port, "--quiet", "posix", "--versioning-dir", versions, dir)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=AKIAETCDPOD", "ROOT_SECRET_KEY="+secret)
		return cmd
	})
	return at, dir
}

func bucket(t *testing.T, at, path, options string) Store {
	t.Helper()
	u, err := Parse("s3://" + path + "?path-style=true&endpoint=http://" + at + options)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Dial(t.Context(), u, node.OS("/"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s Store) {
	t.Helper()
	if err := s.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// uploads lists the uploads that were begun and not ended.
func uploads(t *testing.T, s Store) (found []string) {
	t.Helper()
	b := s.(*s3)
	for u := range b.core.ListIncompleteUploads(t.Context(), b.Host, "", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		found = append(found, u.Key)
	}
	return found
}

func TestS3Conforms(t *testing.T) {
	at, _ := startS3(t)
	create(t, bucket(t, at, "conform", ""))
	for _, options := range []string{"", "&checksums=off"} {
		t.Run("options "+options, func(t *testing.T) {
			top := "conform/p" + fmt.Sprint(len(options)) + "/"
			conforms(t, place{large: 2*partSize + 1, many: 1003, secret: secret,
				dial:    func(t *testing.T, prefix string) Store { return bucket(t, at, top+prefix, options) },
				nowhere: func(t *testing.T) Store { return bucket(t, at, "nowhere", options) },
				hidden:  func(t *testing.T) []string { return uploads(t, bucket(t, at, "conform", "")) },
			})
		})
		if testing.Short() {
			break
		}
	}
}

func TestS3KeepsWhatIsLocked(t *testing.T) {
	at, _ := startS3(t)
	for i, mode := range []string{"", "&lock-mode=compliance", "&lock-mode=compliance&checksums=off"} {
		name := fmt.Sprintf("locked%d", i)
		s := bucket(t, at, name, "&lock-days=1"+mode)
		create(t, s)
		for file, data := range map[string][]byte{"c1/small": []byte("x"), "c1/large": random(1, partSize+1)} {
			put(t, s, file, data)
			err := bucket(t, at, name, "").Delete(t.Context(), file)
			if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "keeps it until") {
				t.Errorf("%s with%s: %v", file, mode, err)
			}
			if got := read(t, s, file); !bytes.Equal(got, data) {
				t.Errorf("%s has changed", file)
			}
		}
		plain := bucket(t, at, name, "")
		put(t, plain, "c1/free", []byte("y"))
		if err := plain.Delete(t.Context(), "c1/free"); err != nil {
			t.Errorf("what is not locked: %v", err)
		}
	}
}

// faulty passes requests on to a server, but for those that fault answers itself.
func faulty(t *testing.T, at string, fault http.HandlerFunc) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &spoken{ResponseWriter: w}
		if fault(answer, r); answer.spoke {
			return
		}
		on, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+at+r.URL.RequestURI(), r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		on.Header, on.Host, on.ContentLength = r.Header, r.Host, r.ContentLength
		got, err := client.Do(on)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer got.Body.Close()
		for name, values := range got.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(got.StatusCode)
		var body bytes.Buffer
		_, _ = body.ReadFrom(got.Body)
		if after := r.Header.Get("Cut-After"); after != "" {
			body.Truncate(body.Len() / 2)
		}
		_, _ = w.Write(body.Bytes())
	}))
	t.Cleanup(proxy.Close)
	return strings.TrimPrefix(proxy.URL, "http://")
}

type spoken struct {
	http.ResponseWriter
	spoke bool
}

func (s *spoken) WriteHeader(code int) { s.spoke = true; s.ResponseWriter.WriteHeader(code) }

// A request that is cut off, or refused, at each place: nothing half written has a name, nothing
// half sent is left after the next sweep, and the name can be written, or holds all of it.
func TestS3RequestsThatFailAnywhereLeaveNoHalf(t *testing.T) {
	at, _ := startS3(t)
	whole := bucket(t, at, "faults", "")
	create(t, whole)
	data := random(5, 2*partSize+1)
	for how, fails := range map[string]func(http.ResponseWriter){
		"cut off": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"refused": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>no "+secret+"</Message></Error>")
		},
	} {
		for n := 1; ; n++ {
			requests, last := 0, ""
			// From the n-th on: the client tries again.
			proxy := faulty(t, at, func(w http.ResponseWriter, r *http.Request) {
				if requests++; requests >= n {
					last = r.Method + " " + r.URL.RawQuery
					fails(w)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			err := bucket(t, proxy, "faults", "").Put(ctx, "c1/x", bytes.NewReader(data))
			cancel()
			if err == nil && requests < n {
				if n < 6 {
					t.Errorf("%s: only %d requests", how, n)
				}
				break
			}
			if err == nil || how == "refused" && !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s at %s: %v", how, last, err)
			}
			for _, name := range names(t, whole, "") {
				if !bytes.Equal(read(t, whole, name), data) {
					t.Fatalf("%s at %s: a half has its name", how, last)
				}
			}
			if err := whole.Sweep(t.Context(), "c1/", time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if left := uploads(t, whole); len(left) > 0 {
				t.Fatalf("%s at %s: left is %v", how, last, left)
			}
			if err := whole.Delete(t.Context(), "c1/x"); err != nil && !errors.Is(err, ErrNotExist) {
				t.Fatal(err)
			}
		}
		if err := whole.Delete(t.Context(), "c1/x"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestS3AnswersThatAreCutOffAreNoEnd(t *testing.T) {
	at, _ := startS3(t)
	create(t, bucket(t, at, "cut", ""))
	put(t, bucket(t, at, "cut", ""), "c1/x", random(7, 100_000))
	proxy := faulty(t, at, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			r.Header.Set("Cut-After", "half")
		}
	})
	s := bucket(t, proxy, "cut", "")
	r, err := s.Open(t.Context(), "c1/x")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(r); err == nil {
		t.Errorf("%d of 100000 bytes were taken for all", got.Len())
	}
	for o, err := range s.List(t.Context(), "") {
		if err == nil {
			t.Errorf("half a list was believed: %v", o)
		}
	}
}

func TestCredentialsForS3AreLookedForAndNotShown(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY", "AWS_SECRET_KEY"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	u, err := Parse("s3://bucket?endpoint=http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Dial(t.Context(), u, node.OS("/"))
	if err == nil {
		err = s.Put(t.Context(), "x", strings.NewReader(""))
	}
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("without any: %v", err)
	}
	file := write(t, filepath.Join(t.TempDir(), "credentials"),
		[]byte("[backups]\naws_access_key_id = AKIAFILE\naws_secret_access_key = "+secret+"\n"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_PROFILE", "backups")
	answer := func(code string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Authorization"), "AKIAFILE") {
				t.Error("the file was not read")
			}
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>The key AKIAFILE with %s</Message></Error>", code, secret)
		}
	}
	for code, says := range map[string]string{"AccessDenied": "does not allow it",
		"SignatureDoesNotMatch": "does not take the credentials", "RequestTimeTooSkewed": "clocks"} {
		server := httptest.NewServer(answer(code))
		s := bucket(t, strings.TrimPrefix(server.URL, "http://"), "bucket", "")
		_, err := s.Open(t.Context(), "x")
		var words *Error
		if !errors.Is(err, ErrDenied) || !errors.As(err, &words) || !strings.Contains(err.Error(), says) ||
			words.Do == "" || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "AKIAFILE") {
			t.Errorf("%s: %v", code, err)
		}
		server.Close()
	}
}

// startAzure runs the blob service of azurite.
func startAzure(t *testing.T) (at string) {
	t.Helper()
	program := built(t, "azurite-"+binaries.AzuriteVersion, "node_modules/azurite/dist/src/blob/main.js")
	js, err := exec.LookPath("node")
	if err != nil && mustBuild {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	// The key of azurite's one account, as its pages give it.
	t.Setenv("AZURE_STORAGE_KEY",
		"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
	dir := t.TempDir()
	return serve(t, func(port string) *exec.Cmd {
		return exec.Command(js, program, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", dir, "--silent",
			"--skipApiVersionCheck", "--disableTelemetry")
	})
}

func TestAzureConforms(t *testing.T) {
	at := startAzure(t)
	dial := func(t *testing.T, path string) Store {
		u, err := Parse("azblob://devstoreaccount1/" + path + "?endpoint=http://" + at + "/devstoreaccount1")
		if err != nil {
			t.Fatal(err)
		}
		s, err := Dial(t.Context(), u, node.OS("/"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	create(t, dial(t, "conform"))
	create(t, dial(t, "conform")) // it is there already
	conforms(t, place{large: 2*blockSize + 1, many: 40, secret: os.Getenv("AZURE_STORAGE_KEY"),
		dial:    func(t *testing.T, prefix string) Store { return dial(t, "conform/"+prefix) },
		nowhere: func(t *testing.T) Store { return dial(t, "nowhere") },
		hidden:  func(*testing.T) []string { return nil }, // it cannot be asked for
	})
	t.Setenv("AZURE_STORAGE_KEY", "Zm9yZ2VkIGFuZCBub3QgdGhlIGtleQ==")
	_, err := dial(t, "conform").Open(t.Context(), "put/one")
	if !errors.Is(err, ErrDenied) {
		t.Errorf("with another key: %v", err)
	}
}

// checked checks a target, and holds it to having left nothing.
func checked(t *testing.T, u URL, create bool, left func() []string) Report {
	t.Helper()
	r := Check(t.Context(), u, node.OS("/"), create)
	if r.OK != (r.Err() == nil) {
		t.Errorf("%+v: %v", r, r.Err())
	}
	if left := left(); len(left) > 0 {
		t.Errorf("the check has left %v", left)
	}
	return r
}

func TestACheckOfS3SaysWhatItCan(t *testing.T) {
	at, _ := startS3(t)
	for path, want := range map[string]Can{"plain/p": {WriteOnce: true, Checksum: "SHA-256"},
		"old/p?checksums=off&": {WriteOnce: true},
		"kept?lock-days=3&":    {WriteOnce: true, Checksum: "SHA-256", ObjectLock: true, Versions: true}} {
		if !strings.Contains(path, "?") {
			path += "?"
		}
		u, err := Parse("s3://" + path + "path-style=true&endpoint=http://" + at)
		if err != nil {
			t.Fatal(err)
		}
		none := func() []string { return nil }
		if r := checked(t, u, false, none); r.OK || len(r.Steps) != 1 || !errors.Is(r.Err(), ErrNoPlace) {
			t.Errorf("%s is not there: %+v", path, r)
		}
		name, _, _ := strings.Cut(u.Host+"/"+u.Path, "?")
		left := func() []string {
			s := bucket(t, at, name, "")
			return append(names(t, s, ""), uploads(t, s)...)
		}
		if r := checked(t, u, true, left); !r.OK || r.Can != want || len(r.Steps) != 13 {
			t.Errorf("%s: %+v", path, r)
		}
	}
}
