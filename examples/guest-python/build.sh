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
mkdir -p "$work/app" "$work/venv/lib/python3/site-packages" "$work/wit/deps/holm-host"
cp app.py "$work/app/"

# --stub-wasi turns all of WASI into traps: the clock, files and `print` trap, and `random` gives the same numbers in
# every execution. Without it the component imports sockets and a file system, which the host does not have.
# It would turn `wasi:io/poll` into traps too, with which this guest waits for the model. So that package goes by
# another name while the tool runs, and gets its own back in the component; both are of one length, so nothing moves.
cp -R ../../host-api/wit/deps/. "$work/wit/deps/"
cp ../../host-api/wit/*.wit "$work/wit/deps/holm-host/"
cp world.wit "$work/wit/"
find "$work/wit" -name '*.wit' -exec sed -i.bak 's/wasi:io/keep:io/' {} +
VIRTUAL_ENV="$work/venv" "$tool" --quiet -d "$work/wit" -w guest \
  componentize --stub-wasi -p "$work/app" -o "$work/guest-python.wasm" app
python3 - "$work/guest-python.wasm" "$out/guest-python.wasm" <<'PY'
import sys
from pathlib import Path

built, out = map(Path, sys.argv[1:])
out.write_bytes(built.read_bytes().replace(b"keep:io/", b"wasi:io/"))
PY
