#!/usr/bin/env bash
# One cluster for the whole run: up, killed, up again, every end-to-end test in it, down, nothing left. Arguments choose tests, of which
# at least one must match, and leave the killing out: e2e/tests/run.sh a_bet_is_placed
# With CLUSTER=current the person's own cluster is used as it is and left as it is (README, 'Your own cluster').
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${PADDOCK_TEST_CLUSTER:-test}
bin=${CARGO_TARGET_DIR:-target}/debug
. e2e/tests/lifecycle.sh

e2e/demo/preflight.sh tests
cargo build --workspace --all-targets # the selection of `make build`: nothing is compiled twice
tests() { PADDOCK_TEST_CLUSTER=$name cargo test --workspace --test cluster "$@"; }
chosen=$(tests -q -- --list "$@")
grep -q ': test$' <<<"$chosen" || { echo "no end-to-end test matches: $*" >&2; exit 1; }

down() {
  status=$?
  trap - EXIT
  if [ "${KEEP_CLUSTER:-}" = 1 ]; then
    echo "the cluster stays: $bin/paddock-cluster status" >&2
  else
    "$bin/paddock-cluster" down --name "$name" || status=1
    [ "${CLUSTER:-local}" = current ] || nothing_left || status=1
  fi
  exit "$status"
}
trap down EXIT
trap 'exit 130' INT TERM
remember_machine
"$bin/paddock-cluster" up --name "$name"
[ "$#" -gt 0 ] || [ "${CLUSTER:-local}" = current ] || crash_and_recover
tests -- --test-threads=1 "$@"
