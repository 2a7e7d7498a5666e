#!/usr/bin/env bash
# What `check` of a long list with as many small files costs: wall and processor time, and memory at most.
# Usage: scripts/measure-check.sh [ROWS] [FOLDER] [check's options…]
# $BIN is the program, otherwise the release build; the files are made in FOLDER (about 4 GB for a million), else in a
# temporary one. With WARM=no the caches of the system are dropped before, which only root may.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
rows=${1:-1000000}
place=$(mktemp -d -p "${2:-${TMPDIR:-/tmp}}")
shift $(($# > 2 ? 2 : $#))
trap 'rm -rf "$place"' EXIT

# Each picture differs, each row is a document of its own, and ten rows are of one profile.
python3 - "$rows" "$place" <<'END'
import os, sys
rows, place = int(sys.argv[1]), sys.argv[2]
head = b'GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xfe\x08'
tail = b'\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;'
with open(f'{place}/list.manifest.csv', 'w') as list:
    list.write('profile_id,reference,category,document_type,path\n')
    for row in range(rows):
        if row % 1000 == 0:
            os.mkdir(f'{place}/{row // 1000}')
        path = f'{row // 1000}/{row}.gif'
        file = os.open(f'{place}/{path}', os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(file, head + b'%08d' % row + tail)
        os.close(file)
        list.write(f'a2c4393a-e219-47a4-8ab4-{row // 10:012x},K-{row},PROOF_OF_IDENTITY,PASSPORT,{path}\n')
END
if [ "${WARM:-yes}" = no ]; then sync; echo 3 >/proc/sys/vm/drop_caches; fi
python3 - "$bin" -q check "$place" "$@" <<'END'
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
took, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(f'exit {code}: {took:.1f} s, {used.ru_utime:.1f} s user, {used.ru_stime:.1f} s system, {used.ru_maxrss / 1024:.0f} MiB at most')
END
