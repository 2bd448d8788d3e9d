package journal

import "sync"

// remembered is nil in the program: it reads a journal a few times in its life.
var remembered *memory

// Remember makes this process keep the records that it has parsed. It is for the crash tests, which
// read the same lines millions of times and would spend half of their time on it.
func Remember() { remembered = &memory{records: map[string]Record{}} }

type memory struct {
	mu      sync.RWMutex
	records map[string]Record
}

// most bounds the memory: a record is up to some KiB.
const most = 1 << 14

func (m *memory) parse(line []byte) (Record, error) {
	m.mu.RLock()
	r, known := m.records[string(line)]
	m.mu.RUnlock()
	if known {
		return r, nil
	}
	r, err := parseRecord(line)
	if err != nil {
		return r, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.records) == most {
		clear(m.records)
	}
	m.records[string(line)] = r
	return r, nil
}
