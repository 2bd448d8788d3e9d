package main

import (
	"reflect"
	"strings"
)

// withLists returns a copy of a value in which lists and maps that are always written are there:
// [] and {} in JSON, never null.
func withLists(value any) any {
	v := reflect.ValueOf(value)
	filled := reflect.New(v.Type()).Elem()
	filled.Set(v)
	fillLists(filled)
	return filled.Interface()
}

func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			v.Set(reflect.ValueOf(withLists(v.Interface())))
		}
	case reflect.Pointer:
		fillLists(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && !(v.Field(i).IsZero() && strings.Contains(f.Tag.Get("json"), ",omit")) {
				fillLists(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			fillLists(v.Index(i))
		}
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	}
}
