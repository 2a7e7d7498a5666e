#!/usr/bin/env bash
# The quick round: format, lints, unit tests, layers, and the names of types. Under three minutes once dependencies are built.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
cargo test --locked --lib --quiet
cargo test --locked --test it --quiet -- layers:: names::
