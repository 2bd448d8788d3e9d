package snapfile

import "encoding/binary"

// message goes through the fields of a protobuf message in the file, without loading it: a value
// may be larger than memory.
type message struct {
	window   *window
	off, end int64
}

// field is one field. A length-delimited one (bytes, strings, messages) is known only by its place.
type field struct {
	number    uint64
	delimited bool
	value     uint64 // of a number
	off, size int64  // of the bytes
}

const malformed = "it is not a protobuf message"

// next returns the next field; at the end, one with the number 0. A non-empty wrong
// says why there is none.
func (m *message) next() (f field, wrong string, err error) {
	if m.off == m.end {
		return field{}, "", nil
	}
	tag, ok, err := m.varint()
	if !ok || err != nil {
		return field{}, malformed, err
	}
	f.number = tag >> 3
	if f.number == 0 || f.number >= 1<<29 {
		return field{}, malformed, nil
	}
	switch tag & 7 {
	case 0:
		f.value, ok, err = m.varint()
	case 1:
		ok = m.skip(8)
	case 2:
		f.delimited = true
		var size uint64
		if size, ok, err = m.varint(); ok && err == nil {
			f.off = m.off
			if ok = size <= uint64(m.end-m.off); ok {
				f.size = int64(size)
				m.off += f.size
			}
		}
	case 5:
		ok = m.skip(4)
	default: // groups: no etcd message has any
		ok = false
	}
	if !ok || err != nil {
		return field{}, malformed, err
	}
	return f, "", nil
}

func (m *message) varint() (v uint64, ok bool, err error) {
	b, err := m.window.at(m.off, int(min(binary.MaxVarintLen64, m.end-m.off)))
	if err != nil {
		return 0, false, err
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, false, nil
	}
	m.off += int64(n)
	return v, true, nil
}

func (m *message) skip(n int64) bool {
	if m.end-m.off < n {
		return false
	}
	m.off += n
	return true
}
