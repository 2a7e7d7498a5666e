#!/usr/bin/env bash
# Gives every parser that reads what strangers write inputs that a fuzzer makes up: scripts/fuzz.sh [EXECUTIONS [TARGET…]]
# What is found lies in fuzz/artifacts; what is worth keeping belongs into fuzz/corpus, where `cargo test` replays it.
# Appends a line for each target to proofs/fuzz.tsv.
set -euo pipefail
cd "$(dirname "$0")/.."
executions=${1:-10000000}
shift || true
if [ $# -eq 0 ]; then
    set -- names api_answer manifest_json manifest_lines manifest_csv image layouts workbooks
fi
commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain --untracked-files=no -- . ':!proofs')" ] || commit+=+
# With the stable toolchain, which has no sanitizers: there is no unsafe code in the parsers to find with them.
RUSTC_WRAPPER=$PWD/scripts/fuzz-rustc.sh cargo build --release --manifest-path fuzz/Cargo.toml

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for target in "$@"; do
    echo "== $target"
    # New inputs go to a folder that is not kept. More memory than this, or ten seconds for one input, is a finding.
    found=fuzz/target/found/$target
    # An entry of a manifest takes some hundred bytes, a picture or workbook more.
    case $target in manifest_*) longest=1024 ;; *) longest=4096 ;; esac
    mkdir -p "$found" "fuzz/artifacts/$target"
    findings=0
    "fuzz/target/release/$target" -runs="$executions" -max_len="$longest" -rss_limit_mb=512 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" "$found" "fuzz/corpus/$target" >"$log" 2>&1 || findings=1
    grep -E '^(stat::|SUMMARY|.*ERROR|.*panicked|artifact|Done)' "$log" || true
    executed=$(awk '$1 == "stat::number_of_executed_units:" { print $2 }' "$log")
    printf '%s\t%s\t%s\t%s\t%s\n' "$commit" "$(date -u +%F)" "$target" "${executed:-0}" "$findings" >>proofs/fuzz.tsv
    [ "$findings" -eq 0 ] || { echo "$target: a finding" >&2; failed=1; }
done
exit "$failed"
