package datapath

import (
	"fmt"
	"math"
	"strings"

	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/stats"
)

// Values returns what a subject measured on a path, a value a round; nil if it was not measured.
func (r Result) Values(subject, path, measure string) []float64 {
	for _, s := range r.Series {
		if s.Subject == subject && s.Path == path {
			return s.Rounds[measure]
		}
	}
	return nil
}

// names are the subjects that were asked for, in the order of a report.
func (r Result) names() []string {
	var out []string
	for _, s := range append([]stage.Subject{stage.Direct}, stage.Proxies...) {
		for _, name := range []string{s.Name, s.Name + Again} {
			if _, over := r.Over[name]; over || r.Values(name, Paths()[0], Measures[0]) != nil {
				out = append(out, name)
			}
		}
	}
	return out
}

// tolerance is how far the medians of the control and its copy may be apart.
const tolerance = 0.05

// Noise returns the measures of medians in which the control and its copy differ by more than
// 5 %, as lines of text: with any, ratios near 1 mean nothing.
func (r Result) Noise() []string {
	var out []string
	c := r.Options.Control
	for _, p := range Paths() {
		for _, m := range []string{Connect50, Trip50, Datagram50} {
			a, b := r.Values(c, p, m), r.Values(c+Again, p, m)
			if len(a) == 0 || len(b) == 0 {
				continue
			}
			if x := stats.Ratio(b, a); math.Abs(x.Value-1) > tolerance {
				out = append(out, fmt.Sprintf("%s, %s: %.2f", p, m, x.Value))
			}
		}
	}
	return out
}

// Markdown returns tables of the medians over all rounds and of the ratios over the direct
// connection and over the peer.
func (r Result) Markdown() string {
	var b strings.Builder
	family := "IPv4"
	if r.Options.V6 {
		family = "IPv6"
	}
	fmt.Fprintf(&b, "### %d Services of %d endpoints, %s\n\n", r.Options.Services, r.Options.Endpoints, family)
	switch noise := r.Noise(); {
	case r.Options.Control == "":
	case len(noise) > 0:
		fmt.Fprintf(&b, "**The machine was noisy**: medians of the control measured twice differ by more than 5 %% (%s).\n\n", strings.Join(noise, "; "))
	default:
		fmt.Fprintf(&b, "The control measured twice: all medians within 5 %% of each other.\n\n")
	}
	for _, p := range Paths() {
		fmt.Fprintf(&b, "%s, medians of %d rounds, in brackets times the direct connection with its 95 %% interval:\n\n| |", p, r.Options.Rounds)
		for _, m := range Measures {
			fmt.Fprintf(&b, " %s |", m)
		}
		b.WriteString("\n|---|" + strings.Repeat("---|", len(Measures)) + "\n")
		for _, name := range r.names() {
			fmt.Fprintf(&b, "| %s |", name)
			for _, m := range Measures {
				fmt.Fprintf(&b, " %s |", r.cell(name, p, m))
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	r.peers(&b)
	return b.String()
}

func (r Result) cell(name, path, measure string) string {
	if why, over := r.Over[name]; over {
		return why
	}
	values := r.Values(name, path, measure)
	if measure == Failed {
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		return fmt.Sprintf("%.0f", sum)
	}
	text := fmt.Sprintf("%.3g", stats.Median(values))
	if direct := r.Values(stage.Direct.Name, path, measure); name != stage.Direct.Name && measure != Lost && len(direct) > 0 {
		x := stats.Ratio(values, direct)
		text += fmt.Sprintf(" (%.2f, %.2f to %.2f)", x.Value, x.Low, x.High)
	}
	return text
}

// peers writes the ratios of each subject to its peer, and says where it is behind.
func (r Result) peers(b *strings.Builder) {
	b.WriteString("Ratios to the peer (times: less is better; rates: more is better), with the 95 % interval:\n\n| | path |")
	for _, m := range Measures[:len(Measures)-2] {
		fmt.Fprintf(b, " %s |", m)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(Measures)-2) + "\n")
	for _, s := range stage.Proxies {
		for _, p := range Paths() {
			if s.Peer == "" || r.Values(s.Name, p, Connect50) == nil || r.Values(s.Peer, p, Connect50) == nil {
				continue
			}
			fmt.Fprintf(b, "| %s / %s | %s |", s.Name, s.Peer, p)
			for _, m := range Measures[:len(Measures)-2] {
				x := stats.Ratio(r.Values(s.Name, p, m), r.Values(s.Peer, p, m))
				mark := ""
				if MoreIsBetter(m) && x.High < 1 || !MoreIsBetter(m) && x.Low > 1 {
					mark = " **behind**"
				}
				fmt.Fprintf(b, " %.2f (%.2f to %.2f)%s |", x.Value, x.Low, x.High, mark)
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n")
}
