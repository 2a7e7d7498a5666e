#!/usr/bin/env bash
# What `check` of a long list with as many small files costs: wall and processor time, and memory at most.
# Usage: scripts/measure-check.sh [ROWS] [FOLDER] [check's options…]
# $BIN is the program, otherwise the release build; the files are made in FOLDER (about 4 GB for a million), else in a
# temporary one. With WARM=no the caches of the system are dropped before, which only root may.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/archive.sh
bin=$(realpath "${BIN:-target/release/passfort-ingest}")
rows=${1:-1000000}
place=$(mktemp -d -p "${2:-${TMPDIR:-/tmp}}")
shift $(($# > 2 ? 2 : $#))
trap 'rm -rf "$place"' EXIT

make_archive "$place" "$rows" 0 0
if [ "${WARM:-yes}" = no ]; then sync; echo 3 >/proc/sys/vm/drop_caches; fi
python3 - "$bin" -q check "$place" "$@" <<'END'
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
took, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(f'exit {code}: {took:.1f} s, {used.ru_utime:.1f} s user, {used.ru_stime:.1f} s system, {used.ru_maxrss / 1024:.0f} MiB at most')
END
