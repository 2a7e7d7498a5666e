#!/usr/bin/env bash
# Installs, configures, upgrades, removes and purges the packages in a Debian that is booted for it, and works with them there.
# Usage: scripts/check-packages.sh
# Packages target/release, which must be built. Needs root. $PACKAGES_CACHE is a folder in which the Debian is kept for the
# next time; without it, it is made anew.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$PWD

if [ "${INSIDE:-}" != yes ]; then
    [ "$(id -u)" = 0 ] || { echo "needs root, to boot a Debian" >&2; exit 1; }
    command -v debootstrap >/dev/null && command -v systemd-nspawn >/dev/null && command -v rpm >/dev/null ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap systemd-container rpm; }
    # What is mounted for the container is seen by nobody else, and goes with this process.
    INSIDE=yes exec unshare --mount --propagation private "$0"
fi

place=$(mktemp -d /var/tmp/passfort-ingest-packages.XXXXXX)
base=${PACKAGES_CACHE:-$place}/debian
root=$place/root
group=/sys/fs/cgroup/${place##*/}
nspawn='' leader=''

inside() { nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup --wdns=/ env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

# The container's processes are in a group of their own, so nothing of them is left, and nothing else is ended.
down() {
    [ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || true
    [ -z "$nspawn" ] || wait "$nspawn" 2>/dev/null || true
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    rm -rf "$place"
}
trap down EXIT

failed() {
    trap - ERR
    echo "FAILED: $1" >&2
    [ -z "$leader" ] || inside journalctl --no-pager -q -n 60 -o short-precise >&2 || true
    exit 1
}
trap 'failed "line $LINENO: $BASH_COMMAND"' ERR

did() { printf 'ok  %s\n' "$1"; }

# until_true WHAT COMMAND...: waits for it, at most a minute.
until_true() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || failed "within a minute: $what"
        sleep 0.2
    done
}

# says TEXT COMMAND...: its output has the text.
says() {
    local text=$1 said
    shift
    said=$("$@" 2>&1) || true
    grep -qF -- "$text" <<<"$said" || failed "\"$text\" is not in what $* says: $said"
}

# ends CODE COMMAND...
ends() {
    local wanted=$1 code=0
    shift
    "$@" >"$place/said" 2>&1 || code=$?
    [ "$code" = "$wanted" ] || failed "$* ends with $code, not $wanted: $(cat "$place/said")"
}

property() { inside systemctl show --property "$2" --value "$1"; }
is() { [ "$(property "$1" "$2")" = "$3" ]; }

boot() {
    if [ ! -d "$base" ]; then
        mkdir -p "${base%/*}"
        debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,ca-certificates,tzdata,curl,rpm,man-db \
            bookworm "$base.new" >"$place/debootstrap.log" 2>&1 || { tail -n 20 "$place/debootstrap.log" >&2; exit 1; }
        mv "$base.new" "$base"
    fi
    cp -a --reflink=auto "$base" "$root"
    mkdir "$root/packages"
    # systemd wants the newer kind of control groups; where the machine has the older one, both are there.
    if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
        umount -R /sys/fs/cgroup 2>/dev/null || true
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
    mount -t tmpfs tmpfs /run/systemd/nspawn 2>/dev/null || { mkdir -p /run/systemd/nspawn; mount -t tmpfs tmpfs /run/systemd/nspawn; }
    mkdir "$group"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn --quiet --directory="$root" --machine="${place##*.}" \
            --register=no --keep-unit --private-network --boot --console=pipe </dev/null >"$place/console.log" 2>&1
    ) &
    nspawn=$!
    until_true "the container has a first process" pgrep --parent "$nspawn"
    leader=$(pgrep --parent "$nspawn")
    until_true "the container is up" inside systemctl is-system-running
}

key=k3y-that-nobody-may-print
unit=passfort-ingest.service
nightly=passfort-ingest-nightly.service
drop=/srv/scans
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

scripts/package.sh --no-build >/dev/null
mkdir -p "$place/packages"
mv "target/package/passfort-ingest_$version-1_amd64.deb" "$place/packages/first.deb"
mv "target/package/passfort-ingest-$version-1.x86_64.rpm" "$place/packages/first.rpm"
scripts/package.sh --no-build --only deb --version "$version+next" >/dev/null
mv target/package/passfort-ingest_*next*.deb "$place/packages/second.deb"
did "packages are built"

boot
cp "$place"/packages/* "$root/packages/"
did "a Debian is booted"

# --- install

inside dpkg -i /packages/first.deb >"$place/said" 2>&1
for text in "configuration" "/etc/passfort-ingest/config.toml is read" "no [[drop]] is configured" "sudo passfort-ingest-setup"; do
    says "$text" cat "$place/said"
done
says /etc/passfort-ingest/config.toml inside dpkg-query -W -f '${Conffiles}' passfort-ingest
[ "$(inside stat -c '%U:%G %a' /var/lib/passfort-ingest)" = "passfort-ingest:passfort-ingest 750" ]
[ "$(inside stat -c '%U:%G %a' /etc/passfort-ingest)" = "root:root 755" ]
is "$unit" ActiveState inactive
is "$unit" UnitFileState disabled
inside man -w passfort-ingest passfort-ingest-doctor >/dev/null
inside bash -n /usr/share/bash-completion/completions/passfort-ingest
inside test -s /usr/share/zsh/vendor-completions/_passfort-ingest -a -s /usr/share/fish/vendor_completions.d/passfort-ingest.fish
did "install: user, folders, conffile, manual, completions; doctor says what is missing; nothing is started"

# --- configure

inside systemd-run --quiet --unit=sandbox --description=sandbox -p StandardOutput=null -p StandardError=null passfort-ingest sandbox --listen 127.0.0.1:8080 --key "$key"
inside mkdir -p /srv/archive /media/stick
printf '%s' "$key" >"$root/media/stick/api-key"
chmod 600 "$root/media/stick/api-key"

# picture FILE WORD: a small GIF that has the word in it.
picture() {
    printf 'GIF89a\1\0\1\0\200\0\0\377\377\377\0\0\0!\376\20%16.16s\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;' "$2" >"$1"
}
# manifest NAME ENTRIES: entries of a drop, as a sender would put them there.
manifest() {
    local to=$root$drop/$1.manifest.csv entry
    echo profile_id,reference,category,document_type,path >"$to.tmp"
    for entry in $(seq "$2"); do
        picture "$root$drop/$1-$entry.gif" "$1-$entry"
        printf 'a2c4393a-e219-47a4-8ab4-%012x,%s,PROOF_OF_IDENTITY,PASSPORT,%s.gif\n' "$entry" "$1-$entry" "$1-$entry" >>"$to.tmp"
    done
    mv "$to.tmp" "$to"
}
receipt() { echo "$root$drop/receipts/$1.manifest.csv.receipt.json"; }
settled() { until_true "the receipt of $1" test -e "$(receipt "$1")"; }
created() {
    settled "$1"
    grep -q "\"created\": *$2\b" "$(receipt "$1")" || failed "$1: $(cat "$(receipt "$1")")"
}

ends 2 inside sh -c 'passfort-ingest-setup </dev/null'
says "there is no key yet" cat "$place/said"
printf '%s\n' /media/stick/api-key http://127.0.0.1:8080/4.0 "scans=$drop" | inside passfort-ingest-setup >"$place/said" 2>&1
says "nothing would stop the work" cat "$place/said"
! grep -q "$key" "$place/said" || failed "the key is printed"
[ "$(inside stat -c '%U:%G %a' /etc/passfort-ingest/api-key)" = "root:root 600" ]
says "ReadWritePaths=-$drop" inside systemctl cat "$unit"
did "three questions: key, address, drop; doctor finds nothing that would stop the work"

# --- a root import before the first start

picture "$root/srv/archive/a.gif" import
printf 'profile_id,reference,category,document_type,path\na2c4393a-e219-47a4-8ab4-00000000ffff,import,PROOF_OF_IDENTITY,PASSPORT,a.gif\n' \
    >"$root/srv/archive/a.manifest.csv"
import() { inside PASSFORT_API_KEY="$key" passfort-ingest import /srv/archive --receipts-to /srv/receipts; }
ends 2 import
says "sudo -u passfort-ingest" cat "$place/said"
[ -z "$(ls -A "$root/var/lib/passfort-ingest")" ]
# Without the folder, as before the package makes it, root makes it; the service's start then takes it over.
rmdir "$root/var/lib/passfort-ingest"
ends 0 import
inside systemctl enable --quiet --now "$unit"
is "$unit" ActiveState active
[ "$(inside stat -c '%U:%G %a' /var/lib/passfort-ingest/queue.db)" = "passfort-ingest:passfort-ingest 640" ]
did "a root import is refused where it would lock the service out, and does not lock it out where it is not"

# --- work

manifest first 3
created first 3
[ "$(inside stat -c %U "$drop/receipts")" = passfort-ingest ]
did "a manifest becomes documents and a receipt"

# --- reload

config=$root/etc/passfort-ingest/config.toml
pid=$(property "$unit" MainPID)
printf '\n[http]\nlisten = "127.0.0.1:9480"\n' >>"$config"
inside systemctl reload "$unit"
until_true "the page is served" inside curl -fsS http://127.0.0.1:9480/readyz
cp "$config" "$place/good.toml"
echo 'nonsense = 1' >>"$config"
inside systemctl reload "$unit"
errors() { inside journalctl --unit "$1" --priority err --no-pager --quiet --output cat; }
refused() { errors "$unit" | grep -q "the new configuration is refused"; }
until_true "the bad configuration is refused in the journal, as an error" refused
says "nonsense" errors "$unit"
stays() { property "$unit" StatusText | grep -q "the new configuration is refused"; }
until_true "systemctl status says so" stays
inside curl -fsS http://127.0.0.1:9480/readyz >/dev/null
cp "$place/good.toml" "$config"
inside systemctl reload "$unit"
taken() { ! stays; }
until_true "the good one is taken" taken
is "$unit" MainPID "$pid"
did "reload: a good configuration is taken, a bad one is an error in the journal and changes nothing"

# --- the watchdog

override() {
    mkdir -p "$root/etc/systemd/system/$1.d"
    cat >"$root/etc/systemd/system/$1.d/test.conf"
    inside systemctl daemon-reload
}
override "$unit" <<'END'
[Service]
WatchdogSec=12s
RestartSec=1s
END
inside systemctl restart "$unit"
pid=$(property "$unit" MainPID)
inside kill -STOP "$pid"
another() { ! is "$unit" MainPID "$pid" && is "$unit" ActiveState active; }
until_true "the watchdog has the stopped daemon started again" another
says "Watchdog timeout" inside journalctl --unit "$unit" --no-pager --quiet --output cat
manifest after-watchdog 2
created after-watchdog 2
did "a daemon that hangs is started again by the watchdog, and continues"

# --- upgrade with queued jobs

inside passfort-ingest pause >/dev/null
manifest queued 20
queued() { [ "$(inside passfort-ingest jobs --state queued --csv 2>/dev/null | tail -n +2 | wc -l)" = "$1" ]; }
until_true "twenty jobs are queued" queued 20
pid=$(property "$unit" MainPID)
inside dpkg -i --force-confold /packages/second.deb >"$place/said" 2>&1
! grep -q "$key" "$place/said" || failed "the key is printed"
another
queued 20
inside passfort-ingest resume >/dev/null
created queued 20
did "an upgrade with queued jobs starts the new program, which sends each once"

# --- the database of an earlier release; the end of the process at each step of its migration

inside systemctl stop "$unit"
mkdir "$root/var/lib/kept"
find "$root/var/lib/passfort-ingest" -maxdepth 1 -name 'queue.db*' -exec mv -t "$root/var/lib/kept" {} +
# The receipts name the queue that wrote them: another one is refused beside them.
mv "$root$drop/receipts" "$root/var/lib/kept/"
database=$root/var/lib/passfort-ingest/queue.db
of_database() { python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])' "$database" "$1"; }
python3 - "$database" tests/it/promises/revision_3bb4540/queue.sql <<'END'
import sqlite3, sys
old = sqlite3.connect(sys.argv[1])
old.executescript(open(sys.argv[2]).read())
old.commit()
END
chown "$(stat -c %u:%g "$root/var/lib/passfort-ingest")" "$database"
earlier=$(of_database 'PRAGMA user_version')
for step in before after; do
    override "$unit" <<END
[Service]
RestartSec=100ms
Environment=PASSFORT_INGEST_KILL_AT=$step.commit.migrate
END
    inside systemctl reset-failed "$unit"
    inside systemctl start "$unit" 2>/dev/null || true
    killed() { [ "$(property "$unit" NRestarts)" -ge 2 ]; }
    # After the commit there is nothing left to migrate, so the next start works.
    if [ "$step" = before ]; then
        until_true "two starts end before the migration's commit" killed
        inside systemctl stop "$unit"
        [ "$(of_database 'PRAGMA user_version')" = "$earlier" ]
    else
        until_true "the start after the migration works" is "$unit" ActiveState active
        [ "$(property "$unit" NRestarts)" = 1 ]
        [ "$(of_database 'PRAGMA user_version')" -gt "$earlier" ]
    fi
done
[ "$(of_database "SELECT count(*) FROM job WHERE state = 'done'")" = 5 ]
did "a migration that is killed before or after its commit loses nothing"

# --- a database of a later release

inside systemctl stop "$unit"
python3 -c 'import sqlite3, sys
later = sqlite3.connect(sys.argv[1])
later.execute("PRAGMA user_version = 9999")
later.commit()' "$database"
override "$unit" </dev/null
inside systemctl start "$unit" 2>/dev/null || true
until_true "a database of a later release is refused" is "$unit" ActiveState failed
is "$unit" ExecMainStatus 2
is "$unit" NRestarts 0
says "newer" errors "$unit"
did "a downgrade is refused in words, once: $(errors "$unit" | grep -o 'queue.db .*' | tail -n 1)"
rm -rf "$database"* "$root$drop/receipts"
mv "$root/var/lib/kept/receipts" "$root$drop/receipts"
find "$root/var/lib/kept" -name 'queue.db*' -exec mv -t "$root/var/lib/passfort-ingest" {} +

# --- a nightly round whose key is refused

override "$nightly" <<'END'
[Unit]
OnFailure=informed.service
[Service]
ExecStart=
ExecStart=/usr/bin/passfort-ingest run --once --give-up-after 2s
END
override passfort-ingest-nightly.timer <<'END'
[Timer]
OnCalendar=
RandomizedDelaySec=0
OnActiveSec=100ms
AccuracySec=1ms
END
printf '[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/informed\n' >"$root/etc/systemd/system/informed.service"
inside systemctl daemon-reload
# A round with nothing to complain of first, and one whose manifest waits for a file.
inside systemctl start passfort-ingest-nightly.timer
until_true "a round is over" is "$nightly" ExecMainStatus 0
manifest waiting 1
rm "$root$drop/waiting-1.gif"
inside systemctl start "$nightly"
is "$nightly" ExecMainStatus 3
is "$nightly" Result success
inside test ! -e /run/informed
picture "$root$drop/waiting-1.gif" waiting-1
echo another-key >"$root/etc/passfort-ingest/api-key"
inside systemctl restart passfort-ingest-nightly.timer
until_true "OnFailure= is started where the key is refused" inside test -e /run/informed
is "$nightly" ExecMainStatus 4
says "key" errors "$nightly"
printf '%s' "$key" >"$root/etc/passfort-ingest/api-key"
inside systemctl stop passfort-ingest-nightly.timer
inside systemctl start "$unit"
created waiting 1
did "a timer's round ends well, with work left, or fails and starts OnFailure= where the key is refused"

# --- remove, install again, purge

inside dpkg -r passfort-ingest >/dev/null 2>&1
is "$unit" ActiveState inactive
inside test -e /etc/passfort-ingest/config.toml -a -e /etc/passfort-ingest/api-key -a -e /var/lib/passfort-ingest/queue.db
inside test ! -e /usr/bin/passfort-ingest
inside dpkg -i --force-confold /packages/second.deb >"$place/said" 2>&1
inside systemctl start "$unit"
manifest again 1
created again 1
inside dpkg -P passfort-ingest >"$place/said" 2>&1
says "/var/lib/passfort-ingest stays" cat "$place/said"
inside test ! -e /etc/passfort-ingest
inside test ! -e "/etc/systemd/system/multi-user.target.wants/$unit" -a ! -e "/etc/systemd/system/$unit.d/drops.conf"
inside test -e /var/lib/passfort-ingest/queue.db -a -e "$drop/receipts/again.manifest.csv.receipt.json"
inside id passfort-ingest >/dev/null
did "remove keeps queue and configuration; purge removes configuration and key, and leaves queue and drops"

# --- the guide for operators, block by block

rm -rf "$root/var/lib/passfort-ingest" "$root$drop" "$root/etc/systemd/system/$unit.d" "$root/etc/systemd/system/$nightly.d"
inside systemctl daemon-reload
inside systemctl reset-failed
cat >"$root/usr/bin/sudo" <<'END'
#!/bin/sh
[ "$1" = -u ] || exec "$@"
user=$2
shift 2
exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"
END
chmod 755 "$root/usr/bin/sudo"
sed -e 's#\./passfort-ingest_0\.1\.0-1_amd64#/packages/first#; s#\./passfort-ingest_0\.2\.0-1_amd64#/packages/second#' \
    -e 's#https://api\.passfort\.com#http://127.0.0.1:8080#' "$tree/guides/operating.md" |
    awk -v to="$root/srv/guide-" '/^```/ { inside = /^```sh$/; if (inside) file = to (++count) ".sh"; next } inside { print >file }'
[ "$(find "$root/srv" -name 'guide-*.sh' | wc -l)" = 6 ]
block() { inside bash -eu "/srv/guide-$1.sh" >"$place/said" 2>&1 || failed "block $1 of the guide: $(cat "$place/said")"; }
block 1
manifest guide 3
created guide 3
block 2
block 3
says "4" tail -n 1 "$place/said" # a line of headings, and three documents
block 4
block 5
inside dpkg -P passfort-ingest >/dev/null 2>&1
rm -rf "$root/var/lib/passfort-ingest" "$root$drop"
block 6
manifest moved 1
created moved 1
manifest guide 3
doubles() { [ "$(inside passfort-ingest jobs --state duplicate --csv 2>/dev/null | tail -n +2 | wc -l)" = 3 ]; }
until_true "what is dropped again ends as duplicates" doubles
inside dpkg -P passfort-ingest >/dev/null 2>&1
did "the guide for operators: install, backup, drill, upgrade, move to another host; nothing is created twice"

# --- the .rpm

inside rpm -i --nodeps /packages/first.rpm >"$place/said" 2>&1
says "sudo passfort-ingest-setup" cat "$place/said"
inside systemctl start --no-block "$unit" || true
[ "$(inside stat -c '%U:%G %a' /var/lib/passfort-ingest)" = "passfort-ingest:passfort-ingest 750" ]
inside rpm -V --nodeps passfort-ingest
inside rpm -e --nodeps passfort-ingest
inside test ! -e /usr/bin/passfort-ingest -a -e /var/lib/passfort-ingest/queue.db
did "the .rpm installs the same, and leaves the queue when it is removed"

! inside journalctl --no-pager --quiet | grep -F "$key" || failed "the journal has the key"
did "the key is nowhere in the journal"
