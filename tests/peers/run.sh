#!/usr/bin/env bash
# The tests against servers that nobody here wrote. Installs them if they are missing, and stops whatever was started.
set -euo pipefail
cd "$(dirname "$0")"
./install.sh
cd ../..
# A group of its own: what a test started, and could not stop, is in it.
setsid cargo test --workspace --locked --test it -- --ignored peers:: "$@" &
group=$!
trap 'kill -KILL -- "-$group" 2>/dev/null || :' EXIT
wait "$group"
