# make demo    backup, disaster, a killed restore and its resume, on a stand-in node: no root
# make check   what is told within two minutes: format, widths, vet, units and lint
# make test    units, properties and whole workflows on real etcd processes: no root
# make dist    what a release consists of, into dist: archives, packages, an image, checksums
# make e2e     real kubeadm control planes on this machine: root, Debian
# make goldens what four versions of kubeadm make of the oracle's configurations, made anew: root
#
# make test PKGS=./phases/restore TESTFLAGS='-v -run Bump' runs what you changed as all of it is run,
# and so does make e2e PKGS=./e2e/cluster. With ETCDPOD_DIST, that uses the artefacts in a directory
# instead of making them.
GO ?= go
VERSION ?= $(shell git describe --tags --match 'v[0-9]*' --always --dirty --abbrev=12 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
NODES ?= 1
TESTFLAGS ?=
PKGS ?=

# Real control planes wait most of the time, so two packages run at once, the longest first.
REAL_CONTROL_PLANES := $(foreach p,threenodes bootstrap cluster rig oracle dist,./e2e/$p/...) ./phases/internal/target
# go vet has gone over everything before, and nobody debugs these binaries: half of what building them
# costs is for that.
GOTEST := $(GO) test -vet off -ldflags -w
GOLANGCI := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0

# What make check leaves to make test: packages whose tests run a real etcd, and tests that stop,
# fail or lose something at every instant.
REAL := /(docs|e2e/demo|e2e/sandbox|e2e/workflows|phases/internal/etcd|phases/rehearse)$$
LONG := WhateverHappens|Anywhere|AnyStep|EveryStep|EveryState|Matrix|Exploration

# What make test tries a fixed sample of, and make e2e-matrix all: the tests that look at
# ETCDPOD_MATRIX. phases/internal/crashtest/sampled_test.go holds their names to this.
SAMPLED := TwoFaults|SomebodyElse|WhateverHappens|Interrupt|Killed|CtrlC

# Packages that compute, or use the kernel's files and processes, which arm64 could do otherwise. The
# others, which run a real etcd or simulate whole nodes, are left to machines of that kind.
ARM64 := ./cmd/etcdpod ./manifests ./templates ./pki ./phases/engine ./phases/internal/journal ./phases/internal/op

.PHONY: build dist demo picture check test test-arm64 e2e e2e-matrix goldens bench cluster cluster-down lint vuln docs fuzz clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/etcdpod ./cmd/etcdpod

# The packager is a module of its own: what it needs is none of etcdpod's.
dist:
	cd packaging && $(GO) vet ./... && $(GO) run . -version '$(VERSION)' -commit '$(COMMIT)' -epoch '$(EPOCH)'
	cd packaging && VERSION='$(VERSION)' COMMIT='$(COMMIT)' EPOCH='$(EPOCH)' ETCDPOD_DIST=$(CURDIR)/dist \
		$(GO) test -count 1 $(TESTFLAGS) ./...

# One go build, with the flags of build, so that nothing is compiled twice; etcd's modules are ours.
demo:
	@echo 'make demo: compiling etcdpod, the demo and etcd; two to three minutes the first time'
	@CGO_ENABLED=0 $(GO) run -trimpath ./e2e/demo/first -o bin/demo/ -ldflags '$(LDFLAGS)' \
		./cmd/etcdpod ./e2e/demo ./e2e/sandbox/standin go.etcd.io/etcd/server/v3
	@ETCDPOD=$(CURDIR)/bin/demo/etcdpod STANDIN=$(CURDIR)/bin/demo/standin \
		bin/demo/demo -etcd bin/demo/server

# The pictures in the README: a recording of the demo and a restore seen from outside, and what is
# drawn of them.
picture: export ETCDPOD = $(CURDIR)/bin/demo/etcdpod
picture: export STANDIN = $(CURDIR)/bin/demo/standin
picture:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/demo/ ./cmd/etcdpod ./e2e/demo \
		./e2e/demo/picture ./e2e/demo/timeline ./e2e/sandbox/standin go.etcd.io/etcd/server/v3
	bin/demo/picture record docs/demo.cast 'make demo' bin/demo/demo -etcd bin/demo/server -pause
	bin/demo/picture render docs/demo.cast docs/demo.svg
	bin/demo/timeline record docs/restore.json bin/demo/server
	bin/demo/timeline render docs/restore.json docs/restore.svg

# The quickest to fail comes first.
check:
	@bad=$$($$($(GO) env GOROOT)/bin/gofmt -l */) && if [ -n "$$bad" ]; then echo "not as gofmt has it:" $$bad; exit 1; fi
	$(GO) run ./e2e/width
	$(GO) vet -tags e2e ./...
	$(GOTEST) -short -skip '$(LONG)' $(TESTFLAGS) $(or $(PKGS),$$($(GO) list ./... | grep -vE '$(REAL)'))
	cd packaging && $(GO) test -run Page .
	$(GOLANGCI) run --allow-serial-runners ./...
	$(GO) run ./e2e/vuln -offline -- $(VULNFLAGS)

# The package that computes the longest begins first, with the one that waits the longest: the others
# run beside them.
test: build
	$(GO) vet ./...
	$(GO) run ./e2e/binaries/build etcd
	ETCDPOD=$(CURDIR)/bin/etcdpod $(GOTEST) -p 4 -timeout 2h $(TESTFLAGS) $(or $(PKGS),./phases/restore ./e2e/workflows ./...)

e2e: build $(if $(ETCDPOD_DIST),,dist)
	$(GO) vet -tags e2e ./...
	$(GO) run ./e2e/binaries/build all
	$(GOTEST) -tags e2e -p 2 -timeout 60m -count 1 $(TESTFLAGS) $(or $(PKGS),$(REAL_CONTROL_PLANES))

# Compiled for arm64, run by an emulator that takes the kernel of this machine.
test-arm64:
	@command -v qemu-aarch64-static >/dev/null || { echo 'it needs qemu-user-static of Debian'; exit 1; }
	CGO_ENABLED=0 GOARCH=arm64 $(GO) test -short -timeout 30m -trimpath -vet off -skip '$(LONG)' -exec qemu-aarch64-static $(TESTFLAGS) $(or $(PKGS),$(ARM64))

e2e-matrix: build
	$(GO) run ./e2e/binaries/build all
	ETCDPOD_MATRIX=full $(GO) test -p 1 -timeout 2h -count 1 -v -run "$(SAMPLED)" ./phases/...
	ETCDPOD=$(CURDIR)/bin/etcdpod ETCDPOD_MATRIX=full $(GO) test -timeout 2h -count 1 -v -run "$(SAMPLED)" ./e2e/workflows
	$(GO) run ./e2e/binaries/build containerd
	ETCDPOD_MATRIX=full $(GO) test -tags e2e -p 1 -timeout 10h -count 1 -v -run Matrix ./e2e/machines/... ./e2e/cluster/... ./e2e/threenodes/...

goldens:
	$(GO) run ./e2e/binaries/build kubeadms
	$(GO) run ./e2e/oracle/goldens

bench: build
	$(GO) run ./e2e/binaries/build all
	$(GO) run ./e2e/bench

cluster: build
	$(GO) run ./e2e/rig/cluster up --nodes $(NODES)

cluster-down:
	$(GO) run ./e2e/rig/cluster down

lint:
	$(GO) run ./e2e/width
	$(GOLANGCI) run --allow-serial-runners ./...

# Its database is on the network and changes daily: what it says is not a matter of the source alone.
# make check does without where that cannot be reached; a release may not.
vuln:
	$(GO) run ./e2e/vuln -- $(VULNFLAGS)

docs:
	$(GO) test ./cmd/etcdpod -run Docs -update

clean:
	rm -rf bin dist
