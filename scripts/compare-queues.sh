#!/usr/bin/env bash
# Measures queue cycles of the worker beside effectum (Rust), litequeue and huey (Python) in one run, and prints the ratios.
# Builds and installs them below the target directory.
#
# usage: scripts/compare-queues.sh [--rounds N] [--quick]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
built="$PWD/target/queues"
cargo build --release --manifest-path benches/queues/Cargo.toml --target-dir "$built"
[[ -x $built/python/bin/python ]] || python3 -m venv "$built/python"
"$built/python/bin/pip" install --quiet --requirement benches/queues/requirements.txt
exec cargo bench --locked --bench throughput -- \
  p12 --effectum "$built/release/effectum-cycles" --python "$built/python/bin/python" "$@"
