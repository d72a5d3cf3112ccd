#!/bin/bash
# Builds Rust guest crates, each a workspace of its own, to components:
#
#   build-guests.sh OUTDIR CRATE_DIR...
#
# Every cdylib and binary of each crate is copied to OUTDIR. The standard library of the target comes from the
# first of these that is there:
#   1. a rustc that has it already;
#   2. one that this script built earlier, as in 4;
#   3. `rustup target add`, with a time limit, since it hangs on some closed networks;
#   4. Debian's rustc-web, rust-web-src and wasi-libc: std is built once into a cache.
#
# Settings: GUEST_TARGET_DIR (cargo's target folder, shared by all guests), GUEST_RUSTC (the rustc of 4),
# GUEST_JOBS (parallel compilations), GUESTS_FORCE_APT=1 (goes straight to 2 and 4).
set -euo pipefail

TARGET=wasm32-wasip2
HERE=$(cd "$(dirname "$0")" && pwd)
REPO=$(cd "$HERE/../.." && pwd)
[ $# -ge 2 ] || { echo "usage: build-guests.sh OUTDIR CRATE_DIR..." >&2; exit 2; }
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
shift

# The settings of an outer `cargo test` are for another target.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER "${!CARGO_BUILD_@}" "${!CARGO_PROFILE_@}"
export CARGO_TARGET_DIR=${GUEST_TARGET_DIR:-$REPO/target/guests}
CARGO_REGISTRY=${CARGO_HOME:-$HOME/.cargo}/registry/src

say() { echo "guests: $*" >&2; }
has_std() { ls "$("$1" --print target-libdir --target $TARGET 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1; }

# Paths of this machine would end up in panic messages, and make the bytes differ from one machine to the next.
# Of several prefixes that match, rustc takes the last. The folder of the registry has its name from cargo's first use.
ls -d "$CARGO_REGISTRY"/*/ >/dev/null 2>&1 || ( cd "$1" && cargo fetch --locked --quiet )
FLAGS=("--remap-path-prefix=$REPO=/holm")
for index in "$CARGO_REGISTRY"/*/; do FLAGS+=("--remap-path-prefix=${index%/}=/crates"); done

DEBIAN_RUSTC=${GUEST_RUSTC:-/usr/bin/rustc}
SYSROOT=
if [ -x "$DEBIAN_RUSTC" ]; then
  key=$( { "$DEBIAN_RUSTC" -vV; cat "$HERE/mk-sysroot.sh"; } | sha256sum | cut -c1-12)
  SYSROOT=${XDG_CACHE_HOME:-$HOME/.cache}/holm/guest-sysroot/$key
fi
use_sysroot() {
  export RUSTC=$DEBIAN_RUSTC
  FLAGS+=("--sysroot=$SYSROOT" "--remap-path-prefix=$("$RUSTC" --print sysroot)/lib/rustlib/src/rust=/rustc")
}

force_apt=${GUESTS_FORCE_APT:-}
if [ -z "$force_apt" ] && has_std "${RUSTC:-rustc}"; then
  say "using ${RUSTC:-rustc} with its own std for $TARGET"
elif [ -n "$SYSROOT" ] && [ -e "$SYSROOT/.done" ]; then
  say "using $DEBIAN_RUSTC with the std for $TARGET in $SYSROOT"
  use_sysroot
elif [ -z "$force_apt" ] && command -v rustup >/dev/null && timeout 60 rustup target add $TARGET && has_std rustc; then
  say "added $TARGET with rustup"
  unset RUSTC
else
  sources=$("$DEBIAN_RUSTC" --print sysroot 2>/dev/null || true)/lib/rustlib/src/rust/library/Cargo.lock
  if [ -z "$SYSROOT" ] || [ ! -e "$sources" ]; then
    say "no std for $TARGET. Run 'rustup target add $TARGET', or on Debian 12 without it:"
    say "  apt-get install -y --no-install-recommends rustc-web rust-web-src wasi-libc"
    exit 1
  fi
  mkdir -p "$(dirname "$SYSROOT")"
  exec 9> "$SYSROOT.lock"
  flock 9
  if [ ! -e "$SYSROOT/.done" ]; then
    say "building std for $TARGET once, with $("$DEBIAN_RUSTC" -V), into $SYSROOT"
    rm -rf "$SYSROOT"
    env -u CARGO_TARGET_DIR RUSTC="$DEBIAN_RUSTC" "$HERE/mk-sysroot.sh" "$SYSROOT" $TARGET
    touch "$SYSROOT/.done"
  fi
  exec 9>&-
  use_sysroot
fi
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "${FLAGS[@]}")
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}

for crate in "$@"; do
  # Cargo names what it built; the final artifacts, not those of dependencies, lie in `release` itself.
  built=$(cd "$crate" && cargo build --release --locked --target $TARGET ${GUEST_JOBS:+--jobs "$GUEST_JOBS"} \
    --message-format=json-render-diagnostics)
  components=$(grep -o '"[^"]*/release/[^"/]*\.wasm"' <<<"$built" | tr -d '"' | sort -u) || true
  [ -n "$components" ] || { say "$crate has neither a cdylib nor a binary"; exit 1; }
  while read -r wasm; do
    cp "$wasm" "$OUT/"
    say "$(basename "$wasm"), $(wc -c < "$wasm") bytes"
  done <<<"$components"
done
