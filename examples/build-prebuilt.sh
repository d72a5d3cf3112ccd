#!/usr/bin/env bash
# Builds the example guests into examples/prebuilt/: build-prebuilt.sh [GUEST...], all of them by default.
#
# The components are kept in the repository, so that the host can be run and tested without any guest toolchain.
# examples/prebuilt/SOURCES.sha256 says what each was built from, so that a test can tell when one is out of date:
#
#   <digest> <guest> <root>...
#
# The roots are files and folders, relative to the repository's root. The digest is a SHA-256 over the files in them, in
# the byte order of their paths, which are relative to the repository's root and written with '/'. Of each file it takes
#
#   <path> NUL <length in bytes, decimal> NUL <bytes>
#
# Left out are files and folders whose name starts with a dot, folders named target, node_modules and __pycache__,
# files named *.wasm, and symbolic links.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
prebuilt=$root/examples/prebuilt
digests=$prebuilt/SOURCES.sha256
command -v sha256sum >/dev/null || sha256sum() { shasum -a 256; }

roots_of() {
  case $1 in
    guest-agents | guest-evaluate) echo "examples/$1 guest-sdk/Cargo.toml guest-sdk/src host-api/wit" ;;
    guest-js | guest-python) echo "examples/$1 host-api/wit" ;;
    guest-c) echo "examples/$1" ;;
    *) echo "no guest is called $1; there are ${all[*]}" >&2; return 2 ;;
  esac
}

digest_of() {
  cd "$root"
  find "$@" \( -name '.?*' -o -type d \( -name target -o -name node_modules -o -name __pycache__ \) \) -prune -o \
    -type f ! -name '*.wasm' -print | LC_ALL=C sort | while IFS= read -r file; do
    printf '%s\0%d\0' "$file" "$(wc -c <"$file")"
    cat "$file"
  done | sha256sum | cut -d ' ' -f 1
}

build() {
  case $1 in
    guest-agents | guest-evaluate)
      "$root/tests/artifacts/build-guests.sh" "$root/target/prebuilt" "$root/examples/$1" &&
        cp "$root/target/prebuilt/${1//-/_}.wasm" "$prebuilt/$1.wasm"
      ;;
    *) "$root/examples/$1/build.sh" "$prebuilt" ;;
  esac
}

# Replaces the guest's line in the digests, and leaves the others as they are.
record() {
  touch "$digests"
  { grep -v " $1 " "$digests" || true; echo "$2 $1 $3"; } | LC_ALL=C sort -k 2,2 >"$digests.new"
  mv "$digests.new" "$digests"
}

all=(guest-agents guest-c guest-evaluate guest-js guest-python)
(($#)) || set -- "${all[@]}"
for guest in "$@"; do roots_of "$guest" >/dev/null; done

failed=()
for guest in "$@"; do
  roots=$(roots_of "$guest")
  # Taken before the build: what is edited meanwhile counts as not built.
  if digest=$(digest_of $roots) && build "$guest"; then
    record "$guest" "$digest" "$roots"
    echo "$guest: $(wc -c <"$prebuilt/$guest.wasm") bytes"
  else
    failed+=("$guest")
  fi
done
((${#failed[@]} == 0)) || { echo "not built: ${failed[*]}" >&2; exit 1; }
