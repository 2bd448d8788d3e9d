# make demo    the main job on an embedded default: no root, under a minute after the first build
# make test    units, properties and whole workflows on real etcd processes: no root
# make e2e     real kubeadm control planes on this machine: root, Debian
# make goldens what four versions of kubeadm make of the oracle's configurations, made anew: root
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
NODES ?= 1
TESTFLAGS ?=

.PHONY: build demo test e2e e2e-matrix goldens bench cluster cluster-down lint vuln docs fuzz clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/etcdpod ./cmd/etcdpod

demo: build
	$(GO) run ./e2e/demo

test: build
	$(GO) vet ./...
	$(GO) run ./e2e/binaries/build etcd
	$(GO) test -timeout 2h $(TESTFLAGS) ./...

e2e: build
	$(GO) vet -tags e2e ./...
	$(GO) run ./e2e/binaries/build all
	$(GO) test -tags e2e -p 1 -timeout 60m -count 1 $(TESTFLAGS) ./e2e/oracle/... ./e2e/rig/... ./e2e/cluster/... ./e2e/threenodes/... ./e2e/bootstrap/...

e2e-matrix: build
	$(GO) run ./e2e/binaries/build all
	ETCDPOD_MATRIX=full $(GO) test -tags e2e -p 1 -timeout 10h -count 1 -v -run Matrix ./e2e/cluster/... ./e2e/threenodes/...

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
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0 run ./...

vuln:
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

docs:
	$(GO) test ./cmd/etcdpod -run Docs -update

clean:
	rm -rf bin
