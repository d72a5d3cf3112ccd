#!/usr/bin/env bash
# Builds OUTDIR/guest-python.wasm, a component of 18 MB with the interpreter in it: build.sh OUTDIR.
# COMPONENTIZE_PY names another copy of the tool.
set -euo pipefail
out=$(mkdir -p "${1:?usage: build.sh OUTDIR}" && cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"

tool=${COMPONENTIZE_PY:-componentize-py}
[[ $("$tool" --version 2>/dev/null) == "componentize-py 0.25."* ]] || {
  echo "guest-python needs componentize-py 0.25, which this installs: pip install 'componentize-py~=0.25.0'" >&2
  exit 1
}

# The tool writes bytecode beside the source, and takes in the packages that this machine has installed; so it gets
# a copy of the source, and an environment without packages.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/app" "$work/venv/lib/python3/site-packages"
cp app.py "$work/app/"

# --stub-wasi turns all of WASI into traps: the clock, files and `print` trap, and `random` gives the same numbers in
# every execution. Without it the component imports sockets and a file system, which the host does not have.
VIRTUAL_ENV="$work/venv" "$tool" --quiet -d ../../host-api/wit -d world.wit -w example:summarise/guest \
  componentize --stub-wasi -p "$work/app" -o "$work/guest-python.wasm" app
cp "$work/guest-python.wasm" "$out/guest-python.wasm"
