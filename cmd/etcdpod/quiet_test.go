package main

import (
	"reflect"
	"testing"
)

// --quiet says nothing of what it does not know: a result of another type would be lost in silence.
func TestQuietSaysSomethingOfEveryResult(t *testing.T) {
	silent := map[string]string{
		"members move-leader":  "the exit code tells",
		"members set-peer-url": "the exit code tells",
		"defrag":               "the exit code tells",
		"downgrade cancel":     "the exit code tells",
		"prune":                "the exit code tells",
		"upgrade plan":         "the exit code tells",
		"an event":             "it is no result",
		"an error":             "it is no result",
		"runs show; with --follow, as the result":                                         "the exit code tells",
		"--dry-run of a run on several nodes":                                             "the exit code tells",
		"--dry-run of backup, restore, certs renew, certs generate-csr and apiserver set": "the exit code tells",
	}
	for _, r := range results() {
		full := reflect.New(reflect.TypeOf(r.value))
		fill(full.Elem(), 0)
		list := reflect.Append(reflect.MakeSlice(reflect.SliceOf(full.Elem().Type()), 0, 1), full.Elem())
		said := 0
		for _, v := range []any{full.Interface(), full.Elem().Interface(), list.Interface()} {
			said += len(quietly(v)) + len(wrongIn(v))
		}
		if _, expected := silent[r.what]; (said == 0) != expected {
			t.Errorf("%s: --quiet says %d lines", r.what, said)
		}
	}
}

// fill gives every text, list and number below a value something that is not empty.
func fill(v reflect.Value, deep int) {
	if !v.CanSet() || deep > 6 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), deep+1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), deep+1)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), deep+1)
		}
	}
}
