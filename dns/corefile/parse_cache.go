package corefile

import (
	"strconv"
	"strings"
	"time"
)

func parseCache(s *stanza) (*Cache, error) {
	d := &Cache{
		SuccessCap: 9984, SuccessTTL: time.Hour, SuccessMinTTL: 5 * time.Second,
		DenialCap: 9984, DenialTTL: 30 * time.Minute, DenialMinTTL: 5 * time.Second,
		ServfailTTL: 5 * time.Second, PrefetchDuration: time.Minute, PrefetchPercentage: 10,
	}
	return d, s.single(func() (err error) {
		d.Pos = s.pos()
		args := s.RemainingArgs()
		if len(args) > 0 {
			if n, err := strconv.Atoi(args[0]); err == nil {
				if d.SuccessTTL, err = s.positive(n); err != nil {
					return err
				}
				d.DenialTTL = d.SuccessTTL
				args = args[1:]
			}
		}
		if d.Zones, err = s.zones(args); err != nil {
			return err
		}
		stale, policy := false, false
		err = s.eachOption(func(name string) error {
			switch name {
			case "serve_stale":
				stale = true
			case "serve_stale_policy":
				if policy {
					return s.Err("serve_stale_policy can only be specified once")
				}
				policy = true
			}
			return s.cacheOption(d, name)
		})
		if err == nil && policy && !stale {
			return s.Err("serve_stale_policy requires serve_stale")
		}
		return err
	})
}

// positive turns a number of seconds into a duration above zero.
func (s *stanza) positive(n int) (time.Duration, error) {
	if n <= 0 {
		return 0, s.Errf("cache TTL can not be zero or negative: %d", n)
	}
	return time.Duration(n) * time.Second, nil
}

func (s *stanza) cacheOption(d *Cache, name string) (err error) {
	switch name {
	case "success":
		return s.capacity(&d.SuccessCap, &d.SuccessTTL, &d.SuccessMinTTL)
	case "denial":
		return s.capacity(&d.DenialCap, &d.DenialTTL, &d.DenialMinTTL)
	case "prefetch":
		return s.prefetch(d)
	case "serve_stale":
		return s.serveStale(d)
	case "serve_stale_policy":
		policy, err := s.arg()
		if err == nil && strings.ToLower(policy) != "prefer_positive" {
			err = s.Errf("invalid serve_stale_policy: %s", policy)
		}
		d.PreferPositive = true
		return err
	case "servfail":
		if d.ServfailTTL, err = s.duration(); err != nil {
			return err
		}
		if d.ServfailTTL < 0 {
			return s.Err("invalid negative ttl for servfail")
		}
		if d.ServfailTTL > 5*time.Minute { // RFC 2308, 7.1
			return s.Err("caching SERVFAIL responses over 5 minutes is not permitted")
		}
		return nil
	case "disable":
		return s.disable(d)
	case "keepttl":
		return s.flag(&d.KeepTTL)
	}
	return s.ArgErr()
}

// capacity reads CAPACITY [TTL [MINTTL]].
func (s *stanza) capacity(capacity *int, ttl, minTTL *time.Duration) error {
	args, err := s.args(1, 3)
	if err != nil {
		return err
	}
	if *capacity, err = s.atoi(args[0]); err != nil {
		return err
	}
	if *capacity < 0 {
		return s.Errf("cache capacity can not be negative: %d", *capacity)
	}
	if len(args) > 1 {
		n, err := s.atoi(args[1])
		if err != nil {
			return err
		}
		if *ttl, err = s.positive(n); err != nil {
			return err
		}
	}
	if len(args) > 2 {
		n, err := s.atoi(args[2])
		if err != nil {
			return err
		}
		if n < 0 {
			return s.Errf("cache min TTL can not be negative: %d", n)
		}
		*minTTL = time.Duration(n) * time.Second
	}
	return nil
}

// prefetch reads AMOUNT [DURATION [PERCENTAGE%]].
func (s *stanza) prefetch(d *Cache) error {
	args, err := s.args(1, 3)
	if err != nil {
		return err
	}
	if d.Prefetch, err = s.atoi(args[0]); err != nil {
		return err
	}
	if d.Prefetch < 0 {
		return s.Errf("prefetch amount should be positive: %d", d.Prefetch)
	}
	if len(args) > 1 {
		if d.PrefetchDuration, err = s.parseDuration(args[1]); err != nil {
			return err
		}
	}
	if len(args) > 2 {
		number, ok := strings.CutSuffix(args[2], "%")
		if !ok {
			return s.Errf("last character of percentage should be `%%`, but is: %q", lastByte(args[2]))
		}
		if d.PrefetchPercentage, err = s.atoi(number); err != nil {
			return err
		}
		if d.PrefetchPercentage < 10 || d.PrefetchPercentage > 90 {
			return s.Errf("percentage should fall in range [10, 90]: %d", d.PrefetchPercentage)
		}
	}
	return nil
}

// lastByte is the last byte of s as a character; a blank of "".
func lastByte(s string) rune {
	if s == "" {
		return ' '
	}
	return rune(s[len(s)-1])
}

// serveStale reads [DURATION [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]].
func (s *stanza) serveStale(d *Cache) error {
	args, err := s.args(0, 5)
	if err != nil {
		return err
	}
	d.StaleUpTo, d.StaleVerify, d.StaleVerifyTimeout, d.StaleTTL, d.StaleRecheck = time.Hour, false, 0, 0, 0
	if len(args) > 0 {
		if d.StaleUpTo, err = s.parseDuration(args[0]); err != nil {
			return err
		}
		if d.StaleUpTo < 0 {
			return s.Err("invalid negative duration for serve_stale")
		}
		args = args[1:]
	}
	if len(args) > 0 {
		switch mode := strings.ToLower(args[0]); mode {
		case "immediate":
		case "verify":
			d.StaleVerify = true
		default:
			return s.Errf("invalid value for serve_stale refresh mode: %s", mode)
		}
		args = args[1:]
	}
	if d.StaleVerify && len(args) > 0 {
		if d.StaleVerifyTimeout, err = time.ParseDuration(args[0]); err != nil {
			return s.Errf("invalid serve_stale verify timeout: %v", err)
		}
		if d.StaleVerifyTimeout < 0 {
			return s.Err("invalid negative timeout for serve_stale verify")
		}
		args = args[1:]
	}
	if len(args) > 2 {
		return s.ArgErr()
	}
	if len(args) > 0 {
		if d.StaleTTL, err = s.staleTTL(args[0]); err != nil {
			return err
		}
	}
	if len(args) > 1 {
		d.StaleRecheck, err = s.staleRecheck(args[1])
	}
	return err
}

func (s *stanza) staleTTL(text string) (time.Duration, error) {
	ttl, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, s.Errf("invalid serve_stale response TTL: %v", err)
	case ttl < 0:
		return 0, s.Err("invalid negative response TTL for serve_stale")
	case ttl%time.Second != 0:
		return 0, s.Err("serve_stale response TTL must be a whole number of seconds")
	case int64(ttl/time.Second) > 1<<32-1:
		return 0, s.Err("serve_stale response TTL exceeds the DNS TTL range")
	}
	return ttl, nil
}

func (s *stanza) staleRecheck(text string) (time.Duration, error) {
	recheck, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, s.Errf("invalid serve_stale failure recheck: %v", err)
	case recheck < 0:
		return 0, s.Err("invalid negative failure recheck for serve_stale")
	case recheck > 5*time.Minute:
		return 0, s.Err("serve_stale failure recheck cannot exceed 5 minutes")
	}
	return recheck, nil
}

// disable reads success|denial [ZONES...].
func (s *stanza) disable(d *Cache) error {
	args, err := s.args(1, -1)
	if err != nil {
		return err
	}
	zones := []string{"."}
	if len(args) > 1 {
		zones = nil
		for _, z := range args[1:] {
			zones = append(zones, normalize(z))
		}
	}
	switch args[0] {
	case "success":
		d.SuccessExcept = zones
	case "denial":
		d.DenialExcept = zones
	default:
		return s.Errf("cache type for disable must be %q or %q", "success", "denial")
	}
	return nil
}
