# Paddock. `make demo`, `make test`, `make bench`: each installs what it needs, and may be repeated.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
# What `up` keeps of itself: enough to take the demo's cluster away without building anything.
KEPT := $(or $(XDG_STATE_HOME),$(HOME)/.local/state)/paddock/clusters/demo/bin

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: demo
demo: ## a real Kubernetes on this machine, two brands, one bet (root, Linux); see README
	@e2e/demo/announce.sh
	@e2e/demo/preflight.sh
	@$(CARGO) build --workspace
	@$(BIN)/paddock-demo

.PHONY: demo-down
demo-down: ## ends the demo's cluster and leaves nothing behind
	@for folder in $(BIN) $(KEPT); do [ ! -x "$$folder/paddock-cluster" ] || exec "$$folder/paddock-cluster" down --name demo; done; \
	  e2e/demo/preflight.sh; $(CARGO) build --workspace; exec $(BIN)/paddock-cluster down --name demo

.PHONY: test
test: build lint test-local test-cluster ## everything that must hold; what .ci/run runs

.PHONY: build
build: ## every library, binary and test, once
	@e2e/demo/preflight.sh tests
	@$(CARGO) build --workspace --all-targets

# A newer stable brings lints that nobody has met yet: they are printed, and fail nothing, until `rust-version` follows (ADR 0002).
MET := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
STRICT = $(if $(findstring cargo $(MET).,$(shell $(CARGO) --version)),-D warnings)

.PHONY: lint
lint: ## formatting and clippy; a warning fails
	@e2e/demo/preflight.sh
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- $(STRICT)

.PHONY: test-local
test-local: build ## tests that need no cluster: pure ones, real PostgreSQL, real API server
	@$(BIN)/paddock-cluster tools
	@$(CARGO) test --workspace --exclude paddock-e2e

.PHONY: test-cluster
test-cluster: ## the end-to-end tests on a real cluster of their own
	@e2e/tests/run.sh

.PHONY: soak
soak: build ## the operator killed after every single write, each number and both ways; takes long
	@$(BIN)/paddock-cluster tools
	@PADDOCK_SOAK=1 $(CARGO) test -p paddock-operator -p workspace-features --test crash -- --nocapture

.PHONY: bench
bench: ## figures, each beside its yardstick
	@e2e/demo/preflight.sh
	@$(CARGO) build --workspace
	@trap '$(BIN)/paddock-cluster down --name bench' EXIT; $(BIN)/paddock-bench

.PHONY: generate
generate: ## CRDs, chart templates, RBAC, references, event schemas, openapi.json
	@$(CARGO) xtask generate

.PHONY: deny
deny: ## licences, sources, bans and advisories of what we depend on (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny"; exit 1; }
	@cargo deny check bans licenses sources
	@cargo deny check advisories || echo "advisories are for reading; they do not fail this target"
