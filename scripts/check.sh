#!/usr/bin/env bash
# The quick round: format, lints, unit tests, and the table of layers. Under three minutes once dependencies are built.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
cargo test --locked --lib --quiet
cargo test --locked --test it --quiet -- layers::
