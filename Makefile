# The way in. Each target is a line or two; what they do is in setup.sh, the binaries and tests/.
SKIFF_HOME ?= /var/lib/skiff
PREFIX ?= /usr/local
NODES ?= 3
SEEDS ?= 1000
ROUNDS ?= 100
CASES ?= 1000000
FIRST ?= 0
TARGET := $(or $(CARGO_TARGET_DIR),target)
export SKIFF_HOME

E2E := SKIFF_BIN=$(abspath $(TARGET))/release

.PHONY: demo up down build install image setup test lint unit e2e faults bench bench-api simulate mutants fuzz clean

## Everything: packages, build, a three-node cluster, the guestbook; shows the page's answer.
demo: up
	skiffctl apply -f examples/guestbook.yaml
	skiffctl rollout status deployment/counter --timeout 120s
	skiffctl rollout status deployment/guestbook --timeout 120s
	@examples/demo/visit.sh

## The cluster alone.
up: install
	skiff up --nodes $(NODES)

## Stops the cluster and leaves nothing behind; its data stays (skiff down --purge deletes it too).
down:
	skiff down

setup:
	./setup.sh

build: setup
	cargo build --release -p skiff-cluster -p skiff-ctl

install: build image
	install -m 755 $(TARGET)/release/skiff $(TARGET)/release/skiffctl $(PREFIX)/bin/

## The image skiff/demo of the examples and tests: one static binary.
image: setup
	cargo rustc -q --release -p demo -- -C target-feature=+crt-static
	examples/demo/build-image.sh $(TARGET)/release/demo

## The whole suite, with what it needs: a real etcd, Docker, the kernel.
test:
	./setup.sh tests
	$(MAKE) lint unit e2e

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

unit:
	cargo nextest run --workspace

## Real clusters of the release binaries: on the embedded store, then on a real etcd. The faults choose their stores
## themselves, and the page by hand is on the embedded one, so both are taken once.
e2e: build image
	$(E2E) SKIFF_E2E_STORE=embedded cargo nextest run --workspace --profile e2e
	$(E2E) SKIFF_E2E_STORE=etcd cargo nextest run --workspace --profile e2e -E 'not test(/^(faults|by_hand)::/)'

## The faults of the end-to-end tests, for many rounds; prints how long each took to converge.
faults: build image
	$(E2E) SKIFF_FAULT_ROUNDS=$(ROUNDS) SKIFF_FAULT_FIRST=$(FIRST) cargo nextest run --workspace --profile faults --no-capture

## Figures beside a floor or a peer; never a test. WHAT="pods creates" takes some of them.
bench: build image
	cargo run -q --release -p skiff-bench -- $(WHAT)

## The API server alone: creates, lists, watches and memory beside the design's bars.
bench-api: build
	cargo run -q --release -p skiff-bench -- $(or $(WHAT),api-creates api-etcd api-lists api-watch api-memory)

## The whole control plane under N seeds, on all processors; a seed that fails is told as a story.
simulate:
	cargo run -q --release -p skiff-tests --bin simulate -- --seeds $(SEEDS)

## Wakes each deliberate fault of docs/traps.md, and shows which test kills it; fails if one survives.
mutants:
	cargo build -q --workspace --all-targets
	$(TARGET)/debug/mutants

## Every decoder of what clients send, so many mutants each; in the suite it is a few hundred.
fuzz:
	PROPTEST_CASES=$(CASES) cargo nextest run --release -p skiff-apiserver -E 'test(/fuzz_/)'

clean:
	cargo clean
