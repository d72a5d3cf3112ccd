#!/bin/sh
# Stands before the compiler while the targets are built, and lets only those crates be instrumented that read what
# comes from outside. What the compiler of Wasm does with a valid module guides no input to a new place in ours, and
# instrumenting it doubles the time of both the build and each input.
rustc=$1
shift
name=
previous=
for argument; do
  [ "$previous" = --crate-name ] && name=$argument
  previous=$argument
done
case $name in
  holm_* | intake | intake_smith | host_calls | classify | records) ;;
  wasmparser | wasm_smith | wit_component | wit_parser | wast | wat | jsonschema | serde_json | wasmtime_wasi | wasmtime_wasi_io) ;;
  *)
    for argument; do
      shift
      case $argument in
        -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-* | -Cllvm-args=-simplifycfg-*) ;;
        *) set -- "$@" "$argument" ;;
      esac
    done
    ;;
esac
exec "$rustc" "$@"
