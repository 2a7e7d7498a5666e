#!/usr/bin/env bash
# Runs the scripts that a user would write beside the worker, on the same files and against the same loopback server,
# and prints the ratios. Nothing leaves this machine, and everything written is removed.
#
# usage: scripts/compare-baselines.sh BASELINES_FOLDER [--rounds N] [--quick]
#
# BASELINES_FOLDER holds upload_threads.py and upload_loop.sh. A script whose needs are missing (python3 with requests;
# jq and curl) is left out, and the output says so.
set -euo pipefail

if [[ $# -lt 1 || ! -d $1 ]]; then
  echo "usage: ${0##*/} BASELINES_FOLDER [--rounds N] [--quick]" >&2
  exit 2
fi
# Cargo runs benchmarks in the package's folder, so a relative path would lead elsewhere.
folder=$(cd -- "$1" && pwd)
shift
exec cargo bench --manifest-path "$(dirname -- "${BASH_SOURCE[0]}")/../Cargo.toml" --bench throughput -- \
  baselines "$folder" "$@"
