package dnsbench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/process"
)

const (
	flows       = 128 // sockets of the client
	outstanding = 200 // queries in flight, at most
)

// A load is one run of dnsperf.
type load struct {
	queries string // file
	edns    bool
	once    bool          // ask for everything once
	limit   time.Duration // else, for how long
	rate    int           // queries a second; 0: as many as are answered
	oneCore bool          // the client has clientCore, and the server another
}

// A report is what dnsperf says.
type report struct {
	sent, completed, lost int
	seconds               float64
	rcodes                string
	latencies             []float64 // seconds, sorted; only with a rate
}

// run asks a server from within its space.
func (l load) run(ctx context.Context, s *nameserver.Server) (report, error) {
	args := []string{"-s", s.Addr.Addr().String(), "-p", fmt.Sprint(s.Addr.Port()), "-d", l.queries,
		"-c", fmt.Sprint(flows), "-q", fmt.Sprint(outstanding), "-T", "1", "-t", "2"}
	if l.edns {
		args = append(args, "-e")
	}
	if l.once {
		args = append(args, "-n", "1")
	} else {
		args = append(args, "-l", strconv.FormatFloat(l.limit.Seconds(), 'f', -1, 64))
	}
	if l.rate > 0 {
		args = append(args, "-Q", fmt.Sprint(l.rate), "-v")
	}
	out := &strings.Builder{}
	cmd := exec.Command("dnsperf", args...)
	if l.oneCore {
		cmd = exec.Command("taskset", append([]string{"-c", fmt.Sprint(clientCore), "dnsperf"}, args...)...)
	}
	cmd.Stdout = out
	var p *process.Process
	err := s.Space.In(func() (err error) {
		p, err = process.Start(cmd)
		return err
	})
	if err != nil {
		return report{}, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill()
		return report{}, ctx.Err()
	}
	r, err := parse(out.String())
	if err != nil {
		return report{}, fmt.Errorf("dnsperf %s: %w: %s", strings.Join(args, " "), err, p.Output())
	}
	return r, nil
}

var fields = regexp.MustCompile(`(?m)^  (Queries sent|Queries completed|Queries lost|Run time \(s\)|Response codes): +(.*)$`)

// parse reads what dnsperf prints. With -v, that has a line for every answer:
// "> NOERROR NAME TYPE SECONDS".
func parse(text string) (r report, err error) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "> ") {
			continue
		}
		words := strings.Fields(line)
		if s, err := strconv.ParseFloat(words[len(words)-1], 64); err == nil {
			r.latencies = append(r.latencies, s) // the others timed out
		}
	}
	slices.Sort(r.latencies)
	found := 0
	for _, m := range fields.FindAllStringSubmatch(text, -1) {
		found++
		number, _, _ := strings.Cut(m[2], " ")
		switch m[1] {
		case "Queries sent":
			r.sent, err = strconv.Atoi(number)
		case "Queries completed":
			r.completed, err = strconv.Atoi(number)
		case "Queries lost":
			r.lost, err = strconv.Atoi(number)
		case "Run time (s)":
			r.seconds, err = strconv.ParseFloat(number, 64)
		case "Response codes":
			r.rcodes = m[2]
		}
		if err != nil {
			return r, err
		}
	}
	if found != 5 {
		return r, errors.New("no report")
	}
	return r, nil
}
