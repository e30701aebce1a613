# Everything a person or a machine does with the project. `make` alone builds.

GO      ?= go
BIN     := bin/sightline
FUZZTIME ?= 30s

.PHONY: build run test test-oldest editors vscode screenshots check acceptance bench soak generate fuzz toolchains clean

build:
	@CGO_ENABLED=0 $(GO) build -o $(dir $(BIN)) ./cmd/sightline ./cmd/sightline-capture

# The main job on the bundled example: profile its test, then show its source with the costs.
run: build
	@cd testdata/example && ../../$(BIN) test -run TestPages && echo && ../../$(BIN) lines accesslog.go

# Every test. Installs the compilers that tests build programs with and the editors they run in, where
# they are missing. Tests record real programs and share the machine with each other: a test that fails
# is run again by itself, at most twice, and the summary names it either way.
GOTESTSUM := $(GO) run gotest.tools/gotestsum@v1.13.0
test: editors
	@.ci/packages test
	SIGHTLINE_REQUIRE_EDITORS=1 $(GOTESTSUM) --format pkgname-and-test-fails --hide-summary skipped --packages ./... \
	  --rerun-fails=2 --rerun-fails-max-failures=30 --rerun-fails-run-root-test -- -timeout 30m

# The extension in the oldest Visual Studio Code that it says it runs in. Not part of test: it fetches
# another editor.
test-oldest:
	@editors/vscode/test/setup oldest
	cd editors/vscode && npm run -s test -- oldest

# The real editors that the plugins are tested in, in a folder of the user's cache.
editors:
	@editors/nvim/test/setup.sh
	@editors/vscode/test/setup

# The Visual Studio Code extension as a file to install: editors/vscode/dist/sightline-linux-x64.vsix.
vscode:
	@editors/vscode/test/setup build
	cd editors/vscode && npm run -s package

# The pictures in docs that are taken of a terminal; those of VS Code are taken by its tests.
screenshots: build
	@.ci/packages screenshots
	@editors/nvim/test/setup.sh
	@editors/nvim/test/screenshot.sh

# The importers on a folder of files that other tools made: make acceptance FILES=DIR.
acceptance:
	@test -d "$(FILES)" || { echo "acceptance: name the folder of the files: make acceptance FILES=DIR" >&2; exit 2; }
	SIGHTLINE_ACCEPTANCE="$(abspath $(FILES))" $(GO) test -count=1 -run Acceptance ./profiler/convert

# What takes too long for every run: 500 times a daemon that records, stores, prunes and migrates, and
# as often a process that uses a store without one, is killed at a random instant, 200 times one that takes
# images of another, and what records for an ordinary user; then editors and commands ask a daemon for ten
# minutes while it records.
SOAKTIME ?= 10m
soak:
	SIGHTLINE_KILLS=500 $(GO) test -count=1 -timeout 60m -run 'TestKilled(AtAnyInstant|WhileMigrating)' -v ./profiler/store
	SIGHTLINE_KILLS=500 $(GO) test -count=1 -timeout 60m -run 'TestDaemonKilledAtAnyInstant' -v ./cmd/sightline
	SIGHTLINE_KILLS=200 $(GO) test -count=1 -timeout 60m -run 'TestKilledAtAnyInstant' -v ./heap/freeze
	SIGHTLINE_CAPTURE_KILLS=200 $(GO) test -count=1 -timeout 60m -run 'TestKilled' -v ./cmd/sightline-capture
	$(GO) test -count=1 -timeout 60m -run '^$$' -bench 'BenchmarkDaemonLoad' -benchtime 1x ./cmd/sightline -args -load $(SOAKTIME)

# The older Go releases whose runtime is known: tests of heap/goruntime use those that are here.
toolchains:
	@for v in 1.22.12 1.23.12 1.24.10 1.25.4; do GOTOOLCHAIN=go$$v $(GO) version; done
	$(GO) test -count=1 ./heap/goruntime
	$(GO) test -count=1 -run 'Go' ./heap

# What a reviewer would ask for: formatting, vet, generated files current, the race detector.
check:
	@.ci/packages test
	@profiler/bpf/setup-toolchain.sh
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "not gofmt-ed: $$files"; exit 1; }
	$(GO) vet ./...
	profiler/bpf/check-generated.sh
	CGO_ENABLED=1 $(GO) test -race ./...

# The figures that the project promises, each beside its peer from the same run; history in out/bench.
bench:
	@.ci/packages bench || true
	@editors/vscode/test/setup && cd editors/vscode && npm run -s bench || true
	@$(GO) run ./cmd/sightline/testdata/bench/run $(BENCHFLAGS)

# The BPF objects and their Go bindings, which are committed: building needs no clang. And what is known of
# the runtime of the Go releases that are here.
generate:
	@profiler/bpf/setup-toolchain.sh
	$(GO) generate ./profiler/bpf ./heap/goruntime

# Every fuzz target for FUZZTIME each.
fuzz:
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; \
	  done; done

clean:
	rm -rf bin out
