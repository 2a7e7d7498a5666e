#!/usr/bin/env bash
# What a drop with very many files costs a daemon that has nothing to do: the time of the first and of a later full
# reading, processor time while idle, and memory. Usage: scripts/measure-drop.sh [FILES] [KEPT_MANIFESTS] [SECONDS]
# $BIN is the program, otherwise the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
files=${1:-100000}
manifests=${2:-1000}
seconds=${3:-30}
place=$(mktemp -d)
trap 'kill "${daemon:-}" "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

mkdir -p "$place/drop/scans"
start_sandbox "$bin" "$place/sandbox.log"
cat >"$place/config.toml" <<END
[api]
base_url = "$url"
[queue]
database = "$place/queue.db"
[http]
listen = "127.0.0.1:${PORT:-9487}"
[[drop]]
name = "many"
path = "$place/drop"
after_success = "keep"
rescan_every = "10s"
END

# One little picture under many names; each kept manifest names one of them.
printf 'GIF89a\1\0\1\0\200\0\0\377\377\377\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;' >"$place/one.gif"
for folder in $(seq 0 99); do
    mkdir "$place/drop/scans/$folder"
    (cd "$place/drop/scans/$folder" && seq -f '%g.gif' 1 $((files / 100)) >"$place/names" &&
        xargs -a "$place/names" -n 500 sh -c 'tee -- "$@" <"$0" >/dev/null' "$place/one.gif")
done
for number in $(seq 1 "$manifests"); do
    printf '{"version":1,"documents":[{"reference":"%s","profile_id":"a2c4393a-e219-47a4-8ab4-%012x","category":"PROOF_OF_IDENTITY","document_type":"PASSPORT","images":[{"path":"scans/%s/%s.gif"}]}]}' \
        "$number" "$number" $((number % 100)) $((number / 100 + 1)) >"$place/drop/$number.manifest.json"
done

start() {
    "$bin" --config "$place/config.toml" -q run 2>"$place/run.log" &
    daemon=$!
}
metric() { curl -s "http://127.0.0.1:${PORT:-9487}/metrics" | awk -v name="passfort_ingest_$1" '$1 == name { print $2 }'; }
ticks() { awk '{ print $14 + $15 }' "/proc/$daemon/stat"; }

start
until [ "$("$bin" --config "$place/config.toml" jobs --state done --csv --limit 1000000 2>/dev/null | wc -l)" -gt "$manifests" ]; do
    kill -0 "$daemon"
    sleep 1
done
kill "$daemon"; wait "$daemon" || true
start
until [[ "$(metric scan_seconds)" =~ [1-9] ]]; do kill -0 "$daemon"; sleep 0.2; done
echo "files: $files, kept manifests: $manifests"
echo "first reading after a start: $(metric scan_seconds) s"
sleep 12
echo "a later full reading:        $(metric scan_seconds) s, every 10 s"
before=$(ticks)
sleep "$seconds"
after=$(ticks)
awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v seconds="$seconds" \
    'BEGIN { printf "processor while idle:        %.2f %% of one core, readings included\n", 100 * ticks / hz / seconds }'
grep -E 'VmHWM|VmRSS' "/proc/$daemon/status"
