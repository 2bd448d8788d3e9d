package sim

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// tree holds the names: for each directory's inode the names in it, in order. A list is never
// changed in place: a change makes a new one. So trees share the lists in which they do not differ,
// which makes clones cheap; the exploration makes hundreds of thousands of them.
type tree map[uint64][]entry

// entry is one name in a directory.
type entry struct {
	name string
	ino  uint64
}

func (t tree) clone() tree { return maps.Clone(t) }

// look finds a name in a directory.
func (t tree) look(dir uint64, name string) (uint64, bool) {
	for _, e := range t[dir] {
		if e.name == name {
			return e.ino, true
		}
	}
	return 0, false
}

// put gives a name in a directory to an inode, whatever had the name before.
func (t tree) put(dir uint64, name string, ino uint64) {
	i, taken := slices.BinarySearchFunc(t[dir], name, func(e entry, name string) int {
		return strings.Compare(e.name, name)
	})
	list := make([]entry, 0, len(t[dir])+1)
	list = append(append(list, t[dir][:i]...), entry{name, ino})
	if taken {
		i++
	}
	t[dir] = append(list, t[dir][i:]...)
}

// drop removes a name from a directory.
func (t tree) drop(dir uint64, name string) {
	t[dir] = slices.DeleteFunc(slices.Clone(t[dir]), func(e entry) bool { return e.name == name })
}

// search finds the path from one inode to another below it.
func (t tree) search(from, to uint64) (string, bool) {
	for _, e := range t[from] {
		if e.ino == to {
			return e.name, true
		}
		if below, ok := t.search(e.ino, to); ok {
			return e.name + "/" + below, true
		}
	}
	return "", false
}

// MarshalJSON writes each directory's names as an object.
func (t tree) MarshalJSON() ([]byte, error) {
	all := make(map[uint64]map[string]uint64, len(t))
	for dir, list := range t {
		all[dir] = make(map[string]uint64, len(list))
		for _, e := range list {
			all[dir][e.name] = e.ino
		}
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *tree) UnmarshalJSON(data []byte) error {
	var all map[uint64]map[string]uint64
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	*t = make(tree, len(all))
	for dir, names := range all {
		(*t)[dir] = nil
		for _, name := range slices.Sorted(maps.Keys(names)) {
			(*t)[dir] = append((*t)[dir], entry{name, names[name]})
		}
	}
	return nil
}
