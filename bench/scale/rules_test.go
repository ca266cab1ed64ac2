package scale

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// What is counted is what the tools were told to make.
func TestProgrammed(t *testing.T) {
	netlab.Require(t)
	tests := map[string]struct {
		tool, input string
		want        Rules
	}{
		"nftables": {"nft -f -", `
			table ip t {
				map ports { type inet_service : verdict; elements = { 1 : accept, 2 : drop, 3 : accept } }
				chain a { tcp dport vmap @ports; tcp dport { 80, 443 } accept; }
				chain b { accept; }
			}
			table ip6 t { set s { type ipv6_addr; }; }`,
			Rules{Chains: 2, Rules: 3, Sets: 3, Elements: 5, Unit: nftUnit}},
		"iptables-nft": {"iptables-nft-restore", "*nat\n:PREROUTING ACCEPT\n:OWN -\n-A PREROUTING -j OWN\n-A OWN -p tcp -j RETURN\nCOMMIT\n",
			Rules{Chains: 2, Rules: 2, Unit: nftUnit}},
		"iptables-legacy": {"iptables-legacy-restore", "*nat\n:OWN -\n-A PREROUTING -j OWN\n-A OWN -p tcp -j RETURN\nCOMMIT\n",
			Rules{Chains: 5, Rules: 2, Unit: legacyUnit}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			lab := netlab.New(t, netlab.Options{Pods: []string{"a"}})
			var got *Rules
			err := lab.In("a", func() (err error) {
				args := strings.Fields(tt.tool)
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+t.TempDir()+"/lock")
				cmd.Stdin = strings.NewReader(tt.input)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", tt.tool, err, out)
				}
				got, err = programmed()
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if got.Bytes <= 0 {
				t.Errorf("%d bytes", got.Bytes)
			}
			got.Bytes = 0
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Counting begins anew when another changes the rules meanwhile, and gives up on anything else.
func TestUndisturbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := errors.New("other")
		for name, tt := range map[string]struct {
			errs []error // of one call after the other, the last one for good
			want error
			max  int
		}{
			"once":        {[]error{nil}, nil, 1},
			"interrupted": {[]error{nl.ErrDumpInterrupted, unix.EINTR, unix.ENOENT, nil}, nil, 4},
			"joined":      {[]error{errors.Join(nil, nl.ErrDumpInterrupted), nil}, nil, 2},
			"other":       {[]error{nl.ErrDumpInterrupted, other, nil}, other, 2},
			"for good":    {[]error{nl.ErrDumpInterrupted}, nl.ErrDumpInterrupted, 1 << 20},
		} {
			calls := 0
			err := undisturbed(func() error {
				calls++
				return tt.errs[min(calls, len(tt.errs))-1]
			})
			if !errors.Is(err, tt.want) || calls > tt.max || calls < len(tt.errs) && tt.want == nil {
				t.Errorf("%s: got %v after %d calls, want %v", name, err, calls, tt.want)
			}
		}
	})
}
