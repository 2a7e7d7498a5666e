#!/usr/bin/env bash
# Compares how long a manifest takes to settle, from its last job's end until its files are put away, where its entries
# share a hundred images and where each has its own. Usage: scripts/measure-settling.sh [ENTRIES] [ROUNDS]
# $BIN is the program, otherwise the release build. Prints each round's times and their ratio.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
entries=${1:-100000}
rounds=${2:-3}
place=$(mktemp -d)
trap 'kill "${sandbox:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT

settle() { # IMAGES: the seconds that settling took
    local images=$1 folder=$place/world
    rm -rf "$folder"
    mkdir -p "$folder/drop/scans"
    start_sandbox "$bin" "$place/sandbox.log"
    cat >"$folder/config.toml" <<END
[api]
base_url = "$url"
[queue]
database = "$folder/queue.db"
[[drop]]
name = "many"
path = "$folder/drop"
settle = "0s"
END
    python3 - "$folder/drop" "$entries" "$images" <<'END'
import json, sys
drop, entries, images = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for image in range(images):
    with open(f"{drop}/scans/{image}.gif", "wb") as file:
        file.write(b"GIF89a\1\0\1\0\x80\0\0" + image.to_bytes(3, "big") + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;")
with open(f"{drop}/.draft", "w") as file:
    for entry in range(entries):
        file.write(json.dumps({"profile_id": f"a2c4393a-e219-47a4-8ab4-{entry:012x}", "reference": str(entry), "category": "PROOF_OF_IDENTITY",
                               "document_type": "PASSPORT", "images": [{"path": f"scans/{entry % images}.gif"}]}) + "\n")
END
    mv "$folder/drop/.draft" "$folder/drop/all.manifest.jsonl"
    "$bin" --config "$folder/config.toml" -q run --once 2>"$place/run.log" || { tail -5 "$place/run.log" >&2; return 1; }
    python3 - "$folder/queue.db" "$(find "$folder/drop/done" -name all.manifest.jsonl)" <<'END'
import os, sqlite3, sys
(finished,) = sqlite3.connect(sys.argv[1]).execute("SELECT finished_at FROM batch").fetchone()
print(f"{os.stat(sys.argv[2]).st_ctime - finished / 1000:.2f}")
END
    kill "$sandbox"; wait "$sandbox" 2>/dev/null || true
}

for round in $(seq "$rounds"); do
    shared=$(settle 100)
    own=$(settle "$entries")
    awk -v round="$round" -v shared="$shared" -v own="$own" \
        'BEGIN { printf "round %d: shared %.2f s, own %.2f s, ratio %.2f\n", round, shared, own, shared / own }'
done
