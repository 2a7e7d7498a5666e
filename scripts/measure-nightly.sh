#!/usr/bin/env bash
# What a list that grows costs each night: an import of ENTRIES rows, then of the same list with NEW more, twice.
# Usage: scripts/measure-nightly.sh [ENTRIES] [NEW] [FOLDER]
# $BIN is the program, otherwise the release build; the files are made in FOLDER (some 6 GB for a million), else in a temporary
# one. $PERF is put before the second night's command, e.g. 'perf record -o nightly.data'.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
. scripts/archive.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
entries=${1:-1000000}
new=${2:-100}
place=$(mktemp -d -p "${3:-${TMPDIR:-/tmp}}")
trap 'kill "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

make_archive "$place/archive" "$entries"
start_sandbox "$bin" "$place/sandbox.log"
printf '[api]\nbase_url = "%s"\n[queue]\ndatabase = "%s"\n' "$url" "$place/queue.db" >"$place/config.toml"

night() { # COMMAND-BEFORE...
    local size
    size=$({ du -cb "$place"/queue.db* 2>/dev/null || true; } | tail -1 | cut -f1)
    python3 - "$@" "$bin" --config "$place/config.toml" -q import "$place/archive" <<'END'
import os, subprocess, sys, time
began = time.monotonic()
run = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(run.pid, 0)
print(f'{time.monotonic() - began:.1f} s, {usage.ru_utime:.1f} s user, {usage.ru_stime:.1f} s system, {usage.ru_maxrss / 1024:.0f} MiB at most')
END
    echo "the queue grew by $(($(du -cb "$place"/queue.db* | tail -1 | cut -f1) - size)) bytes"
}
night
make_archive "$place/archive" "$((entries + new))" "$entries"
# A file that was made within a second of being read is read again.
sleep 2
# shellcheck disable=SC2086
night ${PERF:-}
make_archive "$place/archive" "$((entries + 2 * new))" "$((entries + new))"
sleep 2
night
