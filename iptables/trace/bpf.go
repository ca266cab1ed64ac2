package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A program is classic BPF, of which it knows: load a word, A to X, jump if A == X, return.
type program []instruction

type instruction struct {
	code, jt, jf uint8
	k            uint32
}

const (
	loadWord    = 0x20
	aToX        = 0x07
	jumpIfEqual = 0x1d
	ret         = 0x06
)

// parseBPF reads the notation of iptables: "count,code jt jf k,...".
func parseBPF(text string) (program, error) {
	parts := strings.Split(strings.TrimSuffix(text, ","), ",")
	if n, err := strconv.Atoi(parts[0]); err != nil || n != len(parts)-1 {
		return nil, errors.New("bytecode: wrong count")
	}
	var p program
	for i, s := range parts[1:] {
		var in instruction
		if _, err := fmt.Sscanf(s, "%d %d %d %d", &in.code, &in.jt, &in.jf, &in.k); err != nil {
			return nil, fmt.Errorf("bytecode %q: %w", s, err)
		}
		switch in.code {
		case loadWord, aToX, ret:
		case jumpIfEqual:
			if i+1+int(max(in.jt, in.jf)) >= len(parts)-1 {
				return nil, fmt.Errorf("bytecode %q: jump past the end", s)
			}
		default:
			return nil, fmt.Errorf("bytecode %q: unknown code", s)
		}
		p = append(p, in)
	}
	if len(p) == 0 || p[len(p)-1].code != ret {
		return nil, errors.New("bytecode does not end with a return")
	}
	return p, nil
}

func (p program) run(packet []byte) uint32 {
	var a, x uint32
	for pc := 0; ; pc++ {
		switch in := p[pc]; in.code {
		case loadWord:
			if int(in.k)+4 > len(packet) {
				return 0
			}
			a = binary.BigEndian.Uint32(packet[in.k:])
		case aToX:
			x = a
		case jumpIfEqual:
			if a == x {
				pc += int(in.jt)
			} else {
				pc += int(in.jf)
			}
		case ret:
			return in.k
		}
	}
}
