package snapfile

import (
	"bytes"
	"hash/crc32"
)

const (
	most        = 4096 // bytes of a key or value that are inspected
	encPrefix   = "k8s:enc:"
	registry    = "/registry/"
	masterLease = "masterleases"
	bindings    = "clusterrolebindings"
	definitions = "customresourcedefinitions.apiextensions.k8s.io"
	adminsName  = "kubeadm:cluster-admins"
	maxPrefixes = 256
	maxNames    = 4096
	maxMasters  = 1024
)

// maxNotes limits what the first walk keeps to 12 MiB.
const maxNotes = 1 << 19

// note is what the survey needs to know about an entry.
type note struct {
	main   int64  // revision
	size   int64  // bytes, of the revision and of what is stored under it
	crc    uint32 // of those, Castagnoli
	kind   uint16 // of the object, an index in the catalogue
	prefix uint16 // of the value's encryption, an index in the catalogue
}

// Kinds that are always in the catalogue.
const (
	noObject  = iota // the mark of a raised revision, or an entry that was not inspected
	deletion         // of a key
	otherwise        // an object that is not below /registry/
)

// kind is a resource, one API server's lease, the binding of the administrators, or the definition
// of one custom resource.
type kind struct {
	resource, master string
	unleased         bool // nothing ends the API server's entry
	admin            bool
	defines          string // the custom resource
}

// catalogue numbers the kinds and encryption prefixes in the file.
type catalogue struct {
	kinds    []kind
	prefixes []string // the first is none
	numbers  map[string]uint16
	name     []byte
	resources,
	masters,
	defined int
	full    bool   // something got no number of its own
	seen    uint64 // entries
	samples samples[string]
	sealed  samples[sealed]
}

func newCatalogue() *catalogue {
	return &catalogue{kinds: make([]kind, otherwise+1), prefixes: make([]string, 1), numbers: map[string]uint16{},
		samples: samples[string]{}, sealed: samples[sealed]{}}
}

// note looks at an entry, and at the object in it if given.
func (c *catalogue) note(e *entry, r revision, kv *keyValue) (note, error) {
	n := note{main: r.main, size: int64(len(e.key)) + e.size}
	if r.tombstone {
		n.kind = deletion
	} else if kv != nil && kv.key.size > 0 {
		if err := c.look(e, kv, &n); err != nil {
			return n, err
		}
	}
	c.seen++
	err := e.window.each(e.off, n.size, func(b []byte) { n.crc = crc32.Update(n.crc, castagnoli, b) })
	return n, err
}

func (c *catalogue) look(e *entry, kv *keyValue, n *note) error {
	n.kind = otherwise
	key, err := e.window.at(kv.key.off, int(min(kv.key.size, most)))
	if err != nil {
		return err
	}
	wanted := ""
	if rest, ok := bytes.CutPrefix(key, []byte(registry)); ok {
		n.kind = c.kind(rest, kv.lease == 0)
		wanted = wantedObject(rest)
	}
	value, err := e.window.at(kv.value.off, int(min(kv.value.size, most)))
	if err != nil {
		return err
	}
	place := spot{entry: c.seen, key: kv.key, value: kv.value}
	if bytes.HasPrefix(value, []byte(encPrefix)) {
		n.prefix = c.prefix(value)
		of := sealed{n.kind, n.prefix}
		if c.sealed[of] != nil || len(c.sealed) < maxSealed {
			c.sealed.add(of, place)
		} else {
			c.full = true
		}
		return nil
	}
	if wanted == secrets && !bytes.Contains(value, []byte(tokenType)) {
		wanted = ""
	}
	if wanted != "" {
		c.samples.add(wanted, place)
	}
	return nil
}

// kind numbers a key below /registry/ (kube-apiserver's default --etcd-prefix).
func (c *catalogue) kind(path []byte, unleased bool) uint16 {
	first, rest, _ := bytes.Cut(path, []byte("/"))
	second, _, below := bytes.Cut(rest, []byte("/"))
	name := resourceName(c.name[:0], first, second, below)
	resource := len(name)
	if string(first) == masterLease {
		name = append(append(name, 0), rest[bytes.LastIndexByte(rest, '/')+1:]...)
		unleased = unleased && len(name) > resource+1
	}
	end := len(name)
	if resource < end && unleased {
		name = append(name, 0)
	}
	admin := string(first) == bindings && string(rest) == adminsName
	defines := string(name) == definitions
	if admin || defines {
		name = append(append(name, 0), rest[bytes.LastIndexByte(rest, '/')+1:]...)
	}
	c.name = name
	if n, known := c.numbers[string(name)]; known {
		return n
	}
	k := kind{resource: string(name[:resource])}
	switch {
	case admin:
		k.admin = true
	case defines && c.defined < maxNames && len(name) <= 512:
		k.defines = string(name[resource+1:])
		c.defined++
	case !defines && resource < len(name) && c.masters < maxMasters:
		k.master, k.unleased = string(name[resource+1:end]), unleased
		c.masters++
	case resource < len(name):
		return c.number(k.resource, k, true)
	case c.resources >= maxNames || resource > 512:
		return c.number("other", kind{resource: "other"}, true)
	default:
		c.resources++
	}
	return c.number(string(name), k, false)
}

// number adds a kind to the catalogue, or finds it; shared means that the name has
// no number of its own.
func (c *catalogue) number(name string, k kind, shared bool) uint16 {
	c.full = c.full || shared
	n, known := c.numbers[name]
	if !known {
		n = uint16(len(c.kinds))
		c.kinds = append(c.kinds, k)
		c.numbers[name] = n
	}
	return n
}

// prefix numbers the start of a value that the API server encrypted:
// k8s:enc:<provider>:<version>:<key>:
func (c *catalogue) prefix(value []byte) uint16 {
	end := len(encPrefix)
	for range 3 {
		i := bytes.IndexByte(value[end:], ':')
		if i < 0 {
			end = len(encPrefix)
			break
		}
		end += i + 1
	}
	for range 2 {
		for n, p := range c.prefixes[1:] {
			if p == string(value[:end]) {
				return uint16(n + 1)
			}
		}
		if len(c.prefixes) <= maxPrefixes {
			break
		}
		end, c.full = len(encPrefix), true
	}
	c.prefixes = append(c.prefixes, string(value[:end]))
	return uint16(len(c.prefixes) - 1)
}

// resourceName returns kubectl's name for the objects below two path elements. Custom resources,
// and those of API extensions, are stored below their group; five built-in ones under old names
// (kubernetes pkg/kubeapiserver, SpecialDefaultResourcePrefixes).
func resourceName(name, first, second []byte, below bool) []byte {
	switch {
	case string(first) == "services" && (string(second) == "specs" || string(second) == "endpoints"):
		if string(second) == "endpoints" {
			return append(name, second...)
		}
	case string(first) == "minions":
		return append(name, "nodes"...)
	case string(first) == "controllers":
		return append(name, "replicationcontrollers"...)
	case string(first) == "ingress":
		return append(name, "ingresses"...)
	case bytes.ContainsRune(first, '.') && below:
		return append(append(append(name, second...), '.'), first...)
	}
	return append(name, first...)
}

// notebook keeps a note of each entry in the first walk, as long as there are not too many: then no
// second walk is needed.
type notebook struct {
	*catalogue
	pages [][]note
	n     int
	most  int
	gone  func() // called when it gives up
}

// perPage notes are added at once: a single growing list would need twice the memory.
const perPage = 1 << 12

// add does nothing once the notebook is full.
func (b *notebook) add(e *entry, r revision, kv *keyValue) error {
	if b.catalogue == nil {
		return nil
	}
	n, err := b.note(e, r, kv)
	if err != nil {
		return err
	}
	if b.n == b.most || b.full {
		b.pages, b.catalogue = nil, nil
		b.gone()
		return nil
	}
	if b.n%perPage == 0 {
		b.pages = append(b.pages, make([]note, 0, perPage))
	}
	last := &b.pages[len(b.pages)-1]
	*last = append(*last, n)
	b.n++
	return nil
}
