package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// A ManifestError is a place in a manifest that cannot be used.
type ManifestError struct {
	File  string // base name
	Line  int    // from 1; 0 if unknown
	Field string // such as spec.ports[0].port; "" if it is not about a field
	Msg   string
}

// Error returns "file:line: field: message".
func (e *ManifestError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line))
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	return b.String() + ": " + e.Msg
}

// maxErrors is how many errors of one file are told.
const maxErrors = 10

// A decoder fills Go values from YAML nodes as the API server's strict decoding would: by their
// json names, with unknown and duplicate fields as errors. It exists because the usual way,
// YAML to JSON to Go, forgets the line.
type decoder struct {
	file string
	errs []error
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, &ManifestError{d.file, n.Line, path, fmt.Sprintf(format, args...)})
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// value decodes n into v, which is settable and zero.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, path, "aliases are not supported")
		return
	case n.ShortTag() == "!!null":
		return
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, p.Elem(), path)
		v.Set(p)
		return
	case v.Addr().Type().Implements(unmarshaler):
		d.custom(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			d.custom(n, v, path)
			return
		}
		if n.Kind != yaml.SequenceNode {
			d.mismatch(n, path, "a list")
			return
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.value(item, list.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
		v.Set(list)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	tag := n.ShortTag()
	if n.Kind != yaml.ScalarNode {
		tag = ""
	}
	switch v.Kind() {
	case reflect.String:
		if tag != "!!str" && tag != "!!timestamp" {
			d.mismatch(n, path, "a string")
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		var b bool
		if tag != "!!bool" || n.Decode(&b) != nil {
			d.mismatch(n, path, "true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		var i int64
		if tag != "!!int" || n.Decode(&i) != nil || v.OverflowInt(i) {
			d.mismatch(n, path, fmt.Sprintf("an integer of %d bits", v.Type().Bits()))
			return
		}
		v.SetInt(i)
	default:
		d.fail(n, path, "fields of type %s are not supported", v.Type())
	}
}

func (d *decoder) mismatch(n *yaml.Node, path, want string) {
	d.fail(n, path, "want %s, found %s", want, describe(n))
}

// describe names what a node is, in a few words.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	value := n.Value
	if len(value) > 40 {
		value = value[:40] + "..."
	}
	if n.ShortTag() == "!!str" {
		return strconv.Quote(value)
	}
	return strings.ToValidUTF8(value, "\uFFFD")
}

// pairs calls f for each key and value of a mapping node, and fails duplicate keys.
func (d *decoder) pairs(n *yaml.Node, path string, f func(key, value *yaml.Node, path string)) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, path, "a mapping")
		return
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, path, "want a name, found %s", describe(key))
			continue
		}
		field := join(path, key.Value)
		if seen[key.Value] {
			d.fail(key, field, "duplicate field")
			continue
		}
		seen[key.Value] = true
		f(key, value, field)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	d.pairs(n, path, func(key, value *yaml.Node, path string) {
		index, ok := fields[key.Value]
		if !ok {
			d.fail(key, path, "unknown field")
			return
		}
		d.value(value, v.FieldByIndex(index), path)
	})
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, path, func(key, value *yaml.Node, path string) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(value, elem, path)
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), elem)
	})
}

// custom decodes types that have their own JSON form, such as times and quantities.
func (d *decoder) custom(n *yaml.Node, v reflect.Value, path string) {
	plain, err := toJSON(n)
	if err == nil {
		err = json.Unmarshal(plain, v.Addr().Interface())
	}
	if err != nil {
		d.fail(n, path, "%s is not valid here: %v", describe(n), err)
	}
}

// toJSON returns the JSON form of n.
func toJSON(n *yaml.Node) ([]byte, error) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!timestamp" {
		return json.Marshal(n.Value)
	}
	if n.Kind == yaml.ScalarNode || n.Kind == yaml.AliasNode {
		if n.Kind == yaml.AliasNode {
			return nil, errors.New("aliases are not supported")
		}
		var x any
		if err := n.Decode(&x); err != nil {
			return nil, err
		}
		return json.Marshal(x)
	}
	var b []byte
	for i := 0; i < len(n.Content); i++ {
		part, err := toJSON(n.Content[i])
		if err != nil {
			return nil, err
		}
		switch {
		case n.Kind == yaml.MappingNode && i%2 == 0:
			if part, err = json.Marshal(n.Content[i].Value); err != nil {
				return nil, err
			}
			b = append(append(b, part...), ':')
		default:
			b = append(append(b, part...), ',')
		}
	}
	b = bytes.TrimSuffix(b, []byte(","))
	if n.Kind == yaml.MappingNode {
		return append(append([]byte{'{'}, b...), '}'), nil
	}
	return append(append([]byte{'['}, b...), ']'), nil
}

var fieldCache sync.Map // reflect.Type -> map[string][]int

// fieldsOf maps the json names of a struct type to its fields; those of structs that are
// embedded inline count as its own.
func fieldsOf(t reflect.Type) map[string][]int {
	if m, ok := fieldCache.Load(t); ok {
		return m.(map[string][]int)
	}
	out := map[string][]int{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for inner, index := range fieldsOf(f.Type) {
				out[inner] = append(slices.Clone(f.Index), index...)
			}
		case f.IsExported() && name != "" && name != "-":
			out[name] = f.Index
		}
	}
	fieldCache.Store(t, out)
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
