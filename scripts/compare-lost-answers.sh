#!/usr/bin/env bash
# Compares how long two programs take for the same documents while answers are lost, in alternating pairs of imports.
#
#   scripts/compare-lost-answers.sh PROGRAM OTHER [DOCUMENTS] [PAIRS] [LOST]      default: 10000 documents, 5 pairs, p=0.2
#
# PROGRAM also serves the API. Both wait for a lost answer what their rules ask for, about a second here. Prints wall and
# CPU seconds of each import, and the medians of the ratios (PROGRAM ÷ OTHER).
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -ge 2 ] || { sed -n 2,7p "$0" >&2; exit 2; }
ours=$(realpath "$1") theirs=$(realpath "$2")
documents=${3:-10000} pairs=${4:-5} lost=${5:-0.2}
mkdir -p target/tmp
folder=$(mktemp -d "$PWD/target/tmp/lost-answers-XXXXXX")
trap 'rm -rf "$folder"' EXIT

awk -v documents="$documents" -v folder="$folder/in" 'BEGIN {
    for (at = 0; at < documents; at++) {
        batch = int(at / 100)
        if (at % 100 == 0) { system("mkdir -p " folder "/" batch); manifest = folder "/" batch "/batch.manifest.jsonl" }
        images = ""
        for (image = 0; image <= at % 3; image++) {
            name = at % 100 "-" image ".pdf"
            path = folder "/" batch "/" name
            printf "%%PDF-1.4\n%% document %d, image %d\n1 0 obj<<>>endobj\ntrailer<</Root 1 0 R>>\n%%%%EOF\n", at, image >path
            close(path)
            images = images (image ? "," : "") "{\"path\":\"" name "\"}"
        }
        printf "{\"profile_id\":\"a2c4393a-e219-47a4-8ab4-%012x\",\"reference\":\"document-%d\",", int(at / 8), at >manifest
        printf "\"category\":\"PROOF_OF_IDENTITY\",\"document_type\":\"PASSPORT\",\"images\":[%s]}\n", images >manifest
    }
}'

# import FOLDER PROGRAM: prints the wall and CPU seconds.
import() {
    local program=$2 work=$folder/$1
    rm -rf "$work" && mkdir "$work"
    "$ours" sandbox --seed 7 --fault "upload_image=lost,p=$lost" --fault "create_document=lost,p=$lost" \
        >"$work/api.txt" 2>&1 &
    local pid=$! url=
    until url=$(grep -ohE 'http://127[0-9.:]+/[0-9.]+' "$work/api.txt" 2>/dev/null | head -n 1) && [ -n "$url" ]; do sleep 0.05; done
    local config=$work/config.toml
    printf "[api]\nbase_url = '%s'\nrequest_lives = '700ms'\nlist_lag = '300ms'\n" "$url" >"$config"
    printf "[queue]\ndatabase = '%s'\n[retry]\ninitial = '20ms'\nmax = '1s'\n" "$work/queue.db" >>"$config"
    # Before there were bounds for both.
    "$program" --config "$config" config show >"$work/out.txt" 2>&1 ||
        { sed -i '/^request_lives\|^list_lag/d' "$config"; echo "absent_after = '1s'" >>"$config"; }
    local TIMEFORMAT='%R %U %S'
    { time PASSFORT_API_KEY=test "$program" --config "$config" -q import "$folder/in" \
        --receipts-to "$work/receipts" >"$work/out.txt" 2>&1; } 2>"$work/time.txt" || { tail "$work/out.txt" >&2; exit 1; }
    kill "$pid"; wait "$pid" 2>/dev/null || true
    awk '{ print $1, $2 + $3 }' "$work/time.txt"
}

for pair in $(seq "$pairs"); do
    if ((pair % 2)); then
        a=$(import ours "$ours"); b=$(import theirs "$theirs")
    else
        b=$(import theirs "$theirs"); a=$(import ours "$ours")
    fi
    echo "$a $b" | tee -a "$folder/pairs.txt" |
        awk '{ printf "wall %.1f s and %.1f s: %.3f; CPU %.1f s and %.1f s: %.3f\n", $1, $3, $1 / $3, $2, $4, $2 / $4 }'
done
for figure in 1 2; do
    awk -v at="$figure" '{ print $at / $(at + 2) }' "$folder/pairs.txt" | sort -n |
        awk -v what="$([ "$figure" = 1 ] && echo wall || echo CPU)" '{ value[NR] = $1 }
            END { printf "median of the ratios, %s: %.3f\n", what, (value[int((NR + 1) / 2)] + value[int((NR + 2) / 2)]) / 2 }'
done
