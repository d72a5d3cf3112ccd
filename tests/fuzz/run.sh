#!/usr/bin/env bash
# Builds the fuzz targets and runs each of them for SECONDS, 20 by default, one after the other:
#
#   tests/fuzz/run.sh [SECONDS] [TARGET...]
#
# Every run begins with the seeds and with what earlier runs found worth keeping (tests/fuzz/corpus). It prints a line a
# target. With FUZZ_SEED it does the same again. Where one fails it says which input did it, and ends with status 1 when all have run.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-20}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(records classify host_calls intake intake_smith)

export CARGO_INCREMENTAL=0 RUST_BACKTRACE=1
if ! command -v cargo-fuzz >/dev/null; then
  [ -x target/ci-tools/bin/cargo-fuzz ] || cargo install cargo-fuzz --version 0.13.2 --locked --quiet --root target/ci-tools
  PATH=$PWD/target/ci-tools/bin:$PATH
fi

# Crates that guide no input anywhere are built as usual.
export RUSTC_WRAPPER=$PWD/tests/fuzz/rustc.sh
# A sanitizer would need a nightly compiler, and finds what only unsafe code does. Which checks the code itself makes is
# said in the profile, so that what we depend on is not slowed down by its own.
cargo fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz --release --sanitizer none --codegen-units 16
host=$(rustc -vV | sed -n 's/^host: //p')

failed=0
for target in "${targets[@]}"; do
  corpus=tests/fuzz/corpus/$target
  artifacts=tests/fuzz/artifacts/$target
  log=target/fuzz/$target.log
  mkdir -p "$corpus" "$artifacts"
  status=0
  "target/fuzz/$host/release/$target" "$corpus" "tests/fuzz/seeds/$target" \
    -max_total_time="$seconds" ${FUZZ_SEED:+-seed="$FUZZ_SEED"} -timeout=60 -rss_limit_mb=2048 -max_len=8192 -len_control=20 \
    -artifact_prefix="$artifacts/" -print_final_stats=1 >"$log" 2>&1 || status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
  coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 || true)
  printf '%-12s %s executions, %s edges\n' "$target" "${executions:-?}" "${coverage#cov: }"
  if [ "$status" -ne 0 ]; then
    failed=1
    tail -n 60 "$log" | grep -v '^stat::' || true
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    printf 'FAILED: %s; the input is %s\n  again: %s %s\n' \
      "$target" "${input:-not known}" "target/fuzz/$host/release/$target" "${input:-}"
  fi
done
exit "$failed"
