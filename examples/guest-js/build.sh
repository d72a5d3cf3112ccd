#!/usr/bin/env bash
# Builds OUTDIR/guest-js.wasm, a component: build.sh OUTDIR. COMPONENTIZE_QJS names another copy of the tool.
set -euo pipefail
out=$(mkdir -p "${1:?usage: build.sh OUTDIR}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

tool=${COMPONENTIZE_QJS:-node_modules/.bin/componentize-qjs}
command -v "$tool" >/dev/null || {
  echo "guest-js needs componentize-qjs 0.4, which this installs: npm install --prefix examples/guest-js" >&2
  exit 1
}

# The tool takes one folder of WIT: our world, with the host's package below it.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/wit/deps/holm-host"
cp world.wit "$work/wit/"
cp ../../host-api/wit/*.wit "$work/wit/deps/holm-host/"

# --sync: the host has no component-model async. --stub-wasi: the clock traps, and `Math.random` gives the same numbers
# in every execution. --opt-size: a third smaller, and a quarter slower where it computes, which here is nowhere.
"$tool" --wit "$work/wit" --world guest --js app.js --sync --stub-wasi --opt-size --minify \
  --output "$work/guest-js.wasm" >"$work/log" || {
  cat "$work/log" >&2
  exit 1
}
cp "$work/guest-js.wasm" "$out/guest-js.wasm"
