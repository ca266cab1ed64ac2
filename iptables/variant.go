package iptables

import (
	"bytes"
	"context"
	"errors"
	"os/exec"

	goiptables "github.com/coreos/go-iptables/iptables"

	"github.com/fairway-lb/fairway/iptables/restore"
)

// Detect returns the variant of iptables that this network namespace uses: the one in which
// kubelet left its hint, else the one with more rules, else nft. It is what the iptables-wrapper
// in kube-proxy's image does.
func Detect(ctx context.Context) (string, error) {
	lines := map[string]int{}
	var errs []error
	for _, variant := range []string{restore.NFT, restore.Legacy} {
		for _, v6 := range []bool{false, true} {
			k, err := newKernel(Options{}, variant, v6)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			text, err := k.tool.Save(ctx, "") // all existing tables; creates none
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if bytes.Contains(text, []byte("\n:KUBE-IPTABLES-HINT ")) || bytes.Contains(text, []byte("\n:KUBE-KUBELET-CANARY ")) {
				return variant, nil
			}
			lines[variant] += bytes.Count(text, []byte("\n-")) + 1
		}
	}
	switch {
	case len(lines) == 0:
		return "", errors.Join(errs...)
	case lines[restore.Legacy] > lines[restore.NFT]:
		return restore.Legacy, nil
	}
	return restore.NFT, nil
}

// hasRandomFully reports whether the tool of a variant and family is new enough for MASQUERADE
// --random-fully. If it does not say how new it is, it is taken to be.
func hasRandomFully(variant string, v6 bool) bool {
	program, protocol := "iptables", goiptables.ProtocolIPv4
	if v6 {
		program, protocol = "ip6tables", goiptables.ProtocolIPv6
	}
	if path, err := exec.LookPath(program + "-" + variant); err == nil {
		program = path // else there is but one variant, under the short name
	}
	tool, err := goiptables.New(goiptables.IPFamily(protocol), goiptables.Path(program))
	return err != nil || tool.HasRandomFully()
}
