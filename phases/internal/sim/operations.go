package sim

import (
	"encoding/json"
	"hash/maphash"
	"reflect"
	"sync/atomic"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// Each process of etcdpod reads the operations of its run from the journal, and the exploration
// starts some hundred thousand processes, most of them on the same journals. Here an operation that
// was read from the same JSON before is copied instead.

func init() {
	read := op.Read
	op.Read = func(kind string, body json.RawMessage) (op.Op, error) { return remembered(read, kind, body) }
}

// operation is one that was read, and from what.
type operation struct {
	kind, body string
	read       op.Op // never given away
}

var (
	// By a hash of the JSON; one takes the place of another.
	operations [1 << 12]atomic.Pointer[operation]
	seed       = maphash.MakeSeed()
)

func remembered(read func(string, json.RawMessage) (op.Op, error), kind string, body json.RawMessage) (op.Op, error) {
	slot := &operations[maphash.Bytes(seed, body)%uint64(len(operations))]
	known := slot.Load()
	if known == nil || known.kind != kind || known.body != string(body) {
		o, err := read(kind, body)
		if err != nil {
			return nil, err
		}
		known = &operation{kind, string(body), o}
		slot.Store(known)
	}
	return copyOf(reflect.ValueOf(known.read)).Interface().(op.Op), nil
}

// copyOf shares nothing with v that could be written to.
func copyOf(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		c := reflect.New(v.Type().Elem())
		c.Elem().Set(copyOf(v.Elem()))
		return c
	case reflect.Struct:
		c := reflect.New(v.Type()).Elem()
		c.Set(v) // what is not exported was not read from JSON
		for i := range v.NumField() {
			if f := v.Field(i); v.Type().Field(i).IsExported() && shares(f.Kind()) {
				c.Field(i).Set(copyOf(f))
			}
		}
		return c
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		reflect.Copy(c, v)
		for i := 0; i < v.Len() && shares(v.Type().Elem().Kind()); i++ {
			c.Index(i).Set(copyOf(v.Index(i)))
		}
		return c
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeMapWithSize(v.Type(), v.Len())
		for _, key := range v.MapKeys() {
			c.SetMapIndex(key, copyOf(v.MapIndex(key)))
		}
		return c
	case reflect.Array, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		panic("sim: cannot copy a " + v.Type().String())
	}
	return v
}

// shares says whether two values of that kind can share what is written to.
func shares(k reflect.Kind) bool {
	switch k {
	case reflect.Pointer, reflect.Struct, reflect.Slice, reflect.Map, reflect.Array,
		reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return true
	}
	return false
}
