# Recipes for https://just.systems; each is one or two commands that also work by hand.

# List the recipes.
default:
    @just --list

# The quick round before each commit: format, lints, unit tests, layers.
check:
    scripts/check.sh

# Everything that must pass before a change lands; installs what it needs.
ci:
    .ci/run

# The integration tests whose path contains WORD: `just it drops::`.
it WORD='':
    cargo test --locked --test it -- {{WORD}}

# Review changed snapshots of help texts and `status`.
snapshots:
    INSTA_UPDATE=always cargo test --locked --test it -- snapshots::
    git diff --stat -- '*.snap'

# The program on made-up data, without configuration or network.
demo:
    cargo run --locked --release -- demo

# The long proofs, recorded in proofs/: hours, most of them waiting.
prove *ARGS:
    scripts/prove.sh {{ARGS}}

# Whole-process figures beside a bare client.
bench *ARGS:
    cargo bench --locked --bench throughput -- {{ARGS}}
