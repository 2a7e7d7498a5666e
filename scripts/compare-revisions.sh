#!/usr/bin/env bash
# Compares the speed and memory of this tree with those of another revision, both as packages ship them, in alternating runs.
#
#   scripts/compare-revisions.sh REVISION [ROUNDS] [MEASURE...]      default: 5 rounds of p1 p5 p8, one of p13
#
# Prints, for each figure of the benchmark, the median of each side and their ratio (this tree ÷ the other). Figures that
# are ratios to the bare client, or documents and bytes a second, are better when higher; MiB and times when lower.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 1 ] || { sed -n 2,7p "$0" >&2; exit 2; }
revision=$(git rev-parse --short "$1")
rounds=${2:-5}
shift $(($# > 1 ? 2 : 1))
measures=("$@")
[ $# -gt 0 ] || measures=(p1 p5 p8 p13)

other=target/compare/$revision
[ -d "$other" ] || git worktree add --detach "$other" "$revision"
trap 'git worktree remove --force "$other"' EXIT

# build FOLDER: prints the benchmark's program; the worker's program is built beside it, in a target folder of its own.
build() {
    (cd "$1" && cargo bench --locked --profile dist --bench throughput --no-run --message-format short 2>&1) |
        sed -n 's/^ *Executable .*(\(.*\))$/\1/p' | sed "s|^|$1/|"
}
ours=$(build .)
theirs=$(build "$other")
[ -x "$ours" ] && [ -x "$theirs" ] || { echo "a benchmark was not built" >&2; exit 1; }

results=$(mktemp)
run() { # SIDE PROGRAM MEASURE
    "$2" "$3" --rounds 1 | awk -v side="$1" '
        /^P[0-9]+: / { what = $0; sub(/^P[0-9]+: /, "", what); sub(/[;,].*/, "", what); how = /on a drop/ ? ", drop" : "" }
        match($0, /^P[0-9]+ [^:]*: [0-9.]+/) {
            split(substr($0, RSTART, RLENGTH), parts, ": ")
            print side "\t" parts[1] " (" what how ")" "\t" parts[2]
        }' >>"$results"
}
for measure in "${measures[@]}"; do
    times=$rounds
    # Filling the queues takes minutes, and its claims alternate within one run.
    [ "$measure" != p13 ] || times=1
    for round in $(seq "$times"); do
        if ((round % 2)); then
            run ours "$ours" "$measure"; run theirs "$theirs" "$measure"
        else
            run theirs "$theirs" "$measure"; run ours "$ours" "$measure"
        fi
    done
done

printf '%-62s %10s %10s %8s\n' figure here "$revision" ratio
sort -t$'\t' -k2,2 -k1,1 -k3,3n "$results" | awk -F'\t' '
    function middle(n) { return n % 2 ? value[(n + 1) / 2] : (value[n / 2] + value[n / 2 + 1]) / 2 }
    function close_group() { if (n) median[side, figure] = middle(n); n = 0 }
    { if ($1 != side || $2 != figure) { close_group(); side = $1; figure = $2; if (!seen[figure]++) order[++count] = figure }
      value[++n] = $3 }
    END {
        close_group()
        for (i = 1; i <= count; i++) {
            f = order[i]; a = median["ours", f]; b = median["theirs", f]
            printf "%-62s %10.3f %10.3f %8.3f\n", f, a, b, b ? a / b : 0
        }
    }'
rm -f "$results"
