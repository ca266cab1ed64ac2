# Fairway: make is the menu. `make help` lists it.

GO       ?= go
SHELL    := /bin/bash
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 10m
IMAGE    ?= fairway:$(VERSION)
LDFLAGS  := -s -w -X main.version=$(VERSION)

# What tests and demo call: the name of a program, and the Debian packages that bring it.
TOOLS := iptables:iptables ipset:ipset nft:nftables conntrack:conntrack etcd:etcd-server setpriv:util-linux gcc:gcc,libc6-dev \
	nsd:nsd unbound:unbound dnsperf:dnsperf dig:bind9-dnsutils musl-gcc:musl-tools node:nodejs
DEMO_TOOLS := iptables:iptables
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

# missing prints the packages of the programs in $(1) that are not installed.
comma := ,
missing = $(strip $(foreach t,$(1),$(if $(shell PATH=$$PATH:/usr/sbin:/sbin command -v $(firstword $(subst :, ,$t))),,$(subst $(comma), ,$(lastword $(subst :, ,$t))))))
# install installs those packages and says so; a no-op if none is missing. No daemon of theirs is
# started (policy-rc.d, invoke-rc.d(8)): NSD and Unbound would take port 53.
define install
@m="$(call missing,$(1))"; if [ -n "$$m" ]; then \
	echo "installing Debian packages: $$m"; p=/usr/sbin/policy-rc.d; \
	if [ ! -e $$p ]; then trap "$(SUDO) rm -f $$p" EXIT; printf '#!/bin/sh\nexit 101\n' | $(SUDO) install -m 755 /dev/stdin $$p; fi; \
	$(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$m >/dev/null; \
fi
endef

export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help build demo test image bench bench-quick bench-rehearse bench-selftest bench-go lint fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the static binary bin/fairway
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/fairway ./cmd/fairway

demo: build ## show real connections through every kind of Service address, in network namespaces (root)
	$(call install,$(DEMO_TOOLS))
	$(SUDO) bin/fairway demo

test: lint ## everything CI runs: lint, unit, goldens, real packets, real API server (root)
	$(call install,$(TOOLS))
	$(GO) version
	# Everything under the race detector, but for the conformance of iptables: thousands of real
	# connections whose time-outs the detector's slowness would bend. It runs on its own, without.
	# (The mutants take the same backend and runner through part of it under the detector.)
	REQUIRE=all $(GO) test -race -timeout 30m -skip '^TestConformance$$' ./...
	REQUIRE=all $(GO) test -timeout 30m -run '^TestConformance$$' ./iptables
	$(GO) test -C deploy/render ./... # the chart and the manifests made of it

lint: ## gofmt, go vet and staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

fuzz: ## run each fuzz target for FUZZTIME (default 10m)
	@set -e; for f in $$(git ls-files '*_test.go'); do \
		for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$f); do \
			echo "== $$t in ./$$(dirname $$f)"; \
			$(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./$$(dirname $$f); \
		done; \
	done

.PHONY: dns-hostile
dns-hostile: ## 10 million malformed datagrams and 100,000 hostile TCP connections against the resolver's listeners (minutes)
	HOSTILE=full $(GO) test -v -count 1 -timeout 60m -run Hostile ./dns/serve

bench: ## measure everything beside its peers, write docs/benchmarks.md (root, about an hour; goes on where it was)
	$(call install,$(TOOLS))
	$(GO) run ./bench all

bench-quick: ## the core of it in under 10 minutes, into .cache/bench (root)
	$(call install,$(TOOLS))
	$(GO) run ./bench all --quick --again --results .cache/bench/results --report .cache/bench

bench-rehearse: ## all of it as briefly as can be, into .cache/bench/rehearsal: whether it works (root, 15 minutes)
	$(call install,$(TOOLS))
	$(GO) run ./bench all --rehearse --again --results .cache/bench/rehearsal/results --report .cache/bench/rehearsal

bench-selftest: ## a build slowed by 10 ms is caught by "bench compare", and the same build is not (root, a quiet machine)
	$(call install,$(TOOLS))
	BENCH_SELFTEST=full REQUIRE=all $(GO) test -v -count 1 -run SlowedBuild ./bench

bench-go: ## Go benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem ./...

manifests: ## write deploy/*.yaml anew from the chart
	$(GO) run -C deploy/render .

image: ## build the container image, and that of the resolver alone, IMAGE-dns (docker)
	docker build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) -t $(IMAGE) .
	docker build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) --target dns -t $(IMAGE)-dns .

# Comparisons with real Kubernetes programs (bench/).
.PHONY: peers peers-conformance bench-scale
SCALE ?= --services 10000 --endpoints 5

peers: ## build kube-proxy, kube-apiserver and CoreDNS of bench/peers into .cache/bin (10 minutes the first time)
	$(GO) run ./bench peers

peers-conformance: ## run the conformance suite against real kube-proxy, write docs/conformance-kube-proxy.md (root)
	$(call install,$(TOOLS))
	$(GO) run ./bench conformance

bench-scale: ## programming beside kube-proxy at SCALE, into .cache/bench (root)
	$(call install,$(TOOLS))
	mkdir -p .cache/bench
	$(GO) run ./bench scale $(SCALE) --json .cache/bench/scale.json --markdown .cache/bench/scale.md

.PHONY: bench-dns
bench-dns: ## CPU, latency and memory of answers beside CoreDNS, NSD and Unbound, into .cache/bench (root)
	$(call install,$(TOOLS))
	mkdir -p .cache/bench
	$(GO) run ./bench dns --json .cache/bench/dns.json --markdown .cache/bench/dns.md
