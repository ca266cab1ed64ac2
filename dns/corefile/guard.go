package corefile

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/coredns/caddy/caddyfile"
)

// The library that expands a Corefile counts imports but not what they bring: 10,000 imports of a
// large snippet are gigabytes, and a file that imports itself keeps it busy for minutes. A guard
// goes through the imports first and adds up what they come to.

const (
	maxFileSize = 1 << 20 // bytes, of the Corefile and of each imported file; a ConfigMap holds no more
	maxTokens   = 1 << 18 // after all imports
	maxImports  = 10000   // expansions, as in the library
	maxCopies   = 1 << 26 // imports times tokens: the library copies the rest of the tokens at each import
	maxEnv      = 1 << 16 // bytes of a token after its environment variables are filled in
)

// A guard adds up the tokens that a Corefile comes to.
type guard struct {
	snippets map[string][]caddyfile.Token
	files    map[string][]caddyfile.Token // by absolute path; nil: not readable, which the library reports
	open     map[string]bool              // imports that are being added up: one more of them is a cycle
	imports  int
	warnings []string
	tokens   int
}

// check returns an error if the library should not be given this text, and what deserves a warning.
func check(name string, text []byte) (warnings []string, err error) {
	if len(text) > maxFileSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, maxFileSize)
	}
	g := &guard{snippets: map[string][]caddyfile.Token{}, files: map[string][]caddyfile.Token{}, open: map[string]bool{}}
	if err := g.add(name, g.define(lex(name, text))); err != nil {
		return nil, err
	}
	if g.imports*g.tokens > maxCopies {
		return nil, fmt.Errorf("%s: %d imports that come to %d tokens are too many", name, g.imports, g.tokens)
	}
	return g.warnings, nil
}

// lex splits text into tokens, each with its file.
func lex(name string, text []byte) (out []caddyfile.Token) {
	d := caddyfile.NewDispenser(name, bytes.NewReader(text))
	for d.Next() {
		out = append(out, caddyfile.Token{File: name, Line: d.Line(), Text: d.Val()})
	}
	return out
}

// define finds the snippets among tokens, (name) { ... }, and returns the other tokens.
func (g *guard) define(tokens []caddyfile.Token) (rest []caddyfile.Token) {
	for i := 0; i < len(tokens); i++ {
		name, ok := strings.CutPrefix(tokens[i].Text, "(")
		if !ok || !strings.HasSuffix(name, ")") || i+1 == len(tokens) || tokens[i+1].Text != "{" {
			rest = append(rest, tokens[i])
			continue
		}
		depth, end := 1, i+2
		for ; end < len(tokens) && depth > 0; end++ {
			switch tokens[end].Text {
			case "{":
				depth++
			case "}":
				depth--
			}
		}
		if name = strings.TrimSuffix(name, ")"); g.snippets[name] == nil {
			g.snippets[name] = tokens[i+2 : end]
		}
		i = end - 1
	}
	return rest
}

// add counts tokens and, in place of their imports, what these bring.
func (g *guard) add(name string, tokens []caddyfile.Token) error {
	if g.tokens += len(tokens); g.tokens > maxTokens {
		return fmt.Errorf("%s: more than %d tokens after imports", name, maxTokens)
	}
	for i, t := range tokens {
		text, err := replaceEnv(t)
		if err != nil {
			return err
		}
		if text != "import" || i+1 == len(tokens) || tokens[i+1].Line != t.Line {
			continue
		}
		pattern, err := replaceEnv(tokens[i+1])
		if err != nil {
			return err
		}
		if err := g.expand(t, pattern); err != nil {
			return err
		}
	}
	return nil
}

// expand adds what one import brings.
func (g *guard) expand(at caddyfile.Token, pattern string) error {
	if g.imports++; g.imports > maxImports {
		return fmt.Errorf("%s:%d - Error during parsing: maximum snippet import depth (%d) exceeded", at.File, at.Line, maxImports)
	}
	if body, ok := g.snippets[pattern]; ok {
		return g.enter(at, "snippet", pattern, func() error { return g.add(at.File, body) })
	}
	paths := matches(at.File, pattern)
	if len(paths) == 0 && strings.ContainsAny(pattern, "*?") {
		g.warnings = append(g.warnings, "No files matching import glob pattern: "+pattern)
	}
	for _, path := range paths {
		tokens, err := g.read(path)
		if err != nil {
			return fmt.Errorf("%s:%d - Error during parsing: could not import: %w", at.File, at.Line, err)
		}
		if err := g.enter(at, "file", path, func() error { return g.add(path, tokens) }); err != nil {
			return err
		}
	}
	return nil
}

// enter runs f unless it is running already for this snippet or file.
func (g *guard) enter(at caddyfile.Token, kind, name string, f func() error) error {
	key := kind + " " + name
	if g.open[key] {
		return fmt.Errorf("%s:%d - Error during parsing: maximum %s import depth (%d) exceeded: %s imports itself", at.File, at.Line, kind, maxImports, name)
	}
	g.open[key] = true
	defer delete(g.open, key)
	return f()
}

// matches returns the files that a pattern stands for, from the folder of the importing file. A
// pattern that the library refuses stands for none.
func matches(file, pattern string) []string {
	if !filepath.IsAbs(pattern) {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil
		}
		pattern = filepath.Join(filepath.Dir(abs), pattern)
	}
	if strings.Count(pattern, "*") > 1 || strings.Count(pattern, "?") > 1 || strings.ContainsAny(pattern, "[]") {
		return nil
	}
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	return paths
}

// read returns the tokens of an imported file, which must be a regular file of bounded size. What
// cannot be opened is left to the library to report.
func (g *guard) read(path string) ([]caddyfile.Token, error) {
	if tokens, ok := g.files[path]; ok {
		return tokens, nil
	}
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return nil, nil
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	text, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	g.files[path] = g.define(lex(path, text))
	return g.files[path], nil
}

// readLimited reads a file of at most maxFileSize.
func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(text) > maxFileSize {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFileSize)
	}
	return text, err
}

// replaceEnv fills in {%NAME%} and {$NAME} as the library does, with an end: there, a variable
// that holds a reference to itself never ends.
func replaceEnv(t caddyfile.Token) (string, error) {
	s := t.Text
	for _, ref := range [...][2]string{{"{%", "%}"}, {"{$", "}"}} {
		for n := 0; ; n++ {
			start := strings.Index(s, ref[0])
			if start < 0 {
				break
			}
			length := strings.Index(s[start:], ref[1])
			if length <= len(ref[0]) {
				break
			}
			name := s[start+len(ref[0]) : start+length]
			s = strings.ReplaceAll(s, ref[0]+name+ref[1], os.Getenv(name))
			if n > 100 || len(s) > maxEnv {
				return "", fmt.Errorf("%s:%d - Error during parsing: environment variable %s does not come to an end", t.File, t.Line, name)
			}
		}
	}
	return s, nil
}
