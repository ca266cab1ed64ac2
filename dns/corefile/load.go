package corefile

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

// Load reads the Corefile at path; "stdin" is the standard input.
func Load(path string, o Options) (*Config, error) {
	if path == "stdin" {
		text, err := io.ReadAll(io.LimitReader(os.Stdin, maxFileSize+1))
		if err != nil {
			return nil, fmt.Errorf("read stdin: %w", err)
		}
		return Parse("stdin", text, o)
	}
	text, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text, o)
}

// Parse makes a Config of the text of a Corefile. name stands in errors, and imports are relative
// to its folder. An error names the file and the line, and the plugin if one is concerned.
func Parse(name string, text []byte, o Options) (*Config, error) {
	warnings, err := check(name, text)
	if err != nil {
		return nil, err
	}
	c := &Config{Warnings: warnings}
	blocks, err := caddyfile.Parse(name, bytes.NewReader(text), nil)
	if err == nil && len(blocks) == 0 { // as CoreDNS: an empty file is no configuration
		blocks, err = caddyfile.Parse(name, strings.NewReader(DefaultText), nil)
	}
	if err != nil {
		return nil, err
	}
	tree, err := json.Marshal(blocks)
	if err != nil {
		return nil, fmt.Errorf("%s: hash: %w", name, err)
	}
	c.Hash = sha512.Sum512(tree)
	var faults []error
	failed := func(err error) bool {
		if err != nil {
			faults = append(faults, err)
		}
		return err != nil && !o.AllFaults
	}
	for _, b := range blocks {
		if slices.ContainsFunc(unknown(name, b), failed) {
			return nil, faults[0]
		}
	}
	raw := make([]rawBlock, len(blocks))
	for i, b := range blocks {
		block, err := newBlock(name, b, o)
		if failed(err) {
			return nil, err
		}
		c.Blocks = append(c.Blocks, block)
		raw[i] = rawBlock{block, b.Tokens, ""}
	}
	// As in CoreDNS: each plugin in all blocks before the next plugin, so that of several errors
	// the same one is reported.
	for _, plugin := range order {
		for i := range raw {
			if err := c.parse(name, &raw[i], plugin, o); failed(err) {
				return nil, err
			}
		}
	}
	if failed(c.distinct()) || len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return c, nil
}

// A rawBlock is a block that is being filled from its tokens.
type rawBlock struct {
	block  *Block
	tokens map[string][]caddyfile.Token
	root   string
}

// parse adds the directives of one plugin to a block.
func (c *Config) parse(file string, b *rawBlock, plugin string, o Options) error {
	tokens := b.tokens[plugin]
	if len(tokens) == 0 {
		return nil
	}
	s := &stanza{
		Dispenser: caddyfile.NewDispenserTokens(file, tokens),
		plugin:    plugin, config: c, raw: b, options: o,
	}
	directives, err := parsers[plugin](s)
	if err != nil {
		return fmt.Errorf("plugin/%s: %w", plugin, err)
	}
	b.block.Plugins = append(b.block.Plugins, directives...)
	return nil
}

// newBlock returns a block with its keys.
func newBlock(file string, b caddyfile.ServerBlock, o Options) (*Block, error) {
	block := &Block{Pos: first(file, b)}
	port := cmp.Or(o.DefaultPort, 53)
	for _, key := range b.Keys {
		scheme, rest := cutScheme(key)
		if scheme != "dns" {
			return block, fmt.Errorf("%v - Error during parsing: server key %q: scheme %s exists in CoreDNS and is not supported: only dns is", block.Pos, key, scheme)
		}
		zones, p, err := zonesOf(rest)
		if err != nil {
			return block, fmt.Errorf("%v - Error during parsing: server key %q: %w", block.Pos, key, err)
		}
		k := Key{Scheme: scheme, Port: port}
		if p >= 0 {
			k.Port = uint16(p)
		}
		for _, k.Zone = range zones {
			block.Keys = append(block.Keys, k)
		}
	}
	return block, nil
}

// first returns the place of the first directive of a block: the library does not tell where its
// keys were.
func first(file string, b caddyfile.ServerBlock) Pos {
	p := Pos{File: file}
	for _, tokens := range b.Tokens {
		if t := tokens[0]; p.Line == 0 || t.Line < p.Line {
			p = Pos{File: cmp.Or(t.File, file), Line: t.Line}
		}
	}
	return p
}

// distinct returns an error if two keys would listen for the same zone at the same place. A key
// without bind overlaps all addresses. Blocks with a view may share their keys.
func (c *Config) distinct() error {
	type place struct {
		Key
		addr netip.Addr // zero: all
	}
	show := func(p place) string {
		if p.addr.IsValid() {
			return p.Key.String() + " on " + p.addr.String()
		}
		return p.Key.String()
	}
	taken := map[place]bool{}
	bound := map[Key]place{} // the last one of a key with an address
	for _, b := range c.Blocks {
		_, viewed := Find[*View](b)
		for _, k := range b.Keys {
			for _, addr := range cmpOr(b.Binds, []netip.Addr{{}}) {
				p := place{k, addr}
				other, overlaps := bound[k]
				if addr.IsValid() {
					other, overlaps = place{Key: k}, taken[place{Key: k}]
				}
				switch {
				case taken[p] && !viewed:
					return fmt.Errorf("%v: cannot serve %s - it is already defined", b.Pos, show(p))
				case overlaps && !taken[p]:
					return fmt.Errorf("%v: cannot serve %s - zone overlap listener capacity with %s", b.Pos, show(p), show(other))
				case viewed:
					continue
				}
				taken[p] = true
				if addr.IsValid() {
					bound[k] = p
				}
			}
		}
	}
	return nil
}

func cmpOr[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}

// Equal reports whether two directives say the same. Where they stand does not matter.
func Equal(a, b Directive) bool {
	return reflect.DeepEqual(withoutPos(reflect.ValueOf(a).Elem()), withoutPos(reflect.ValueOf(b).Elem()))
}

// withoutPos returns a copy of a struct with every Pos in it, and in the structs of its slices, set
// to zero.
func withoutPos(v reflect.Value) any {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	for i := range out.NumField() {
		f := out.Field(i)
		switch {
		case f.Type() == reflect.TypeFor[Pos]():
			f.SetZero()
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Len() > 0:
			if _, ok := f.Type().Elem().FieldByName("Pos"); !ok {
				continue
			}
			elems := reflect.MakeSlice(f.Type(), f.Len(), f.Len())
			for j := range f.Len() {
				elems.Index(j).Set(reflect.ValueOf(withoutPos(f.Index(j))))
			}
			f.Set(elems)
		}
	}
	return out.Interface()
}

// Zones returns the zones of a block, each once, in the order of its keys.
func (b *Block) Zones() (zones []string) {
	for _, k := range b.Keys {
		if !slices.Contains(zones, k.Zone) {
			zones = append(zones, k.Zone)
		}
	}
	return zones
}
