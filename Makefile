# collectord's commands. `make` alone lists them.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      ?= go
BIN     := bin/collectord

.DEFAULT_GOAL := help
.PHONY: help build install demo test test-servers lint docs bench bench-go soak packages release fuzz clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the program into bin/
	@echo "building $(BIN); the first build links DuckDB and takes a minute"
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/collectord

PREFIX      ?= /usr
UNITDIR     ?= /usr/lib/systemd/system

install: build ## install program, units and an example environment; DESTDIR= is where a package is built
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/collectord
	install -d $(DESTDIR)$(UNITDIR)
	for unit in deploy/systemd/collectord*.service deploy/systemd/collectord*.timer; do \
	  sed 's#/usr/bin/collectord#$(PREFIX)/bin/collectord#' $$unit > $(DESTDIR)$(UNITDIR)/$${unit##*/} && chmod 0644 $(DESTDIR)$(UNITDIR)/$${unit##*/} || exit 1; \
	done
	install -d -m 0750 $(DESTDIR)/etc/collectord
	install -D -m 0640 configs/service.env $(DESTDIR)/etc/collectord/collectord.env.example
	@echo "next: copy /etc/collectord/collectord.env.example to collectord.env, fill it in, then: systemctl daemon-reload && systemctl enable --now collectord"

demo: build ## run the main job against simulated vendors, into data/
	$(GO) run ./internal/demo -binary $(BIN)

# The packages that test longest go first, so that none is left alone at the end.
LONGEST := ./cmd/collectord ./pkg/store ./pkg/collector/sources ./internal/soak ./internal/vendorsim

test: lint test-servers ## everything that must hold: format, vet, staticcheck, tests with the race detector
	@echo "== tests, with the race detector; about twelve minutes on two cores"
	$(GO) test -race -timeout 20m -parallel 8 $(LONGEST) ./...
	@echo "== memory at full volume, for which the race detector is too slow"
	$(GO) test -run 'MemoryDoesNotGrow$$|SplitMemoryIsBounded|MillionRecords' ./pkg/collector/rest ./pkg/snapshot ./pkg/store

# The S3 server's own dependencies stay out of go.mod.
bin/versitygw:
	@echo "building an S3 server for the tests; takes about two minutes"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/versity/versitygw/cmd/versitygw@v1.8.0

test-servers: bin/versitygw bin/nfpm ## install what the tests need: Postgres, S3, Prometheus, systemd, Chromium and more
	@missing=""; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	command -v promtool >/dev/null && command -v prometheus >/dev/null || missing="$$missing prometheus"; \
	test -x /lib/systemd/systemd && command -v systemd-analyze >/dev/null || missing="$$missing systemd"; \
	command -v chromium >/dev/null || missing="$$missing chromium fonts-dejavu-core"; \
	command -v groff >/dev/null && command -v man >/dev/null || missing="$$missing groff-base man-db"; \
	command -v rpm >/dev/null || missing="$$missing rpm"; \
	command -v shellcheck >/dev/null || missing="$$missing shellcheck"; \
	if [ -n "$$missing" ]; then \
	  echo "installing$$missing"; \
	  as_root=""; [ "$$(id -u)" = 0 ] || as_root=sudo; \
	  $$as_root apt-get update -q && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; \
	fi

lint: ## format, vet, staticcheck, known vulnerabilities
	@echo "== gofmt"
	@unformatted=$$(gofmt -l cmd pkg internal); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	@echo "== go vet"
	$(GO) vet ./...
	@echo "== staticcheck"
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	@echo "== modules"
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff
	$(GO) mod verify
	@echo "== known vulnerabilities"
	@tools/vulnerabilities.sh

docs: ## write the generated parts of docs/ anew
	$(GO) test ./cmd/collectord -run '^TestGenerated' -update

bench: test-servers ## measure everything side by side and write docs/benchmarks.md; wants an idle machine
	@echo "measuring; ten to fifteen minutes on two cores"
	$(GO) run ./internal/bench

bench-go: ## run the Go benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 3x ./...

SOAK_TIME ?= 10m
SOAK_SEED ?= 0

soak: build test-servers ## run the daemon among flaky vendors and destinations (SOAK_TIME, default 10m; SOAK_SEED) and check that nothing is lost
	$(GO) run ./internal/soak -binary $(BIN) -time $(SOAK_TIME) -seed $(SOAK_SEED)

bin/nfpm:
	@echo "building the packager"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

bin/cyclonedx-gomod:
	@echo "building the SBOM's writer"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

packages: bin/nfpm ## build the .deb and the .rpm of this machine's architecture into dist/
	deploy/packages/build.sh packages

release: bin/nfpm bin/cyclonedx-gomod ## build packages and archives of amd64 and arm64, an SBOM and sums into dist/
	deploy/packages/build.sh release amd64 arm64

fuzz: ## run each fuzz target for a while (FUZZTIME, default 30s)
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-30s} -fuzzminimizetime 1s $$pkg || exit 1; \
	  done; \
	done

clean: ## remove what was built and what the demo stored
	rm -rf bin data dist
