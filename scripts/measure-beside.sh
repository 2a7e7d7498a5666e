#!/usr/bin/env bash
# How long ten documents in one drop take while a migration lies in another: while it is taken in, and while it is sent.
# Usage: scripts/measure-beside.sh [ENTRIES] [TIMES] [MANIFESTS]
# The migration is one manifest, or so many. $BIN is the program, otherwise the release build; $LATENCY is the stand-in's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
entries=${1:-1000000}
times=${2:-50}
manifests=${3:-1}
place=$(mktemp -d)
trap 'kill "${daemon:-}" "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

mkdir -p "$place/migration" "$place/partner"
start_sandbox "$bin" "$place/sandbox.log" --latency "${LATENCY:-20ms}"
cat >"$place/config.toml" <<END_OF_CONFIG
[api]
base_url = "$url"
[queue]
database = "$place/queue.db"
[[drop]]
name = "migration"
path = "$place/migration"
[[drop]]
name = "partner"
path = "$place/partner"
settle = "200ms"
END_OF_CONFIG

# One little picture for all documents of a manifest.
python3 - "$place" "$entries" "$manifests" <<'END_OF_MAKING'
import os, sys
place, entries, manifests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
gif = b'GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xfe\x08%08d\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;'
os.mkdir(f'{place}/made')
for manifest in range(manifests):
    with open(f'{place}/made/{manifest}.gif', 'wb') as file:
        file.write(gif % manifest)
    with open(f'{place}/made/{manifest}.manifest.jsonl', 'w') as file:
        for entry in range(manifest * entries // manifests, (manifest + 1) * entries // manifests):
            file.write(f'{{"reference":"m{entry}","profile_id":"a2c4393a-e219-47a4-8ab4-{entry:012x}",'
                       f'"category":"PROOF_OF_IDENTITY","document_type":"PASSPORT","images":[{{"path":"{manifest}.gif"}}]}}\n')
END_OF_MAKING

"$bin" --config "$place/config.toml" run 2>"$place/run.log" &
daemon=$!
until [ -e "$place/queue.db" ]; do kill -0 "$daemon"; sleep 0.05; done
sleep 3
mv "$place/made" "$place/migration/all"
sleep 3

# ten NAME WHAT: puts ten documents there so often, each after the receipt of those before, and says how long that took.
ten() {
    python3 - "$place/partner" "$times" "$daemon" "$1" "$2" <<'END_OF_TEN'
import json, os, sys, time
partner, times, pid, name, what = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
gif = b'GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xfe\x18%24s\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;'
took = []
for time_of in range(times):
    entries, manifest = [], f'{name}-{time_of}.manifest.json'
    for entry in range(10):
        path = f'{name}-{time_of}-{entry}.gif'
        with open(f'{partner}/{path}', 'wb') as file:
            file.write(gif % path.encode())
        profile = f'b2c4393a-e219-47a4-8ab4-{abs(hash(name)) % 0xFFFF:04x}{time_of * 10 + entry:08x}'
        entries.append({'reference': path, 'profile_id': profile, 'category': 'PROOF_OF_IDENTITY',
                        'document_type': 'PASSPORT', 'images': [{'path': path}]})
    with open(f'{partner}/{manifest}.tmp', 'w') as file:
        json.dump({'version': 1, 'documents': entries}, file)
    began = time.monotonic()
    os.rename(f'{partner}/{manifest}.tmp', f'{partner}/{manifest}')
    receipt = f'{partner}/receipts/{manifest}.receipt.json'
    while not os.path.exists(receipt):
        os.kill(int(pid), 0)
        time.sleep(0.005)
    took.append(time.monotonic() - began)
    assert json.load(open(receipt))['counts']['created'] == 10, open(receipt).read()
    time.sleep(0.2)
took.sort()
at = lambda share: took[min(len(took) - 1, int(len(took) * share))]
print(f'ten documents {what + ":":26} p50 {at(0.5):.2f} s, p90 {at(0.9):.2f} s, p99 {at(0.99):.2f} s, most {took[-1]:.2f} s ({times} times)')
END_OF_TEN
}

taken() { grep -c 'taken in drop="migration"' "$place/run.log" || true; }
ten taken "while it is taken in"
echo "manifests taken in by then: $(taken) of $manifests"
until [ "$(taken)" -ge "$manifests" ]; do kill -0 "$daemon"; sleep 1; done
ten sent "while it is sent"
"$bin" --config "$place/config.toml" status --json 2>/dev/null | tr -d ' \n' | grep -o '"drop":"migration"[^}]*}' | head -1 || true
grep -E 'VmHWM|VmRSS' "/proc/$daemon/status"
