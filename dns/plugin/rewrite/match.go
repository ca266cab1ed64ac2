package rewrite

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/dns/corefile"
)

// matcher returns a function that tells whether a name, in lower case, meets a condition.
func matcher(m corefile.NameMatch) func(name string) bool {
	switch m.Kind {
	case "prefix":
		return func(name string) bool { return strings.HasPrefix(name, m.Text) }
	case "suffix":
		return func(name string) bool { return strings.HasSuffix(name, m.Text) }
	case "substring":
		return func(name string) bool { return strings.Contains(name, m.Text) }
	case "regex":
		return m.Pattern.MatchString
	}
	return func(name string) bool { return name == m.Text }
}

// replacer returns a function that puts something else in the place of what meets a condition, and
// tells whether it did.
func replacer(m corefile.NameMatch, to string) func(name string) (string, bool) {
	switch m.Kind {
	case "prefix":
		return func(name string) (string, bool) {
			after, ok := strings.CutPrefix(name, m.Text)
			return to + after, ok
		}
	case "suffix":
		return func(name string) (string, bool) {
			before, ok := strings.CutSuffix(name, m.Text)
			return before + to, ok
		}
	case "substring":
		return func(name string) (string, bool) {
			return strings.ReplaceAll(name, m.Text, to), strings.Contains(name, m.Text)
		}
	case "regex":
		return expander(m.Pattern, to)
	}
	return func(name string) (string, bool) { return to, name == m.Text }
}

// placeholder stands for a group of a pattern, such as {1}.
var placeholder = regexp.MustCompile(`\{(\d{1,3})\}`)

// expander returns a function that puts to in the place of a name that matches, with its groups
// filled in. What a group holds is text: a name with braces in it makes no placeholder.
func expander(pattern *regexp.Regexp, to string) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		groups := pattern.FindStringSubmatch(name)
		if groups == nil {
			return "", false
		}
		return placeholder.ReplaceAllStringFunc(to, func(p string) string {
			n, err := strconv.Atoi(p[1 : len(p)-1])
			if err != nil || n >= len(groups) {
				return p
			}
			return groups[n]
		}), true
	}
}
