#!/usr/bin/env bash
# How an import of small documents goes along: how many entries are taken in before the first document is created, the rate of
# sending while entries are taken in and afterwards, the rate in the last tenth of sending and in the second, and memory at
# most. Usage: scripts/measure-import.sh [ENTRIES] [FOLDER]
# $BIN is the program, otherwise the release build; the files are made in FOLDER (about 4 GB for a million), else in a
# temporary one. $LATENCY is the stand-in's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
. scripts/archive.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
entries=${1:-300000}
place=$(mktemp -d -p "${2:-${TMPDIR:-/tmp}}")
trap 'kill "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

make_archive "$place/archive" "$entries"
start_sandbox "$bin" "$place/sandbox.log" --latency "${LATENCY:-0s}"
cat >"$place/config.toml" <<END
[api]
base_url = "$url"
[queue]
database = "$place/queue.db"
[workers]
max_in_flight = 32
END
python3 - "$bin" "$place" <<'END'
import os, sqlite3, subprocess, sys, time
bin, place = sys.argv[1:]
began = time.monotonic()
run = subprocess.Popen([bin, '--config', f'{place}/config.toml', '-q', 'import', f'{place}/archive'], stdout=subprocess.DEVNULL)
samples, peak, queue = [], 0, None
while run.poll() is None:
    time.sleep(0.05)
    try:
        queue = queue or sqlite3.connect(f'file:{place}/queue.db?mode=ro', uri=True, timeout=0.01)
        row = queue.execute("SELECT state, admitted, coalesce((SELECT jobs FROM tally WHERE tally.state = 'done'), 0) FROM batch").fetchone()
        peak = max([peak] + [int(line.split()[1]) for line in open(f'/proc/{run.pid}/status') if line.startswith('VmHWM')])
    except (sqlite3.OperationalError, OSError):
        continue
    if row:
        samples.append((time.monotonic() - began, *row))
took = time.monotonic() - began
entries = samples[-1][2]
def at(done): # when so many were created
    return next(time for time, _, _, created in samples if created >= done)
before_first = max([admitted for _, _, admitted, created in samples if created == 0], default=0)
admitted_at = next((time, created) for time, state, _, created in samples if state != 'admitting')
first = at(1)
while_admitting = admitted_at[1] / max(admitted_at[0] - first, 0.001)
rest = entries - admitted_at[1]
after = rest / (at(entries) - admitted_at[0]) if rest else 0
rate = lambda tenth: entries / 10 / (at(entries * (tenth + 1) // 10) - at(entries * tenth // 10))
print(f'exit {run.returncode}: {entries} entries in {took:.1f} s, {peak / 1024:.1f} MiB at most')
print(f'taken in before the first document: at least {before_first} ({before_first / entries:.1%}); all taken in after {admitted_at[0]:.1f} s')
print(f'documents/s while taking in {while_admitting:.0f}, afterwards {after:.0f}: {while_admitting / after if after else 0:.2f}')
print(f'documents/s in the second tenth of sending {rate(1):.0f}, in the last {rate(9):.0f}: {rate(9) / rate(1):.2f}')
print(f'database: {os.path.getsize(place + "/queue.db") / entries:.0f} B a document')
END
