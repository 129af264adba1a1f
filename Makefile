# collectord's commands. `make` alone lists them.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      ?= go
BIN     := bin/collectord

.DEFAULT_GOAL := help
.PHONY: help build demo test test-servers lint docs bench fuzz clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the program into bin/
	@echo "building $(BIN); the first build links DuckDB and takes a minute"
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/collectord

demo: build ## run the main job against simulated vendors, into data/
	$(GO) run ./internal/demo -binary $(BIN)

test: lint test-servers ## everything that must hold: format, vet, staticcheck, tests with the race detector
	@echo "== tests, with the race detector; about seven minutes on two cores"
	$(GO) test -race -timeout 20m -parallel 8 ./...
	@echo "== memory at full volume, for which the race detector is too slow"
	$(GO) test -run 'MemoryDoesNotGrow$$|SplitMemoryIsBounded|AMillionRecords' ./pkg/collector/rest ./pkg/snapshot ./pkg/store

# The S3 server's own dependencies stay out of go.mod.
bin/versitygw:
	@echo "building an S3 server for the tests; takes about two minutes"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/versity/versitygw/cmd/versitygw@v1.8.0

test-servers: bin/versitygw ## install the servers that the tests start: Postgres, S3 and Prometheus
	@if ! command -v initdb >/dev/null && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then \
	  echo "installing Postgres"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -qy --no-install-recommends postgresql; \
	  else sudo apt-get update -q && sudo apt-get install -qy --no-install-recommends postgresql; fi; \
	fi
	@if ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null; then \
	  echo "installing Prometheus"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -qy --no-install-recommends prometheus; \
	  else sudo apt-get update -q && sudo apt-get install -qy --no-install-recommends prometheus; fi; \
	fi
	@if ! command -v chromium >/dev/null; then \
	  echo "installing Chromium"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -qy --no-install-recommends chromium; \
	  else sudo apt-get update -q && sudo apt-get install -qy --no-install-recommends chromium; fi; \
	fi

lint: ## format, vet, staticcheck
	@echo "== gofmt"
	@unformatted=$$(gofmt -l cmd pkg internal); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi
	@echo "== go vet"
	$(GO) vet ./...
	@echo "== staticcheck"
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

docs: ## write the generated parts of docs/ anew
	$(GO) test ./cmd/collectord -run '^TestGenerated' -update

bench: ## measure; prints Go benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 3x ./...

fuzz: ## run each fuzz target for a while (FUZZTIME, default 30s)
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-30s} -fuzzminimizetime 1s $$pkg || exit 1; \
	  done; \
	done

clean: ## remove what was built and what the demo stored
	rm -rf bin data
