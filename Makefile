# The commands for collectord. `make` without a target lists them.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      ?= go
BIN     := bin/collectord

.DEFAULT_GOAL := help
.PHONY: help build install demo check test test-servers format vet lint docs bench bench-go faults soak packages release fuzz clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the program into bin/
	@echo "building $(BIN); the first build takes a minute because it links DuckDB"
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/collectord

PREFIX      ?= /usr
UNITDIR     ?= /usr/lib/systemd/system

install: build ## install the program, the units and an example environment (DESTDIR, PREFIX, UNITDIR)
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/collectord
	install -d $(DESTDIR)$(UNITDIR)
	for unit in deploy/systemd/collectord*.service deploy/systemd/collectord*.timer; do \
	  sed 's#/usr/bin/collectord#$(PREFIX)/bin/collectord#' $$unit > $(DESTDIR)$(UNITDIR)/$${unit##*/} && chmod 0644 $(DESTDIR)$(UNITDIR)/$${unit##*/} || exit 1; \
	done
	install -d -m 0750 $(DESTDIR)/etc/collectord
	install -D -m 0640 configs/service.env $(DESTDIR)/etc/collectord/collectord.env.example
	@echo "next: copy /etc/collectord/collectord.env.example to collectord.env, fill it in, then: systemctl daemon-reload && systemctl enable --now collectord"

demo: build ## run the program against simulated vendors and store their data in data/
	$(GO) run ./internal/demo -binary $(BIN)

# Packages with tests that need more than Go: Postgres, S3, Prometheus, systemd,
# Chromium or root. `make check` leaves them out.
NEED_SERVERS := /(internal/(bench|demo|soak)|pkg/backup|pkg/state/shared|pkg/store/(postgres|s3|storetest)|test/(e2e|packages))$$
# Tests in the other packages that need them, or the network, or minutes.
SKIPPED_TESTS := UnderRandomFaults$$|InABrowser$$|^TestAlerts$$|^TestAlertScenarios$$|^TestPromtoolFindsNothing$$|^TestPostgresDownForAnHour$$|^TestVulnerabilitiesAreFound$$

check: ## check format and vet, run the fast tests (no servers, no race detector); under two minutes on two cores
	@start=$$(date +%s); \
	$(MAKE) --no-print-directory format vet && \
	echo "== fast tests" && \
	$(GO) test -skip '$(SKIPPED_TESTS)' $$($(GO) list ./... | grep -vE '$(NEED_SERVERS)') && \
	echo "checked in $$(($$(date +%s) - start)) s; make test runs everything"

# The packages with the longest tests are first, so that none of them runs alone at
# the end.
LONGEST := ./test/e2e ./test/packages ./pkg/store/... ./pkg/state/... ./pkg/backup ./pkg/collector/sources/... ./internal/vendorsim

# The race detector watches all but the code of SQLite, C translated to Go, which is
# many times slower when it is watched. Other packages cannot be left out like this: one
# that contains generic code of the standard library would replace the watched copy of it
# in all packages. test/harness/program.go builds the program with the same flags.
RACE := -race -gcflags='modernc.org/sqlite/lib=-race=false -d=checkptr=0'

# The tests that need large amounts of data or many runs. With the race detector they have
# fewer of both.
WITHOUT_RACE := ^TestSoak$$|MemoryDoesNotGrow$$|SplitMemoryIsBounded|MillionRecords|LargeRecords$$|MemoryLimit$$|UnderRandomFaults$$|^TestSinks$$/./^large_content$$

# The tests of several services with short leases, which need the machine for themselves.
CLUSTER_TESTS := ^Test(Cluster(Commands|IdleCost|LeaseDiffers|ReadOnlyDatabase|SchemaNames|SettingsDiffer|StateDirUnusable|Tenancies|ThroughPgBouncer|Ticks|WithoutGrant)|Drain|ExportContinuesElsewhere|FencedCommit|KilledAtCommit|OnceBesideCluster|OneCredentialOneService|RunNowOnFollower|SharedState(BlackHole|Failover|Import|Killed|Partitioned)|StopInBlackHole|Takeover|ToldOnce)$$

test: lint test-servers ## run all checks and all tests with the race detector
	@echo "== tests with the race detector; about thirteen minutes on two cores"
	tools/test.sh "$(LONGEST) ./..." $(RACE) -timeout 40m -parallel 8 -skip '$(CLUSTER_TESTS)'
	@echo "== several services that share a state"
	tools/test.sh "./test/e2e" $(RACE) -timeout 30m -parallel 2 -run '$(CLUSTER_TESTS)'
	@echo "== a short soak, memory tests with full amounts of data, and 300 runs of each collector with random faults, without the race detector, which is too slow for them"
	tools/test.sh "./internal/soak ./pkg/collector/sources/... ./pkg/store/... ./pkg/backup ./pkg/collector/rest ./pkg/query ./pkg/snapshot" -timeout 30m -run '$(WITHOUT_RACE)'

# The dependencies of the S3 server stay out of go.mod.
bin/versitygw:
	@echo "building an S3 server for the tests; this takes about two minutes"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/versity/versitygw/cmd/versitygw@v1.8.0

test-servers: bin/versitygw bin/nfpm ## install the programs that tests need: Postgres, PgBouncer, S3, Prometheus, systemd, Chromium and others
	@missing=""; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || missing="$$missing pgbouncer"; \
	command -v promtool >/dev/null && command -v prometheus >/dev/null || missing="$$missing prometheus"; \
	command -v prometheus-node-exporter >/dev/null || missing="$$missing prometheus-node-exporter"; \
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

format:
	@echo "== gofmt"
	@unformatted=$$(gofmt -l cmd pkg internal test); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi

vet:
	@echo "== go vet"
	$(GO) vet ./...

lint: format vet ## check format, vet, staticcheck, modules, known vulnerabilities
	@echo "== staticcheck"
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	@echo "== modules"
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff
	$(GO) mod verify
	@echo "== known vulnerabilities"
	@tools/vulnerabilities.sh

docs: ## regenerate the generated parts of docs/
	$(GO) test ./test/docs -run '^TestGenerated' -update

bench: test-servers ## measure everything and write docs/internals/benchmarks.md; needs an idle machine
	@echo "measuring; this takes ten to fifteen minutes on two cores"
	$(GO) run ./internal/bench

bench-go: ## run the Go benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 3x ./...

FAULT_RUNS ?= 1000
FAULT_SEED ?= 1

faults: ## run each collector with random faults (FAULT_RUNS, default 1000; FAULT_SEED)
	$(GO) test $$(dirname $$(grep -l UnderRandomFaults ./pkg/collector/sources/*/*_test.go) | sort -u) -timeout 60m \
	  -run 'UnderRandomFaults$$' -args -fault-runs $(FAULT_RUNS) -fault-seed $(FAULT_SEED)

SOAK_TIME ?= 1h
SOAK_SEED ?= 0

soak: test-servers ## run the service with failing vendors and destinations and check that nothing is lost (SOAK_TIME, default 1h; SOAK_SEED)
	@echo "== the measurement of controls, killed 200 times at random"
	$(GO) test ./pkg/control -run '^TestKilled$$' -count 1 -timeout 2h -args -kills 200
	@echo "== a day of a service with a hundred tenancies, on a simulated clock"
	$(GO) test ./pkg/schedule -run '^TestHundredTenancies$$' -v -count 1 -timeout 1h -args -hours 24
	@echo "== a service with twenty tenancies, killed 200 times at random"
	$(GO) test ./test/e2e -run '^TestTenanciesKilled$$' -count 1 -timeout 2h -args -tenancy-kills 200
	@echo "== two services with a shared state, killed and stopped 200 times at random, and cut off 100 times"
	$(GO) test ./test/e2e -run '^TestSharedState(Killed|Partitioned)$$' -count 1 -timeout 2h -args -shared-kills 200 -shared-partitions 100
	@echo "== three services that share the runs of four vendors, killed 500 times at random, stopped and cut off 60 times each"
	$(GO) test ./test/e2e -run '^TestClusterTicks$$' -v -count 1 -timeout 3h -args -cluster-kills 500 -cluster-stops 60 -cluster-partitions 60
	$(GO) run ./internal/soak -time $(SOAK_TIME) -seed $(SOAK_SEED)

bin/nfpm:
	@echo "building the packager"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0

bin/cyclonedx-gomod:
	@echo "building the SBOM generator"
	GOBIN=$(CURDIR)/bin $(GO) install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

packages: bin/nfpm ## build the .deb and .rpm packages for this machine's architecture into dist/
	deploy/packages/build.sh packages

release: bin/nfpm bin/cyclonedx-gomod ## build packages and archives for amd64 and arm64, an SBOM and checksums into dist/
	deploy/packages/build.sh release amd64 arm64

fuzz: ## run each fuzz target (FUZZTIME each, default 30s)
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-30s} -fuzzminimizetime 1s $$pkg || exit 1; \
	  done; \
	done

clean: ## remove the build results and the data of the demo
	rm -rf bin data dist
