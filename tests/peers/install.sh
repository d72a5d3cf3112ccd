#!/usr/bin/env bash
# Installs the servers that nobody here wrote, for the tests against them: into target/peers, and nowhere else.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=$PWD/target/peers
mkdir -p "$peers"

if [ ! -x "$peers/venv/bin/litellm" ]; then
  python3 -m venv "$peers/venv"
  "$peers/venv/bin/pip" install --quiet 'litellm[proxy]==1.106.2'
fi
if [ ! -f "$peers/node_modules/@copilotkit/aimock/dist/cli.js" ]; then
  npm install --silent --no-audit --no-fund --prefix "$peers" @copilotkit/aimock@1.43.0
fi
