#!/bin/sh
# Installs what building eigenscope needs: system packages through apt, npm packages through
# npm ci. Says what it is going to install first; without the right to install, prints the exact
# command and stops. Does nothing where everything is there. Used by quickstart.sh and .ci/run.
set -eu
cd "$(dirname "$0")/.."

required="g++ cmake ninja-build libopenblas-dev zlib1g-dev doctest-dev"
optional="libdnnl-dev libonnx-testdata" # fast float32 convolutions; ONNX's own tests for npm test

say() { printf '%s\n' "$*"; }

if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number);
              process.exit(a > 20 || (a === 20 && b >= 17) ? 0 : 1)' 2>/dev/null; then
  say "eigenscope needs Node.js 20.17 or newer on the PATH (found: $(node --version 2>/dev/null || echo none))." >&2
  exit 1
fi

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
  cat >&2 <<'END'
This script installs packages with apt, which this system does not have. Install by hand:
  - a C++20 compiler (GCC 12 or newer), CMake 3.22 or newer, Ninja
  - OpenBLAS with LAPACK, best as a static library (libopenblas.a)
  - zlib, best as a static library (libz.a)
  - doctest (for the C++ tests) and, if there is one, oneDNN 2 (libdnnl, for fast convolutions)
Then run:
  npm ci && npm run build && npm run main-job
Linux on x86-64 with glibc 2.35 or newer is what the project is tested on.
END
  exit 1
fi

installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Installs those of "$@" that are missing.
install() {
  missing=""
  for package in "$@"; do
    installed "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0

  if [ "$(id -u)" = 0 ]; then
    as_root=""
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
  else
    say "These packages are missing and this account may not install them. Run, then try again:" >&2
    say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
  fi
  say "Installing with apt-get:$missing"
  $as_root apt-get update -q
  wanted=""
  for package in $missing; do
    case " $optional " in
      *" $package "*)
        # Not every release has it, and everything works without.
        if ! apt-cache show "$package" >/dev/null 2>&1; then
          say "Leaving out $package: this release has none."
          continue
        fi ;;
    esac
    wanted="$wanted $package"
  done
  if [ -n "$wanted" ]; then
    # shellcheck disable=SC2086 # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $wanted
  fi
}

# Ubuntu 22.04's g++ is version 11; its g++-12 is installed beside it, and CMake is told to find it.
newer_compiler() {
  major=$(g++ -dumpversion 2>/dev/null | cut -d. -f1)
  case $major in ''|1[2-9]|[2-9][0-9]) ;; *) echo g++-12 ;; esac
}

# shellcheck disable=SC2086,SC2046 # lists of words
install $required $optional $(newer_compiler)
# shellcheck disable=SC2046
install $(newer_compiler)

# npm writes this copy of the lock file when an install is complete.
if [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say "Installing the npm packages of package-lock.json into node_modules (npm ci)"
  npm ci
fi
