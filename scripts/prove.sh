#!/usr/bin/env bash
# Tries at length what the tests try in short, and appends what came of it to proofs/*.tsv, a line a run, with the commit.
#
#   scripts/prove.sh soak 10000 2000 101    documents, kills -9, seed; a fifth of all answers is lost
#   scripts/prove.sh kill-points 20         rounds; each ends the process at every durable step, once and twice
#   scripts/prove.sh model 1..2001          seeds; each is a random day, see tests/it/model
#   scripts/prove.sh power-loss 100000 500  images of what a disk could hold, and how many are resumed
#   scripts/prove.sh file-faults            every call to a file fails in every way, once and for good
#   scripts/prove.sh                        all of them, as above: hours, most of them waiting
#
# A run with a failure is recorded too, and ends this with an error.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The sources that are tried; a plus sign where they are not quite those of the commit.
commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || commit+=+

# record FILE HEAD FIELD...
record() {
    mkdir -p proofs
    [ -e "proofs/$1" ] || printf '%s\n' "$2" >"proofs/$1"
    local file=proofs/$1
    shift 2
    (IFS=$'\t'; printf '%s\t%s\t%s\n' "$commit" "$(date -u +%F)" "$*" >>"$file")
    tail -n 1 "$file"
}

soak() {
    cargo test --locked --bench soak -- --documents "$1" --kills "$2" --seed "$3" --record
}

kill_points() {
    local rounds=$1 failures=0
    : >"$log"
    for _ in $(seq "$rounds"); do
        cargo test --locked --test it kill_points:: -- --nocapture >>"$log" 2>&1 || failures=$((failures + 1))
    done
    local cases kills places
    cases=$(grep -cE ': killed [12] times at ' "$log" || true)
    kills=$(grep -oE ': killed [12] times at ' "$log" | awk '{ sum += $3 } END { print sum + 0 }')
    places=$(grep -oE ': killed [12] times at [a-z._]+' "$log" | awk '{ print $6 }' | sort -u | wc -l)
    record kill_points.tsv $'commit\tdate\trounds\tplaces\tcases\tkills\tfailed_rounds' \
        "$rounds" "$places" "$cases" "$kills" "$failures"
    if [ "$failures" -gt 0 ]; then
        grep -A 20 panicked "$log" >&2
        return 1
    fi
}

model() {
    local seeds=$1 failed=0
    PASSFORT_INGEST_SEEDS=$seeds cargo test --locked --test it model:: -- --nocapture >"$log" 2>&1 || failed=1
    local sums
    sums=$(awk '/: all is well: / { days++; documents += $6; files += $8; calls += $10; kills += $12 }
                END { printf "%d\t%d\t%d\t%d\t%d", days, documents, files, calls, kills }' "$log")
    local wrong
    wrong=$(sed -n 's/.*these went wrong: \[\(.*\)\].*/\1/p' "$log" | head -n 1)
    record model.tsv $'commit\tdate\tseeds\tdays_well\tdocuments\tfiles\tcalls\tkills\tseeds_wrong' \
        "$seeds" "$sums" "${wrong:-none}"
    if [ "$failed" = 1 ]; then
        grep -A 8 panicked "$log" >&2
        return 1
    fi
}

power_loss() {
    cargo test --locked --bench ground -- power-loss --images "$1" --resume "$2" --record
}

file_faults() {
    cargo test --locked --bench ground -- file-faults --threads 4 --record
}

case ${1:-all} in
    soak) soak "${2:-10000}" "${3:-2000}" "${4:-101}" ;;
    kill-points) kill_points "${2:-20}" ;;
    model) model "${2:-1..2001}" ;;
    power-loss) power_loss "${2:-100000}" "${3:-500}" ;;
    file-faults) file_faults ;;
    all) soak 10000 2000 101 && kill_points 20 && model 1..2001 && power_loss 100000 500 && file_faults ;;
    *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac
