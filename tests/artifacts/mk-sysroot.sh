#!/bin/bash
# Builds core, alloc and std for Wasm targets once, with a rustc whose sysroot has the matching sources (on Debian:
# apt-get install rustc-web rust-web-src wasi-libc), and lays them out as a sysroot:
#
#   RUSTC=/usr/bin/rustc mk-sysroot.sh OUT_SYSROOT TARGET...
#   RUSTC=/usr/bin/rustc RUSTFLAGS="--sysroot=OUT_SYSROOT" cargo build --release --target TARGET
#
# Settings: WASILIB (folder of wasi-libc), LLDBIN (folder of rust-lld, gcc-ld/wasm-ld and wasm-component-ld).
set -euo pipefail

OUT=$(mkdir -p "$1" && cd "$1" && pwd)
shift
export RUSTC=${RUSTC:-/usr/bin/rustc}
WASILIB=${WASILIB:-/usr/lib/wasm32-wasi}
BASE=$("$RUSTC" --print sysroot)
HOST=$("$RUSTC" -vV | sed -n 's/^host: //p')
# Debian ships no linker for components; the one of any rustup toolchain does.
LLDBIN=${LLDBIN:-$(env -u RUSTC rustc --print sysroot)/lib/rustlib/$HOST/bin}
CARGO_REGISTRY=${CARGO_HOME:-$HOME/.cargo}/registry/src

# The compiler's own parts are linked, not copied.
mkdir -p "$OUT/lib/rustlib/$HOST" "$OUT/build/src"
ln -sfn "$BASE/lib/rustlib/$HOST/lib" "$OUT/lib/rustlib/$HOST/lib"
ln -sfn "$LLDBIN" "$OUT/lib/rustlib/$HOST/bin"

# An empty crate, built with -Zbuild-std, leaves the standard library in its target folder.
printf '[package]\nname="sysroot-seed"\nversion="0.0.0"\nedition="2021"\n[workspace]\n' > "$OUT/build/Cargo.toml"
echo '#![no_std]' > "$OUT/build/src/lib.rs"

# Wanted by std (thread::spawn), missing from Debian 12's wasi-libc of 2022. 58 is ENOTSUP.
STUBS="$OUT/build/stubs.rs"
cat > "$STUBS" <<'RUST'
#![no_std]
macro_rules! stub { ($($n:ident($($a:ident),*) = $r:expr;)*) => {$(
  #[unsafe(no_mangle)] pub extern "C" fn $n($(_: $a),*) -> i32 { $r } )*} }
stub! {
  pthread_attr_init(usize) = 0; pthread_attr_destroy(usize) = 0; pthread_attr_setstacksize(usize, usize) = 0;
  pthread_create(usize, usize, usize, usize) = 58; pthread_join(usize, usize) = 58; pthread_detach(usize) = 58;
}
RUST

# No path of this machine in the library: panic messages carry them into every guest.
FLAGS=(-Cembed-bitcode=yes "--remap-path-prefix=$BASE/lib/rustlib/src/rust=/rustc" "--remap-path-prefix=$OUT/build=/rustc")
for index in "$CARGO_REGISTRY"/*/; do FLAGS+=("--remap-path-prefix=${index%/}=/crates"); done
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "${FLAGS[@]}")
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}

for TARGET in "$@"; do
  # Without std's default features there is no backtrace printer: smaller guests.
  ( cd "$OUT/build" && RUSTC_BOOTSTRAP=1 cargo build --release --target "$TARGET" --target-dir "$OUT/build/target" \
      -Zbuild-std=std,panic_abort -Zbuild-std-features= )
  LIB="$OUT/lib/rustlib/$TARGET/lib"
  rm -rf "$LIB"
  mkdir -p "$LIB/self-contained"
  find "$OUT/build/target/$TARGET/release/deps" -name '*.rlib' ! -name 'libsysroot_seed*' -exec cp {} "$LIB/" \;
  case $TARGET in *wasip[12]*)
    cp "$WASILIB"/crt1-command.o "$WASILIB"/crt1-reactor.o "$WASILIB"/libc.a "$LIB/self-contained/"
    "$RUSTC" --sysroot "$OUT" --target "$TARGET" --edition 2024 -O -Cpanic=abort -Ccodegen-units=1 --crate-type lib \
      --emit=obj -o "$OUT/build/rust_stubs.o" "$STUBS"
    # Without an index: lld 18 and later ignore it.
    ar qS "$LIB/self-contained/libc.a" "$OUT/build/rust_stubs.o"
    ;;
  esac
done
rm -rf "$OUT/build"
