#!/usr/bin/env bash
# Says in one line what is missing before anything is built, and installs the Debian packages that building and testing need.
set -euo pipefail
fail() { echo "paddock: $*" >&2; exit 1; }
[ "$(uname -s)" = Linux ] || fail "the local cluster needs Linux; on another system install the charts on your own Kubernetes (README, 'Your own cluster')"
[ "$(id -u)" = 0 ] || fail "run as root: the local cluster makes network namespaces and containers (or install the charts on your own: README, 'Your own cluster')"
for tool in cargo go java python3; do
  command -v "$tool" >/dev/null || fail "$tool is missing: install it (Rust, Go, Java, Python are all that must be there beforehand)"
done
# C compiler for librdkafka and pause; PostgreSQL for tests against a real server; Maven for Kafka's jars; the rest belongs to `paddock-cluster up`.
packages=(gcc g++ make cmake pkg-config postgresql-15 maven)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null || fail "install these packages: ${missing[*]}"
  echo "paddock: installing ${missing[*]}"
  # PostgreSQL's own server must not start: tests start their own.
  mkdir -p /etc/postgresql-common && grep -qs '^create_main_cluster = false' /etc/postgresql-common/createcluster.conf ||
    echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi
