#!/usr/bin/env bash
# The page of the real daemon in a real browser: each state at 360 and 1600 pixels, light and dark, without a fault that axe
# finds, nothing that scrolls sideways, nothing from elsewhere, by keyboard. Makes the picture of the README where it is asked
# to. Usage: scripts/check-page.sh [PICTURE]; $BIN is the program, otherwise the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/sandbox.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
port=${PORT:-9489}
picture=${1:+$(realpath -m "$1")}
place=$(mktemp -d)
# The driver's browser is known by its profile, which is in this folder.
trap 'kill -KILL "${daemon:-}" "${sandbox:-}" "${browser:-}" 2>/dev/null || true; pkill -KILL -f -- "=$place/" || true; wait 2>/dev/null || true; rm -rf "$place" || true' EXIT

command -v chromium >/dev/null && /usr/bin/python3 -c 'import websocket' 2>/dev/null ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium python3-websocket fonts-dejavu-core; }
command -v npm >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends npm; }
(cd "$place" && npm pack --silent axe-core@4 >/dev/null && tar xzf axe-core-*.tgz package/axe.min.js)

profile() { printf 'a2c4393a-e219-47a4-8ab4-%012x' "$1"; }
mkdir -p "$place/drop"
start_sandbox "$bin" "$place/sandbox.log" --fault "create_document=errors200:201,profile=$(profile 9)" --fault upload_file=lost,nth=1
cat >"$place/config.toml" <<END
[api]
base_url = "$url"
[queue]
database = "$place/queue.db"
[retry]
lost_file = "hold"
[http]
listen = "127.0.0.1:$port"
[[drop]]
name = "partner-a"
path = "$place/drop"
settle = "0s"
END
ingest() { "$bin" --config "$place/config.toml" "$@"; }

# A manifest of documents of one little picture each: its name, then the number of each profile.
documents() {
    local name=$1 entries="" number
    shift
    for number in "$@"; do
        printf 'GIF89a\1\0\1\0\200\0\0\377\377\377\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;%s' "$name-$number" >"$place/drop/$name-$number.gif"
        entries+=$(printf ',{"reference":"customer-%s/%s","profile_id":"%s","category":"PROOF_OF_IDENTITY","document_type":"PASSPORT","images":[{"path":"%s"}]}' \
            "$number" "$name" "$(profile "$number")" "$name-$number.gif")
    done
    printf '{"version":1,"documents":[%s]}' "${entries#,}" >"$place/drop/$name.manifest.json"
}
until_jobs() { # as many in a state
    until [ "$(ingest jobs --state "$1" --csv --limit 0 2>/dev/null | tail -n +2 | wc -l)" -ge "$2" ]; do
        kill -0 "$daemon"
        sleep 0.2
    done
}

ingest -q run 2>"$place/run.log" &
daemon=$!
coproc checks { exec /usr/bin/python3 scripts/check_page.py "$(command -v chromium)" "$place/package/axe.min.js" "$place"; }
browser=$checks_PID
exec {said}<&"${checks[0]}" {ask}>&"${checks[1]}"
step() {
    local line
    printf '%s\n' "$1" >&"$ask"
    while read -r line <&"$said"; do
        [ "$line" = next ] && return
        echo "$line"
    done
    echo "the browser has ended" >&2
    return 1
}
state() { # name, path, headline
    step "{\"do\":\"check\",\"name\":\"$1\",\"address\":\"http://127.0.0.1:$port\",\"path\":\"$2\",\"headline\":\"$3\"${4:+,\"picture\":\"$4\"}}"
}

until curl -sf "http://127.0.0.1:$port/readyz" >/dev/null; do kill -0 "$daemon"; sleep 0.2; done
state empty / "All is well"
documents first 1 2 3
until_jobs done 3
state well / "All is well"
state "a job" "/#job/1" customer-1/first
state "a manifest" "/#manifest/1" first.manifest.json
state "a search" "/#search/customer-" found
step "{\"do\":\"keyboard\",\"address\":\"http://127.0.0.1:$port\",\"wanted\":\"customer-2\"}"
documents refused 9
until_jobs failed 1
state failures / "1 entry failed"
state "a failed job" "/#job/4" customer-9/refused
printf '%%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%%%EOF\n' >"$place/drop/form.pdf"
printf '{"version":1,"files":[{"reference":"form","profile_id":"%s","path":"form.pdf"}]}' "$(profile 7)" >"$place/drop/form.manifest.json"
until_jobs held 1
state held / "1 job is held"
ingest seen 1 >/dev/null
ingest release 5 --send-again >/dev/null
until_jobs done 4
ingest pause >/dev/null
documents later 1 2 3 4 5
until_jobs queued 5
state paused / "Everything is paused" ${picture:+"$picture"}
ingest resume >/dev/null
until_jobs done 9
mv "$place/drop/done" "$place/drop/done.away" && echo "in the way" >"$place/drop/done"
documents ground 1
state "bad ground" / "Nothing of drop partner-a is taken in"
kill "$daemon"; wait "$daemon" || true
echo "the page is well"
