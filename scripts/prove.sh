#!/usr/bin/env bash
# Tries at length what the tests try in short, and appends what came of it to proofs/*.tsv, a line a run, with the commit.
#
#   scripts/prove.sh soak 10000 2000 101    documents, kills -9, seed; a fifth of all answers is lost, and senders reuse names
#   scripts/prove.sh restores 170 8 1001    queues, so many at a time, first seed; twelve older databases are put back in each
#   scripts/prove.sh kill-points 20         rounds; each ends the process at every durable step, once and twice
#   scripts/prove.sh model 1..2001          seeds; each is a random day, see tests/it/model
#   scripts/prove.sh exactly-once           every order of what can happen to two jobs on a profile: at least 10,000,000 states
#   scripts/prove.sh power-loss 100000 500  images of what a disk could hold, and how many are resumed
#   scripts/prove.sh file-faults            every call to a file fails in every way, once and for good
#   scripts/prove.sh million 1000000 20     entries of one import, and after how many seconds it is killed each time; the
#                                           pictures and the queue, some 6 GB for a million, go into $PLACE or a temporary folder;
#                                           $BIN is the program, if it is built already
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

restores() {
    cargo test --locked --bench soak -- --queues "$1" --at-once "$2" --seed "$3" \
        --documents 40 --per-manifest 4 --kills 24 --restores 12 --record
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
    PASSFORT_INGEST_SEEDS=$seeds PASSFORT_INGEST_RARE=1 cargo test --locked --test it model:: -- --nocapture >"$log" 2>&1 ||
        failed=1
    worlds widened.tsv "$seeds"
    local days state
    while IFS=$'\t' read -r days state; do
        record rare-states.tsv $'commit\tdate\tseeds\tdays\tstate' "$seeds" "$days" "$state"
    done < <(sed -n 's/^rare state: \([0-9]*\) days: \(.*\)/\1\t\2/p' "$log")
    local sums more
    sums=$(awk '/: all is well: / { days++; documents += $6; files += $8; calls += $10; kills += $12 }
                END { printf "%d\t%d\t%d\t%d\t%d", days, documents, files, calls, kills }' "$log")
    more=$(awk '/: all is well: / { reused += $14; certain += $17; open += $20 }
                END { printf "%d\t%d\t%d", reused, certain, open }' "$log")
    local wrong
    wrong=$(sed -n 's/.*these went wrong: \[\(.*\)\].*/\1/p' "$log" | head -n 1)
    local head=$'commit\tdate\tseeds\tdays_well\tdocuments\tfiles\tcalls\tkills\tseeds_wrong'
    record model.tsv "$head"$'\tnames_reused\tentries_certain\tentries_open' "$seeds" "$sums" "${wrong:-none}" "$more"
    if [ "$failed" = 1 ]; then
        grep -A 8 panicked "$log" >&2
        return 1
    fi
}

# worlds FILE SEEDS: how many days each world had, and which of them went wrong.
worlds() {
    local world days wrong which
    while IFS=$'\t' read -r world days wrong which; do
        record "$1" $'commit\tdate\tseeds\tworld\tdays\twrong\tseeds_wrong' "$2" "$world" "$days" "$wrong" "${which:-none}"
    done < <(sed -n 's/^world \(.*\): \([0-9]*\) days, \([0-9]*\) wrong: \[\(.*\)\]$/\1\t\2\t\3\t\4/p' "$log")
}

exactly_once() {
    local failed=0 sums
    cargo test --locked --release --lib exactly_once_tests::ten_million_states -- --ignored --nocapture >"$log" 2>&1 || failed=1
    sums=$(sed -n 's/^states\t\([0-9]*\)\tseconds\t\([0-9]*\)$/\1\t\2/p' "$log")
    [ "$failed" = 0 ] || tail -n 40 "$log"
    record exactly-once.tsv $'commit\tdate\tstates\tseconds\tfailed' "${sums:--$'\t'-}" "$failed"
    return "$failed"
}

power_loss() {
    cargo test --locked --bench ground -- power-loss --images "$1" --resume "$2" --record
}

file_faults() {
    cargo test --locked --bench ground -- file-faults --threads 4 --record
}

# One import, killed again and again; then the queue's crosswalk and the stand-in's own records must have the same documents,
# one for each row.
million() {
    local entries=$1 every=$2 bin kills=0 peak=0 began status
    . scripts/sandbox.sh
    . scripts/archive.sh
    bin=${BIN:-${CARGO_TARGET_DIR:-target}/release/passfort-ingest}
    [ -n "${BIN:-}" ] || cargo build --locked --release --bin passfort-ingest
    bin=$(realpath "$bin")
    place=$(mktemp -d -p "${PLACE:-${TMPDIR:-/tmp}}")
    running=
    trap 'kill "${sandbox:-}" "$running" 2>/dev/null || true; rm -rf "$log" "$place"' EXIT
    make_archive "$place/archive" "$entries"
    start_sandbox "$bin" "$place/sandbox.log"
    # With the default bound of 70 s after each start, what a kill left in doubt is never settled between two kills.
    printf '[api]\nbase_url = "%s"\nrequest_lives = "2s"\nlist_lag = "1s"\n[queue]\ndatabase = "%s"\n' "$url" "$place/queue.db" \
        >"$place/config.toml"
    began=$SECONDS
    while :; do
        "$bin" --config "$place/config.toml" -q import "$place/archive" --json >"$place/summary.json" 2>>"$place/import.log" &
        running=$!
        for _ in $(seq "$every"); do
            sleep 1
            status=$(awk '/VmHWM/ { print $2 }' "/proc/$running/status" 2>/dev/null || true)
            peak=$((${status:-0} > peak ? ${status:-0} : peak))
            [ -n "$status" ] || break
        done
        [ -n "$status" ] || break
        kill -9 "$running"
        wait "$running" 2>/dev/null || true
        kills=$((kills + 1))
    done
    local code=0 seconds=$((SECONDS - began)) sums
    wait "$running" || code=$?
    curl -fsS "${url%/4.0}/_sandbox/documents" >"$place/documents.json"
    "$bin" --config "$place/config.toml" export --format csv >"$place/export.csv"
    sums=$(python3 - "$place" "$entries" <<'END'
import collections, csv, json, sys
place, entries = sys.argv[1], int(sys.argv[2])
summary = json.load(open(f'{place}/summary.json'))
stands = collections.Counter(document['id'] for document in json.load(open(f'{place}/documents.json')))
named = collections.Counter(row['document_id'] for row in csv.DictReader(open(f'{place}/export.csv')))
rows = {row['reference'] for row in csv.DictReader(open(f'{place}/export.csv'))}
missing = entries - len(rows) + sum((named - stands).values())
doubled = sum((stands - named).values())
counted = summary['created'] + summary['duplicate'] == summary['entries'] == entries
print(missing, doubled, 0 if counted else 1)
END
    )
    local missing doubled wrong
    read -r missing doubled wrong <<<"$sums"
    record million.tsv $'commit\tdate\tentries\tkills\tmissing\tdoubled\twrong_sums\tseconds\tpeak_mib' \
        "$entries" "$kills" "$missing" "$doubled" "$wrong" "$seconds" "$((peak / 1024))"
    [ "$code$missing$doubled$wrong" = 0000 ]
}

case ${1:-all} in
    soak) soak "${2:-10000}" "${3:-2000}" "${4:-101}" ;;
    restores) restores "${2:-170}" "${3:-8}" "${4:-1001}" ;;
    kill-points) kill_points "${2:-20}" ;;
    model) model "${2:-1..2001}" ;;
    exactly-once) exactly_once ;;
    power-loss) power_loss "${2:-100000}" "${3:-500}" ;;
    file-faults) file_faults ;;
    million) million "${2:-1000000}" "${3:-20}" ;;
    all) soak 10000 2000 101 && restores 170 8 1001 && kill_points 20 && model 1..2001 && exactly_once && power_loss 100000 500 && file_faults && million 1000000 20 ;;
    *) sed -n '2,16p' "$0" >&2; exit 2 ;;
esac
