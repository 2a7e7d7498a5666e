#!/usr/bin/env bash
# What events cost beside many emptied folders: the processor time of a daemon that takes a manifest of 22 entries each
# second, beside ten emptied folders and beside many. All else is the same, so that the difference is what the folders cost.
# Usage: scripts/measure-events.sh [FOLDERS] [SECONDS] [ROUNDS]
# $BIN is the program, otherwise the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
folders=${1:-10000}
seconds=${2:-60}
rounds=${3:-2}
place=$(mktemp -d)
trap 'kill "${daemon:-}" "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT
start_sandbox "$bin" "$place/sandbox.log"

# measure FOLDERS ROUND: the processor time of each second, in milliseconds.
measure() {
    local at=$place/$1-$2
    mkdir -p "$at/drop"
    printf '%s\n' '[api]' "base_url = \"$url\"" '[queue]' "database = \"$at/queue.db\"" \
        '[[drop]]' 'name = "events"' "path = \"$at/drop\"" 'settle = "200ms"' >"$at/config.toml"
    python3 - "$at" "$1" <<'END_OF_MAKING'
import os, sys
at, folders = sys.argv[1], int(sys.argv[2])
for number in range(folders):
    os.makedirs(f'{at}/drop/{number % 100}/{number}')
END_OF_MAKING
    "$bin" --config "$at/config.toml" -q run 2>"$at/run.log" &
    daemon=$!
    python3 - "$at" "$daemon" "$seconds" "$1-$2" <<'END_OF_FEEDING'
import glob, json, os, sys, time
at, pid, seconds, name = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
gif = b'GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xfe\x10%16s\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;'

def put(number):
    folder = f'{at}/drop/{number % 10}/new-{number}'
    os.mkdir(folder)
    entries = []
    for entry in range(22):
        with open(f'{folder}/{entry}.gif', 'wb') as file:
            file.write(gif % f'{number}-{entry}'.encode())
        entries.append({'reference': f'{name}-{number}-{entry}', 'profile_id': f'a2c4393a-e219-47a4-8ab4-{number * 100 + entry:012x}',
                        'category': 'PROOF_OF_IDENTITY', 'document_type': 'PASSPORT', 'images': [{'path': f'{entry}.gif'}]})
    with open(f'{folder}/all.tmp', 'w') as file:
        json.dump({'version': 1, 'documents': entries}, file)
    os.rename(f'{folder}/all.tmp', f'{folder}/all.manifest.json')

def used():
    # Nanoseconds on a processor, of each thread.
    return sum(int(open(path).read().split()[0]) for path in glob.glob(f'/proc/{pid}/task/*/schedstat'))

def receipts():
    return len(glob.glob(f'{at}/drop/receipts/**/*.receipt.json', recursive=True))

# The watching begins with a scan of all, and the second remembers what is empty.
for number in range(5):
    put(number)
    time.sleep(1)
while receipts() < 5:
    time.sleep(0.1)
time.sleep(65)
before, began = used(), time.monotonic()
for number in range(5, 5 + seconds):
    put(number)
    time.sleep(max(0, began + number - 4 - time.monotonic()))
while receipts() < 5 + seconds:
    time.sleep(0.1)
print(f'{(used() - before) / 1e6 / seconds:.2f}')
END_OF_FEEDING
    kill "$daemon"
    wait "$daemon" || true
    rm -rf "$at"
}

for round in $(seq "$rounds"); do
    few=$(measure 10 "$round")
    many=$(measure "$folders" "$round")
    awk -v few="$few" -v many="$many" -v folders="$folders" 'BEGIN {
        printf "beside 10 emptied folders: %.1f ms a second, beside %d: %.1f ms; difference: %.2f %% of a core\n",
            few, folders, many, (many - few) / 10 }'
done
