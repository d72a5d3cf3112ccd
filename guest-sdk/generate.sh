#!/bin/bash
# Generates src/bindings.rs from the host's WIT:
#
#   generate.sh            writes it
#   generate.sh --check    only says whether it is current; exit status 1 if not
#
# The generator is built once into a cache, in the version of the wit-bindgen that Cargo.toml names;
# WIT_BINDGEN=COMMAND uses another.
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
WIT=$HERE/../host-api/wit
BINDINGS=$HERE/src/bindings.rs
VERSION=$(sed -n 's/^wit-bindgen = .*version = "=\([^"]*\)".*/\1/p' "$HERE/Cargo.toml")

if [ -z "${WIT_BINDGEN:-}" ]; then
  ROOT=${XDG_CACHE_HOME:-$HOME/.cache}/holm/wit-bindgen-$VERSION
  WIT_BINDGEN=$ROOT/bin/wit-bindgen
  [ -x "$WIT_BINDGEN" ] || env -u RUSTFLAGS -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET cargo install \
    wit-bindgen-cli --version "$VERSION" --locked --no-default-features --features rust --root "$ROOT"
fi

TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
# `export!` is public so that `entry!` can call it from another crate; the types say where they live.
"$WIT_BINDGEN" rust "$WIT" --world workload --out-dir "$TMP" --format --pub-export-macro \
  --default-bindings-module holm_guest::bindings --additional-derive-attributes PartialEq >/dev/null 2>"$TMP/log" ||
  { cat "$TMP/log" >&2; exit 1; }

if diff -u "$BINDINGS" "$TMP/workload.rs" > "$TMP/diff" 2>/dev/null; then
  echo "bindings: current"
elif [ "${1:-}" = --check ]; then
  cat "$TMP/diff"
  echo "bindings: out of date, run guest-sdk/generate.sh" >&2
  exit 1
else
  cp "$TMP/workload.rs" "$BINDINGS"
  echo "bindings: written"
fi
