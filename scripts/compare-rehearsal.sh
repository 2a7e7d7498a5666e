#!/usr/bin/env bash
# Whether each entry comes to the same in `rehearse` as in `import`: an archive with entries of all kinds, good, invalid, warned,
# doubled, missing, and refused by the API, is rehearsed, then a copy of it is imported against a sandbox with the same faults.
# Usage: scripts/compare-rehearsal.sh ENTRIES [FOLDER]
# $BIN is the program, otherwise the release build; about 6 kB are needed in FOLDER for each entry, else in a temporary one.
# Prints what differs, and a row for proofs/rehearsal.tsv.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
entries=${1:?say how many entries}
place=$(mktemp -d -p "${2:-${TMPDIR:-/tmp}}")
trap 'kill "${sandbox:-}" 2>/dev/null || true; rm -rf "$place"' EXIT

known=(PROOF_OF_IDENTITY SUPPORTING SPECIAL)
told=(--fault 'any=status-before:404/201,profile=a2c4393a-e219-47a4-8ab4-000000f00000'
  --fault 'create_document=status-before:400/102,profile=a2c4393a-e219-47a4-8ab4-000000f00001'
  --fault 'upload_image=status-before:503,p=0.01' --fault 'upload_image=lost,p=0.01' --fault 'upload_file=cut,p=0.01'
  --fault 'create_document=lost,p=0.01' --fault 'create_document=garbled,p=0.005' --fault 'read_documents=status-before:500,p=0.05')
for category in "${known[@]}"; do told+=(--category "$category"); done

# Each kind of entry in turn; a manifest of each format for 30,000 entries.
python3 - "$entries" "$place/in" <<'END'
import json, os, sys
entries, place = int(sys.argv[1]), sys.argv[2]
head = b'GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xfe\x08'
tail = b'\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;'
def put(path, content):
    os.makedirs(os.path.dirname(f'{place}/{path}'), exist_ok=True)
    with open(f'{place}/{path}', 'wb') as file:
        file.write(content)
    return path
def profile(number): return f'a2c4393a-e219-47a4-8ab4-{number:012x}'
def own(number, name='own.gif'): return put(f'{number // 1000}/{number}/{name}', head + b'%08d' % number + tail)
def entry(number):
    kind, at = number % 20, f'{number // 1000}/{number}'
    made = {'reference': f'r-{number}', 'profile_id': profile(number // 7 % 20000), 'category': 'PROOF_OF_IDENTITY',
            'document_type': 'PASSPORT', 'images': [{'path': own(number), 'image_type': 'FRONT'}]}
    image = made['images'][0]
    if kind == 1: made['images'].append({'path': own(number, 'back.gif'), 'image_type': 'BACK'})
    elif kind == 2: del made['reference']
    elif kind == 3: return {'reference': f'r-{number}', 'profile_id': made['profile_id'], 'path': image['path']}
    elif kind == 4: made = {**entry(number - 4)}
    elif kind == 5: made['reference'] = f'r-{number - 5}'
    elif kind == 6: made.update(reference=f'r-{number - 6}', replace=True)
    elif kind == 7: image['path'] = f'{at}/gone.gif'
    elif kind == 8: image['path'] = put(f'{at}/text.gif', b'no image')
    elif kind == 9: image['path'] = put(f'{at}/cut.gif', head)
    elif kind == 10: image['sha256'] = '0' * 64
    elif kind == 11: made['profile_id'] = '17'
    elif kind == 12: image['path'] = '../own.gif'
    elif kind == 13: made['category'] = 'SPECIAL'
    elif kind == 14: made['category'] = 'PROOF_OF_ADDRESS'
    elif kind == 15: made['profile_id'] = profile(0xf00000)
    elif kind == 16: made['profile_id'] = profile(0xf00001)
    elif kind == 17: made['reference'] = f'r-{number - 2}'
    elif kind == 18: image['path'] = put(f'{at}/shared.gif', head + b'%08d' % (99999999 - number // 10000) + tail)
    elif kind == 19: image['path'] = f'{at}/OWN.gif'
    return made
for part, first in enumerate(range(0, entries, 30000)):
    made = [entry(number) for number in range(first, min(first + 30000, entries))]
    documents, files = ([one for one in made if ('images' in one) == wanted] for wanted in (True, False))
    if part % 3 == 0:
        put(f'{part}.manifest.json', json.dumps({'version': 1, 'documents': documents, 'files': files}).encode())
    elif part % 3 == 1:
        put(f'{part}.manifest.jsonl', '\n'.join(map(json.dumps, made)).encode())
    else:
        columns = ['profile_id', 'reference', 'category', 'document_type', 'path', 'image_type', 'sha256']
        rows = [','.join(columns)]
        for one in made:
            for image in one.get('images') or [one]:
                rows.append(','.join({**one, **image}.get(name, '') or '' for name in columns))
        put(f'{part}.manifest.csv', '\n'.join(rows).encode())
END
cp -a "$place/in" "$place/copy"
cat >"$place/config.toml" <<END
[api]
base_url = "http://127.0.0.1:1/4.0"
request_lives = "2s"
list_lag = "1s"
[queue]
database = "$place/queue.db"
END
export PASSFORT_API_KEY=test
run() { "$bin" -q --config "$place/config.toml" "$@" 2>"$place/log" || [ $? = 1 ] || { tail "$place/log" >&2 && false; }; }
began=$SECONDS
run rehearse "$place/in" --scratch "$place" --json "${told[@]}" >"$place/rehearsed.jsonl"
rehearsed=$((SECONDS - began))
"$bin" -q sandbox "${told[@]}" >"$place/sandbox.out" 2>/dev/null &
sandbox=$!
until grep -q 'listening on' "$place/sandbox.out"; do kill -0 $sandbox && sleep 0.1; done
url=$(sed -n 's/.*listening on \([^ ]*\) .*/\1/p' "$place/sandbox.out")
began=$SECONDS
PASSFORT_INGEST__API__BASE_URL=$url run import "$place/copy" --receipts-to "$place/said"
imported=$((SECONDS - began))

python3 - "$place" "$rehearsed" "$imported" "$(git rev-parse --short HEAD)" <<'END'
import collections, datetime, glob, json, os, re, sys
place, rehearsed_s, imported_s, commit = sys.argv[1:]
def verdict(entry):
    """What an entry comes to, without IDs, numbers of jobs, and which of several equal entries heard the refusal itself."""
    errors = []
    for error in entry.get('errors', []):
        refusal = error['reason'].rpartition('the API refused it')
        errors.append(refusal[1:] if refusal[1] else [error.get('field'), re.sub(r'job \d+', 'job', error['reason'])])
    warnings = [[one['kind'], one.get('field'), one['reason']] for one in entry.get('warnings', [])]
    return json.dumps([entry['status'], errors, warnings])
def key(path, entry): return os.path.basename(path), entry.get('index', -1)
def here(text): return text.replace(f'{place}/in/', '').replace(f'{place}/copy/', '')
said, came, kinds = {}, {}, collections.Counter()
for line in open(f'{place}/rehearsed.jsonl'):
    entry = json.loads(here(line))
    said[key(entry['manifest'], entry)] = verdict(entry)
for path in glob.glob(f'{place}/said/**/*.receipt.json*', recursive=True):
    text = here(open(path).read())
    if path.endswith('.jsonl'):
        header, *entries = map(json.loads, text.splitlines())
    else:
        header = json.loads(text)
        entries = header['entries']
    for entry in entries:
        came[key(header['manifest'], entry)] = verdict(entry)
        kinds[entry['status']] += 1
        kinds['warned'] += 'warnings' in entry
different = [at for at in said.keys() | came.keys() if said.get(at) != came.get(at)]
for at in sorted(different)[:20]:
    print(at, said.get(at), came.get(at), sep='\n  ', file=sys.stderr)
counts = [kinds[kind] for kind in ('created', 'duplicate', 'failed', 'invalid', 'warned')]
print(commit, datetime.date.today(), len(came), *counts, len(different), rehearsed_s, imported_s, sep='\t')
sys.exit(1 if different or not came else 0)
END
