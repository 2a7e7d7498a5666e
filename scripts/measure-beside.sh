#!/usr/bin/env bash
# How long ten documents in one drop take while a migration lies in another: while its manifest is taken in, and while it
# is sent. Usage: scripts/measure-beside.sh [ENTRIES] [TIMES]
# $BIN is the program, otherwise the release build; $LATENCY is the stand-in's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
entries=${1:-1000000}
times=${2:-5}
place=$(mktemp -d)
trap 'kill "${daemon:-}" "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

mkdir -p "$place/migration" "$place/partner"
start_sandbox "$bin" "$place/sandbox.log" --latency "${LATENCY:-20ms}"
cat >"$place/config.toml" <<END
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
END
ours() { "$bin" --config "$place/config.toml" "$@"; }

# One little picture in many documents.
printf 'GIF89a\1\0\1\0\200\0\0\377\377\377\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;' >"$place/migration/one.gif"
awk -v entries="$entries" 'BEGIN { for (n = 1; n <= entries; n++)
    printf "{\"reference\":\"m%d\",\"profile_id\":\"a2c4393a-e219-47a4-8ab4-%012x\",\"category\":\"PROOF_OF_IDENTITY\",\"document_type\":\"PASSPORT\",\"images\":[{\"path\":\"one.gif\"}]}\n", n, n }' \
    >"$place/migration/all.tmp"
mv "$place/migration/all.tmp" "$place/migration/all.manifest.jsonl"

"$bin" --config "$place/config.toml" run 2>"$place/run.log" &
daemon=$!

jobs_of_migration() { ours status --json 2>/dev/null | tr -d ' \n' | grep -o '"drop":"migration"[^}]*}' | head -1 || true; }

ten() {
    local name=$1 from
    {
        printf '{"version":1,"documents":['
        for n in $(seq 0 9); do
            cp "$place/migration/one.gif" "$place/partner/$name-$n.gif"
            # So that no two are the same.
            printf '%s' "$name-$n" >>"$place/partner/$name-$n.gif"
            printf '%s{"reference":"%s-%d","profile_id":"b2c4393a-e219-47a4-8ab4-%06x%06x","category":"PROOF_OF_IDENTITY","document_type":"PASSPORT","images":[{"path":"%s-%d.gif"}]}' \
                "$([ "$n" = 0 ] || echo ,)" "$name" "$n" "$(printf '%d' "0x$(printf '%s' "$name" | md5sum | cut -c1-5)")" "$n" "$name" "$n"
        done
        printf ']}'
    } >"$place/partner/$name.tmp"
    from=$(date +%s%N)
    mv "$place/partner/$name.tmp" "$place/partner/$name.manifest.json"
    until [ -e "$place/partner/receipts/$name.manifest.json.receipt.json" ]; do
        kill -0 "$daemon" || { tail "$place/run.log" >&2; exit 1; }
        sleep 0.02
    done
    grep -q '"created":10' <(tr -d ' \n' <"$place/partner/receipts/$name.manifest.json.receipt.json")
    awk -v from="$from" -v to="$(date +%s%N)" -v what="$2" 'BEGIN { printf "ten documents %-34s %.2f s\n", what ":", (to - from) / 1e9 }'
}

until [ -e "$place/queue.db" ]; do kill -0 "$daemon"; sleep 0.05; done
sleep 3
for time in $(seq "$times"); do ten "taken-$time" "while it is taken in"; done
jobs_of_migration
until grep -q "taken in drop=\"migration\"" "$place/run.log"; do kill -0 "$daemon"; sleep 1; done
for time in $(seq "$times"); do ten "sent-$time" "while it is sent"; sleep 1; done
jobs_of_migration
grep -E 'VmHWM|VmRSS' "/proc/$daemon/status"
