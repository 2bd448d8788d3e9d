package op

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Issuance describes the certificate to make. It goes into the journal, so it holds no secret: keys
// are made when the operation runs, and exist only in files.
type Issuance struct {
	Name string `json:"name"` // kubeadm's name: etcd-server
	// Host path of the certificate to take subject and names from; empty: there is none.
	Old string `json:"old,omitempty"`
	// Foreign says that the old certificate is another machine's: nothing but the kind of its key
	// is taken from it.
	Foreign          bool   `json:"foreign,omitempty"`
	CACert           string `json:"caCert"` // host path; empty: it is a CA, and signs itself
	CAKey            string `json:"caKey"`  // host path; empty likewise
	NodeName         string `json:"nodeName"`
	AdvertiseAddress string `json:"advertiseAddress"`
	// Additional names that kubeadm's configuration asks for.
	SANs      []string      `json:"sans,omitempty"`
	Algorithm string        `json:"algorithm,omitempty"`
	Validity  time.Duration `json:"validity,omitempty"`
}

// Certificates is what operations need for certificates. Paths are host paths.
type Certificates interface {
	// Issue makes a key and its certificate, in PEM. It reads the CA's key only for that moment.
	Issue(ctx context.Context, i Issuance) (cert, key []byte, err error)
	// Request makes a key, and a request for an external CA to sign, in PEM.
	Request(ctx context.Context, i Issuance) (csr, key []byte, err error)
	// Serves returns nil when the server at host:port serves exactly the certificate in the file.
	// access names the client certificate to present.
	Serves(ctx context.Context, address string, access Access, file string) error
}

// IssueCertificate makes a certificate and its key in the run's folder.
type IssueCertificate struct {
	Issuance Issuance `json:"issuance"`
	To       string   `json:"to"` // without .crt and .key
}

func (i *IssueCertificate) String() string {
	if i.Issuance.CACert == "" {
		return fmt.Sprintf("issue a new %s with a new key, signed by itself", i.Issuance.Name)
	}
	return fmt.Sprintf("issue a new %s with a new key, signed by %s", i.Issuance.Name, i.Issuance.CACert)
}

// Do keeps what an earlier attempt made: the key is written first, so where there is a certificate,
// the pair is complete.
func (i *IssueCertificate) Do(ctx context.Context, t *Target) error {
	if exists(t, i.To+".crt") {
		return syncDirs(t, i.To)
	}
	cert, key, err := t.Certificates.Issue(ctx, i.Issuance)
	if err != nil {
		return err
	}
	return writePair(t, pairAt(i.To), cert, key)
}

// writePair writes a certificate or a request with its key, readable by root only.
func writePair(t *Target, files [2]string, cert, key []byte) error {
	if err := node.WriteAtomic(t.Host.FS, files[1], key, node.Mine(0o600)); err != nil {
		return err
	}
	return node.WriteAtomic(t.Host.FS, files[0], cert, node.Mine(0o600))
}

func (i *IssueCertificate) Undo(_ context.Context, t *Target) error {
	return removePair(t, pairAt(i.To))
}

// removePair removes an unused pair, with what an interrupted attempt left of it.
func removePair(t *Target, files [2]string) error {
	for _, file := range files {
		if err := errors.Join(node.DropTemp(t.Host.FS, file), remove(t, file)); err != nil {
			return err
		}
	}
	return nil
}

func (i *IssueCertificate) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, i.To+".crt") {
		return false, nil
	}
	return true, syncDirs(t, i.To)
}

func (i *IssueCertificate) FilesOnly() bool { return true }

// AdoptCertificate copies a certificate signed elsewhere, with its key, into the run's folder.
type AdoptCertificate struct {
	Name string `json:"name"`
	From string `json:"from"` // without .crt and .key; it stays there
	To   string `json:"to"`   // likewise
	// SHA-256 of the certificate and the key at planning time, hex.
	Sums [2]string `json:"sums"`
}

func (a *AdoptCertificate) String() string {
	return fmt.Sprintf("take the new %s and its key from %s.*", a.Name, a.From)
}

func (a *AdoptCertificate) Do(_ context.Context, t *Target) error {
	if exists(t, a.To+".crt") {
		return syncDirs(t, a.To)
	}
	var data [2][]byte
	for i, file := range pairAt(a.From) {
		var err error
		if data[i], err = t.Host.FS.ReadFile(file); err != nil {
			return fmt.Errorf("cannot read %s: %w", file, err)
		}
		if sumOfData(data[i]) != a.Sums[i] {
			return fmt.Errorf("cannot take %s: it was changed since the run was planned; run the command again", file)
		}
	}
	return writePair(t, pairAt(a.To), data[0], data[1])
}

func (a *AdoptCertificate) Undo(_ context.Context, t *Target) error {
	return removePair(t, pairAt(a.To))
}

func (a *AdoptCertificate) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, a.To+".crt") {
		return false, nil
	}
	return true, syncDirs(t, a.To)
}

// ReplaceCertificate replaces a certificate and its key, and keeps the old pair
// in the run's folder.
//
// etcd and the API server reread both files for each TLS handshake (etcd,
// client/pkg/transport/listener.go). Handshakes fail for the few milliseconds between the two
// renames; open connections stay.
type ReplaceCertificate struct {
	Name string `json:"name"`
	Cert string `json:"cert"` // in use
	Key  string `json:"key"`  // in use
	From string `json:"from"` // the new pair, without .crt and .key; moved from here
	Kept string `json:"kept"` // where the old pair is kept, without .crt and .key

	Old [2]string `json:"old"` // SHA-256 of the certificate and of the key, hex
	New [2]string `json:"new"`
}

func (r *ReplaceCertificate) String() string {
	return fmt.Sprintf("swap in the new %s for %s and %s, keeping the old ones as %s.*",
		r.Name, r.Cert, r.Key, r.Kept)
}

func (r *ReplaceCertificate) inUse() [2]string { return [2]string{r.Cert, r.Key} }

func pairAt(base string) [2]string { return [2]string{base + ".crt", base + ".key"} }

// requestAt names the files that exist until a CA has signed.
func requestAt(base string) [2]string { return [2]string{base + ".csr", base + ".key"} }

// Record notes both pairs, and makes sure that what lies beside the files later is the run's.
func (r *ReplaceCertificate) Record(_ context.Context, t *Target) (err error) {
	for i := range r.inUse() {
		if err := r.shared(i).unused(t); err != nil {
			return err
		}
	}
	if r.Old, err = sums(t, r.inUse()); err == nil {
		r.New, err = sums(t, pairAt(r.From))
	}
	return err
}

func sums(t *Target, files [2]string) (all [2]string, err error) {
	for i, file := range files {
		if all[i], err = sumOf(t, file); err != nil {
			return all, err
		}
	}
	return all, nil
}

func (r *ReplaceCertificate) shared(i int) shared {
	return shared{path: r.inUse()[i], old: r.Old[i], new: r.New[i], kept: pairAt(r.Kept)[i]}
}

// Do replaces the key first. Each new file gets the owner, mode and label of the one it replaces.
func (r *ReplaceCertificate) Do(_ context.Context, t *Target) error {
	for i := range r.inUse() {
		if err := r.theirs(i, r.shared(i).settle(t)); err != nil {
			return err
		}
	}
	// Both are looked at before either is replaced, and afterwards: they belong together.
	if err := r.holds(t, r.Old, r.New); err != nil {
		return err
	}
	for _, i := range []int{1, 0} {
		if err := r.put(t, i, pairAt(r.From)[i], r.New[i]); err != nil {
			return err
		}
	}
	if err := r.holds(t, r.New); err != nil {
		return err
	}
	return removePair(t, pairAt(r.From))
}

// holds fails if a file in use is of none of these pairs.
func (r *ReplaceCertificate) holds(t *Target, pairs ...[2]string) error {
	now, err := sums(t, r.inUse())
	for i := range now {
		if err == nil && !slices.ContainsFunc(pairs, func(pair [2]string) bool { return pair[i] == now[i] }) {
			err = r.theirs(i, errEdited)
		}
	}
	return err
}

// put puts what is in from in the place of the i-th file in use, unless it is there already.
func (r *ReplaceCertificate) put(t *Target, i int, from, want string) error {
	file := r.inUse()[i]
	if sum, err := sumOf(t, file); err != nil || sum == want { // by an earlier attempt
		return err
	}
	data, err := t.Host.FS.ReadFile(from)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", from, err)
	}
	if sumOfData(data) != want {
		return fmt.Errorf("cannot write %s: %s is not what it was when the run began", file, from)
	}
	return r.theirs(i, r.shared(i).replace(t, data))
}

func (r *ReplaceCertificate) theirs(i int, err error) error {
	if errors.Is(err, errEdited) {
		return fmt.Errorf("cannot replace %s: %w", r.inUse()[i], err)
	}
	return err
}

// Undo finds the old pair still in use, or kept. A pair that someone else has put there is theirs.
// If only one file is another's, and the run has replaced both, neither is touched, and the run
// stays open: they belong together, and only a person can say which.
func (r *ReplaceCertificate) Undo(_ context.Context, t *Target) error {
	var now [2]string
	theirs := 0
	for i, file := range r.inUse() {
		err := r.shared(i).settle(t)
		if err != nil && !errors.Is(err, errEdited) {
			return err
		}
		if now[i], err = sumOf(t, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !r.shared(i).known(now[i]) {
			theirs++
		}
	}
	for i, file := range r.inUse() {
		switch kept := pairAt(r.Kept)[i]; {
		case r.shared(i).known(now[i]):
		case theirs == 1 && exists(t, kept):
			return fmt.Errorf("cannot put back %s: someone has changed or removed it since the run began; the "+
				"previous files are kept as %s.*: copy back those that are there", file, r.Kept)
		case now[i] == "":
			t.warn(finding.LeftInPlace, file, "%s is gone: someone else has removed it", file)
		default:
			t.warn(finding.LeftInPlace, file, "%s is left alone: someone else has written it", file)
		}
	}
	if theirs == 2 {
		return nil // what was there stays in the run's folder
	}
	for _, i := range []int{1, 0} {
		if now[i] == r.New[i] {
			if err := r.put(t, i, pairAt(r.Kept)[i], r.Old[i]); err != nil {
				return err
			}
		}
	}
	return removePair(t, pairAt(r.Kept))
}

func (r *ReplaceCertificate) Done(_ context.Context, t *Target) (bool, error) {
	now, err := sums(t, r.inUse())
	if err != nil || now != r.New || exists(t, r.From+".crt") || exists(t, r.From+".key") ||
		!r.shared(0).settled(t) || !r.shared(1).settled(t) {
		return false, err
	}
	return true, syncDirs(t, r.From)
}

// RequestCertificate makes a key and a request for an external CA in the run's folder.
type RequestCertificate struct {
	Issuance Issuance `json:"issuance"`
	To       string   `json:"to"` // without .csr and .key
}

func (r *RequestCertificate) String() string {
	return fmt.Sprintf("make a new key, and the request for %s", r.Issuance.Name)
}

// Do keeps what an earlier attempt made, as IssueCertificate does.
func (r *RequestCertificate) Do(ctx context.Context, t *Target) error {
	if exists(t, r.To+".csr") {
		return syncDirs(t, r.To)
	}
	csr, key, err := t.Certificates.Request(ctx, r.Issuance)
	if err != nil {
		return err
	}
	return writePair(t, requestAt(r.To), csr, key)
}

func (r *RequestCertificate) Undo(_ context.Context, t *Target) error {
	return removePair(t, requestAt(r.To))
}

func (r *RequestCertificate) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, r.To+".csr") {
		return false, nil
	}
	return true, syncDirs(t, r.To)
}

func (r *RequestCertificate) FilesOnly() bool { return true }

// PutCertificate moves a new certificate or request, with its key, from the run's folder to
// where there is none yet.
type PutCertificate struct {
	Name string `json:"name"`
	// The new pair, without .crt (or .csr) and .key; moved from here.
	From    string       `json:"from"`
	To      string       `json:"to"`   // likewise
	Attr    [2]node.Attr `json:"attr"` // of the certificate or request, and of the key
	Request bool         `json:"request,omitempty"`

	New [2]string `json:"new"` // SHA-256 of both, hex: files at To with these hashes are ours
}

func (p *PutCertificate) String() string {
	if p.Request {
		return fmt.Sprintf("put the request for %s in place: %s.key, then %s.csr", p.Name, p.To, p.To)
	}
	return fmt.Sprintf("put the new %s in place: %s.key, then %s.crt", p.Name, p.To, p.To)
}

func (p *PutCertificate) from() [2]string { return p.pair(p.From) }
func (p *PutCertificate) to() [2]string   { return p.pair(p.To) }

func (p *PutCertificate) pair(base string) [2]string {
	if p.Request {
		return requestAt(base)
	}
	return pairAt(base)
}

// Record notes which pair it is, and that neither file exists.
func (p *PutCertificate) Record(_ context.Context, t *Target) (err error) {
	for _, file := range p.to() {
		if exists(t, file) {
			return fmt.Errorf("cannot write %s: it has appeared since the run was planned", file)
		}
		if err := (shared{path: file}).unused(t); err != nil {
			return err
		}
	}
	p.New, err = sums(t, p.from())
	return err
}

// Do writes the key first: where there is a certificate, there is its key.
func (p *PutCertificate) Do(_ context.Context, t *Target) error {
	for _, i := range []int{1, 0} {
		if err := p.put(t, i); err != nil {
			return err
		}
	}
	return removePair(t, p.from())
}

func (p *PutCertificate) put(t *Target, i int) error {
	file := p.to()[i]
	if exists(t, file) { // by an earlier attempt
		if sum, err := sumOf(t, file); err != nil || sum != p.New[i] {
			return errors.Join(fmt.Errorf("cannot write %s: someone has put another file there", file), err)
		}
		return settleWritten(t, file)
	}
	from := p.from()[i]
	data, err := t.Host.FS.ReadFile(from)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", from, err)
	}
	if sumOfData(data) != p.New[i] {
		return fmt.Errorf("cannot write %s: %s is not what it was when the run began", file, from)
	}
	return node.WriteNew(t.Host.FS, file, data, p.Attr[i])
}

// Undo removes the run's own pair. If someone else has replaced one file, both stay: the other
// may be needed with it.
func (p *PutCertificate) Undo(_ context.Context, t *Target) error {
	var left error
	for i, file := range p.to() { // both are settled before either is judged
		err := shared{path: file, new: p.New[i]}.look(t)
		if errors.Is(err, errEdited) {
			t.warn(finding.LeftInPlace, file, "%s.* are left there: someone else put %s there", p.To, path.Base(file))
			left = err
		} else if err != nil {
			return err
		}
	}
	if left != nil {
		return nil
	}
	// The certificate first: where there is a certificate, there is its key.
	for i, file := range p.to() {
		err := shared{path: file, new: p.New[i]}.takeAway(t)
		if errors.Is(err, errEdited) {
			t.warn(finding.LeftInPlace, file, "%s is left there: someone else has put it there just now", file)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *PutCertificate) Done(_ context.Context, t *Target) (bool, error) {
	for i := range p.New {
		if exists(t, p.from()[i]) || !exists(t, p.to()[i]) {
			return false, nil
		}
	}
	now, err := sums(t, p.to())
	if err != nil || now != p.New {
		return false, err
	}
	return true, errors.Join(settleWritten(t, p.to()[1]), settleWritten(t, p.to()[0]), syncDirs(t, p.From))
}

func (p *PutCertificate) FilesOnly() bool { return true }
