#!/usr/bin/env bash
# Builds the .deb and the .rpm from the tree, into target/package.
# Usage: scripts/package.sh [--no-build] [--only deb|rpm] [--version VERSION]
# --no-build packages target/release instead of building the `dist` profile; --version is for trying an upgrade.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dist only= version=
while [ $# -gt 0 ]; do
    case $1 in
        --no-build) profile=release ;;
        --only) only=$2; shift ;;
        --version) version=$2; shift ;;
        *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
    shift
done
# Their own profiles ask for more of the compiler than two packages are worth.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
[ "$only" = rpm ] || command -v cargo-deb >/dev/null || cargo install --locked cargo-deb
[ "$only" = deb ] || command -v cargo-generate-rpm >/dev/null || cargo install --locked cargo-generate-rpm
unset CARGO_PROFILE_RELEASE_LTO CARGO_PROFILE_RELEASE_CODEGEN_UNITS
[ "$profile" = release ] || cargo build --locked --profile "$profile"
bin=target/$profile/passfort-ingest
made=target/package

rm -rf "$made"/{completions,deb,rpm,man}
mkdir -p "$made"/{completions,deb,rpm,man}
"$bin" completions bash >"$made/completions/passfort-ingest"
"$bin" completions zsh >"$made/completions/_passfort-ingest"
"$bin" completions fish >"$made/completions/passfort-ingest.fish"
"$bin" man --dir "$made/man"
# Both kinds of package make user and folder by the same lines.
sed -e '/#POST-INSTALL#/{' -e 'r packaging/post-install' -e 'd' -e '}' packaging/deb/postinst >"$made/deb/postinst"
cp packaging/deb/prerm packaging/deb/postrm "$made/deb/"
{ printf 'upgrade=no\n[ "$1" -lt 2 ] || upgrade=yes\n'; cat packaging/post-install; } >"$made/rpm/post"
cp packaging/rpm/preun packaging/rpm/postun "$made/rpm/"

# shellcheck disable=SC2086 # Nothing where there is no version.
[ "$only" = rpm ] || cargo deb --quiet --no-build --no-strip --no-dbgsym --profile "$profile" ${version:+--deb-version $version} -o "$made/"
[ "$only" = deb ] || cargo generate-rpm --profile "$profile" ${version:+--set-metadata "version = \"$version\""} -o "$made/"
