#!/usr/bin/env bash
# Builds OUTDIR/guest-c.wasm, a WASI preview 1 command: build.sh OUTDIR. CLANG names another compiler.
set -euo pipefail
out=$(mkdir -p "${1:?usage: build.sh OUTDIR}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
clang=${CLANG:-clang-22}
install="apt-get install clang-22 lld-22 libclang-rt-22-dev-wasm32 wasi-libc"

command -v "$clang" >/dev/null || {
  echo "guest-c needs $clang, which this installs: $install" >&2
  exit 1
}
# The target is called wasm32-wasi for the header path of Debian's wasi-libc; the note that the name is old is silenced.
"$clang" --target=wasm32-wasi -std=c11 -Wall -Wextra -Werror -Wno-deprecated -Oz -s -o "$out/guest-c.wasm" main.c || {
  echo "guest-c did not build; where a header or a library is missing, this installs it: $install" >&2
  exit 1
}
chmod a-x "$out/guest-c.wasm"
