package op

import (
	"reflect"
	"time"
)

// Within is how long an operation may wait by its own limits, all of them together; 0 when it has
// none. Its limits are its fields Limit, Timeout and Grace, and those of what it is made of.
func Within(o Op) time.Duration { return limits(reflect.ValueOf(o)) }

var (
	aDuration   = reflect.TypeFor[time.Duration]()
	kubeletsOwn = reflect.TypeFor[StartLimit]() // nothing waits for it
)

func limits(v reflect.Value) (sum time.Duration) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			sum = limits(v.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return 0 // a file's bytes
		}
		for i := range v.Len() {
			sum += limits(v.Index(i))
		}
	case reflect.Map:
		for each := v.MapRange(); each.Next(); {
			sum += limits(each.Value())
		}
	case reflect.Struct:
		if v.Type() == kubeletsOwn {
			return 0
		}
		for i := range v.NumField() {
			sum += ownLimit(v.Type().Field(i), v.Field(i))
		}
	}
	return sum
}

func ownLimit(field reflect.StructField, v reflect.Value) time.Duration {
	if field.Type != aDuration {
		return limits(v)
	}
	switch field.Name {
	case "Limit", "Timeout", "Grace":
		return time.Duration(v.Int())
	}
	return 0
}
