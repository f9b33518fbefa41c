#!/usr/bin/env bash
# One cluster for the whole run: up, every end-to-end test in it, down. Arguments go to the test program: e2e/tests/run.sh places_a_bet
# With CLUSTER=current the person's own cluster is used as it is and left as it is (README, 'Your own cluster').
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${PADDOCK_TEST_CLUSTER:-test}
down() {
  status=$?
  if [ "${KEEP_CLUSTER:-}" = 1 ]; then
    echo "the cluster stays: target/debug/paddock-cluster status --name $name" >&2
  else
    target/debug/paddock-cluster down --name "$name" || status=1
  fi
  exit "$status"
}
trap down EXIT
trap 'exit 130' INT TERM
target/debug/paddock-cluster up --name "$name"
PADDOCK_TEST_CLUSTER=$name cargo test --workspace --test cluster -- --test-threads=1 "$@" # the same selection as the build: nothing is compiled again
