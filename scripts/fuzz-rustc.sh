#!/usr/bin/env bash
# rustc for scripts/fuzz.sh: the fuzzer is told which branches of the project's own crates an input takes. Told of those of
# the libraries too, it runs at a tenth of the speed and follows what is theirs; told of all that is compared, at half. The
# words that parsers compare with are in fuzz/corpus.
set -euo pipefail
coverage=()
case " $* " in
*" --crate-name passfort_ingest "* | *" fuzz_targets/"*)
    coverage=(-Cpasses=sancov-module)
    for what in level=3 inline-8bit-counters pc-table; do
        coverage+=("-Cllvm-args=-sanitizer-coverage-$what")
    done
    ;;
esac
exec "$@" "${coverage[@]}"
