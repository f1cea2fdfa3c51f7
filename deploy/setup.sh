#!/usr/bin/env bash
# Installs everything that building, testing and the demo need on Debian bookworm. Idempotent, asks nothing.
# Needs root (or sudo) only where a package is missing.
#
#   deploy/setup.sh            everything
#   deploy/setup.sh --check    says what is missing and changes nothing; exit 1 if anything is
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps="$root/.deps"

packages=(
  # build
  build-essential cmake ninja-build ccache mold pkg-config git ca-certificates
  # libraries (docs/adr/0002-dependencies.md says why each)
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  librocksdb-dev prometheus-cpp-dev libboost-dev libssl-dev libsqlite3-dev
  libxxhash-dev libyaml-cpp-dev libcli11-dev libutf8proc-dev rapidjson-dev grpc-proto
  # tests and checks
  libgtest-dev libgmock-dev libbenchmark-dev clang-14 clang-tidy-14 clang-format-14 libclang-rt-14-dev llvm-14
  prometheus python3 curl openssl iproute2 valgrind
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
# Any npm will do; Debian's is taken only where there is none.
command -v npm >/dev/null || missing+=(nodejs npm)

if [ "${1:-}" = --check ]; then
  [ ${#missing[@]} -eq 0 ] || { echo "setup: missing: ${missing[*]}"; exit 1; }
  echo "setup: every Debian package is installed"
  exit 0
elif [ $# -gt 0 ]; then
  echo "usage: deploy/setup.sh [--check]" >&2
  exit 2
fi

if [ ${#missing[@]} -gt 0 ]; then
  sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: run as root to install: ${missing[*]}" >&2; exit 1; }
    sudo=(sudo)
  fi
  echo "setup: installing ${#missing[@]} Debian packages"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # Services that packages bring (prometheus) are wanted as programs only: never start them.
  if ! { "${sudo[@]}" apt-get update &&
         "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
           apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "setup: apt-get failed; the lines above say why" >&2
    exit 1
  fi
fi

# Protocol files and the protobuf linter, which Debian does not package.
"$root/deploy/npm_fetch.sh" google-proto-files 6.0.1 \
  fbvUWVNh3rKGlVFWwlUNF7Sk1Tah0a89q02rLTXsWjbKKHGeuURAa8tl9rvu5TyWny1YiSIo5eDqF260Tai6vQ== \
  "$deps/google-proto-files"
case $(uname -m) in
  x86_64)
    "$root/deploy/npm_fetch.sh" @bufbuild/buf-linux-x64 1.75.0 \
      YGGJAx0lpMCE7aMWjNOJcfoEaG/e+iYHnTC4SZ0P5eS4IffMryA9Z4/bb1m1wNXAEJ8ATFMEZOAk/5x9VE47ig== "$deps/buf" ;;
  aarch64)
    "$root/deploy/npm_fetch.sh" @bufbuild/buf-linux-aarch64 1.75.0 \
      eX+XyokzJDqsNIFo8b1O3DBvbnksOozPJX4QVsNn61JqSUtWspyTNeYqwg8lRDancML+bDqZEDFPABjAsVCQGQ== "$deps/buf" ;;
  *) echo "setup: no buf binary for $(uname -m); the proto lint will be skipped" >&2 ;;
esac
echo "setup: ready"
