#!/usr/bin/env bash
# Says in one line what is missing before anything is built, and installs the Debian packages that building needs; with the
# argument `tests`, those of the tests too.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() { echo "paddock: $*" >&2; exit 1; }

# The images are copies of what is built here, also those for one's own cluster: that is why CLUSTER=current wants the same machine.
[ "$(uname -s)" = Linux ] || fail "this needs Linux, with CLUSTER=current too; elsewhere install the charts on your own Kubernetes (README, 'Your own cluster')"
[ "$(uname -m)" = x86_64 ] || fail "this needs an x86_64 machine, with CLUSTER=current too: images are made for amd64; elsewhere install the charts on your own Kubernetes (README, 'Your own cluster')"
[ "$(id -u)" = 0 ] || fail "run as root: sudo env \"PATH=\$PATH\" \"HOME=\$HOME\" make … (network namespaces, containers, packages; CLUSTER=current wants it for the images)"

# at_least HAVE WANTED: compares versions.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
# needs PROGRAM REMEDY
needs() {
  command -v "$1" >/dev/null && return
  [ -z "${SUDO_USER:-}" ] || fail "$1 is not in root's PATH: if you have it, keep yours: sudo env \"PATH=\$PATH\" \"HOME=\$HOME\" make …; else $2"
  fail "$1 is missing: $2"
}

rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
needs cargo "install Rust with rustup"
rust=$(cargo --version 2>/dev/null | cut -d ' ' -f 2) || fail "cargo does not run here: rustup toolchain install stable"
at_least "$rust" "$rust_wanted" || fail "Rust $rust is too old, $rust_wanted is needed: rustup update stable (Debian's own package is older: remove it and install rustup)"

if [ "${CLUSTER:-local}" != current ]; then # Go builds Kubernetes, which is there already with CLUSTER=current.
  go_wanted=$(sed -n 's/^go \([0-9.]*\)$/\1/p' e2e/cluster/tools/*/go.mod | sort -V | tail -n 1)
  needs go "install Go $go_wanted or newer, and put its bin folder into PATH"
  read -r go toolchain < <(cd / && echo $(go env GOVERSION GOTOOLCHAIN))
  go=${go#go}
  # From 1.21 on Go fetches the version that a module asks for, unless told not to.
  if ! at_least "${go%%[!0-9.]*}" "$go_wanted"; then
    at_least "${go%%[!0-9.]*}" 1.21 || fail "Go $go is too old: install Go $go_wanted or newer, and put its bin folder before the old one in PATH"
    case "$toolchain" in
    auto | *+auto) ;;
    *) fail "Go $go is too old, and GOTOOLCHAIN=$toolchain keeps it from fetching a newer one: export GOTOOLCHAIN=auto, or install Go $go_wanted" ;;
    esac
  fi
fi

needs jlink "install a JDK, not only a runtime: apt-get install openjdk-17-jdk-headless"
needs java "install a JDK: apt-get install openjdk-17-jdk-headless"
java=$(jlink --version)
at_least "$java" 17 || fail "Java $java is too old: apt-get install openjdk-17-jdk-headless, and make it the one in PATH"
needs python3 "apt-get install python3 python3-pip"

# C compiler for librdkafka and pause; Maven and mmdebstrap for the images; the rest belongs to `paddock-cluster up`.
packages=(gcc g++ make pkg-config maven mmdebstrap)
# pip fetches Envoy, which one's own cluster has too. A Python that is not Debian's has its own way to it.
[ "${CLUSTER:-local}" = current ] || python3 -c 'import pip' 2>/dev/null || {
  [[ "$(readlink -f "$(command -v python3)")" = /usr/bin/* ]] || fail "$(command -v python3) has no pip: python3 -m ensurepip"
  packages+=(python3-pip)
}
# A real server for the tests, and what the page's tests run in.
[ "${1:-}" != tests ] || packages+=(postgresql-15)
[ "${1:-}" != tests ] || command -v node >/dev/null || packages+=(nodejs)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null || fail "install these packages: ${missing[*]}"
  echo "paddock: installing ${missing[*]} (waits up to two minutes while another apt is at work)"
  if [ "${1:-}" = tests ]; then
    # The package's own server must not start: tests start theirs.
    mkdir -p /etc/postgresql-common
    grep -qs '^create_main_cluster = false' /etc/postgresql-common/createcluster.conf ||
      echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
  fi
  apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }
  install() { apt install -y --no-install-recommends "${missing[@]}" >/dev/null; }
  # The lists of a fresh machine are empty or old.
  install 2>/dev/null || { apt update && install; } || fail "apt-get could not install ${missing[*]}: its own words are above"
fi
