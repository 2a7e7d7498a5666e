#!/usr/bin/env bash
# Gives every parser that reads what strangers write inputs that a fuzzer makes up: scripts/fuzz.sh [EXECUTIONS [TARGET…]]
# What is found lies in fuzz/artifacts; what is worth keeping belongs into fuzz/corpus, where `cargo test` replays it.
set -euo pipefail
cd "$(dirname "$0")/.."
executions=${1:-10000000}
shift || true
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
if [ $# -eq 0 ]; then
    set -- manifest_json manifest_lines manifest_csv image api_answer names layouts workbooks
fi
for target in "$@"; do
    echo "== $target"
    # Works with the stable toolchain, which has no sanitizers; there is no unsafe code in the parsers to find with them.
    # New inputs go to a folder that is not kept. More memory than this, or ten seconds for one input, is a finding.
    mkdir -p "fuzz/target/found/$target"
    cargo fuzz run --sanitizer none --release "$target" "fuzz/target/found/$target" "fuzz/corpus/$target" -- \
        -runs="$executions" -max_len=4096 -rss_limit_mb=512 -timeout=10 -print_final_stats=1 2>&1 |
        grep -E '^(==|stat::|SUMMARY|.*ERROR|.*panicked|artifact|Done)' || { echo "$target: a finding" >&2; exit 1; }
done
