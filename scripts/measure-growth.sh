#!/usr/bin/env bash
# What the commands cost as a queue grows: each on a queue of ENTRIES and on one of ten times as many, and the ratio, which is to
# be at most 11. Usage: scripts/measure-growth.sh [ENTRIES] [FOLDER]
# $BIN is the program, otherwise the release build; files and queues are made in FOLDER (some 7 GB for 100,000 and a million),
# else in a temporary one. The best of three runs counts. The cost of settling is from the last entry's end until the import's.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
. scripts/archive.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
entries=${1:-100000}
place=$(mktemp -d -p "${2:-${TMPDIR:-/tmp}}")
trap 'kill "${page:-}" "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

# cost WHAT COMMAND...: the processor's and the wall's seconds of the best of three runs.
cost() {
    local what=$1
    shift
    python3 - "$place/costs.$size" "$what" "$@" <<'END'
import os, subprocess, sys, time
into, what, *command = sys.argv[1:]
best = None
for _ in range(3):
    began = time.monotonic()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    took = (usage.ru_utime + usage.ru_stime, time.monotonic() - began)
    best = min(best or took, took)
open(into, 'a').write(f'{what}\t{best[0]:.3f}\t{best[1]:.3f}\n')
END
}

for size in "$entries" "$((entries * 10))"; do
    mkdir "$place/$size"
    make_archive "$place/$size/archive" "$size"
    start_sandbox "$bin" "$place/sandbox.log"
    cat >"$place/$size/config.toml" <<END
[api]
base_url = "$url"
[queue]
database = "$place/$size/queue.db"
[http]
listen = "127.0.0.1:9489"
[[drop]]
name = "idle"
path = "$place/$size/idle"
END
    mkdir "$place/$size/idle"
    ours() { "$bin" --config "$place/$size/config.toml" "$@"; }
    ours -q import "$place/$size/archive" >"$place/$size/summary"
    python3 - "$place/$size" "$place/costs.$size" <<'END'
import os, sqlite3, sys
place, into = sys.argv[1:]
finished, = sqlite3.connect(f'{place}/queue.db').execute('SELECT finished_at FROM batch').fetchone()
receipt, = [entry for entry in os.scandir(f'{place}/archive/receipts') if '.receipt.' in entry.name]
open(into, 'a').write(f'settling\t-\t{receipt.stat().st_ctime - finished / 1000:.3f}\n')
END
    for command in status jobs 'jobs --state failed' batches export 'verify --history'; do
        # shellcheck disable=SC2086
        cost "$command" "$bin" --config "$place/$size/config.toml" $command
    done
    # Every document is asked for, ten to a profile.
    cost verify "$bin" --config "$place/$size/config.toml" verify
    ours -q run 2>/dev/null &
    page=$!
    until curl -fsS http://127.0.0.1:9489/status.json -o /dev/null 2>/dev/null; do kill -0 "$page"; done
    for path in '' status.json metrics; do cost "page /$path" curl -fsS "http://127.0.0.1:9489/$path"; done
    kill "$page"; wait "$page" 2>/dev/null || true
    kill "$sandbox"; wait "$sandbox" 2>/dev/null || true
done
join -t $'\t' <(sort "$place/costs.$entries") <(sort "$place/costs.$((entries * 10))") |
    awk -F '\t' '{ printf "%-24s %8.3f s %9.3f s: %5.1f times (processor %s s, %s s)\n", $1, $3, $5, ($3 > 0 ? $5 / $3 : 0), $2, $4 }'
