package wire

import "errors"

var errName = errors.New("pack name: malformed")

// AppendName appends a name in wire format. It takes the presentation format of RFC 1035, 5.1,
// with \X and \DDD; the final dot may be missing. The case of letters stays.
func AppendName(dst []byte, name string) ([]byte, error) {
	start, label := len(dst), len(dst)
	dst = append(dst, 0)
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			if name == "." {
				return dst, nil
			}
			if !closeLabel(dst, label) {
				return dst[:start], errName
			}
			label = len(dst)
			dst = append(dst, 0)
			continue
		case c == '\\' && i+3 < len(name) && digits(name[i+1:i+4]):
			n := int(name[i+1]-'0')*100 + int(name[i+2]-'0')*10 + int(name[i+3]-'0')
			if n > 255 {
				return dst[:start], errName
			}
			c = byte(n)
			i += 3
		case c == '\\' && i+1 < len(name):
			i++
			c = name[i]
		case c == '\\':
			return dst[:start], errName
		}
		dst = append(dst, c)
	}
	if label != len(dst)-1 { // no final dot
		if !closeLabel(dst, label) {
			return dst[:start], errName
		}
		dst = append(dst, 0)
	}
	if len(dst)-start > MaxName {
		return dst[:start], errName
	}
	return dst, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// closeLabel writes the length of the label that begins at start.
func closeLabel(b []byte, start int) bool {
	n := len(b) - start - 1
	b[start] = byte(n)
	return 0 < n && n <= 63
}

// Text returns the presentation format of a name in wire format, with the final dot, for logs and
// for miekg/dns. What is not a name gives "".
func Text(name []byte) string {
	if len(name) == 1 && name[0] == 0 {
		return "."
	}
	out := make([]byte, 0, len(name)+8)
	for len(name) > 0 && name[0] != 0 {
		n := int(name[0])
		if n > 63 || n >= len(name) {
			return ""
		}
		for _, c := range name[1 : n+1] {
			switch {
			case c < ' ' || c > '~':
				out = append(out, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			case c == '.' || c == ' ' || c == '\'' || c == '@' || c == ';' || c == '(' || c == ')' || c == '"' || c == '\\':
				out = append(out, '\\', c)
			default:
				out = append(out, c)
			}
		}
		out = append(out, '.')
		name = name[n+1:]
	}
	return string(out)
}
