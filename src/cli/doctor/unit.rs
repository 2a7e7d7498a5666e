//! The unit of systemd, as `systemctl show` describes it: whether it allows what the configuration needs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
};

use super::Diagnosis;
use crate::config::Config;

const AREA: &str = "service";
const UNIT: &str = "passfort-ingest.service";
const NIGHTLY: &str = "passfort-ingest-nightly.timer";

/// The unit's properties that are looked at.
const PROPERTIES: &str = "LoadState,UnitFileState,ActiveState,Result,WatchdogUSec,ProtectSystem,ProtectHome,ReadWritePaths,\
                          AmbientCapabilities,SupplementaryGroups,StateDirectory,User";

/// What is wrong with the unit; nothing where the machine has no systemd.
pub(super) fn findings(config: &Config) -> Vec<Diagnosis> {
    let Some(unit) = show(UNIT, PROPERTIES) else { return Vec::new() };
    let timer = show(NIGHTLY, "UnitFileState").unwrap_or_default();
    judge(&unit, &timer, &needed(config))
}

/// The numbers of the groups that the unit adds.
pub(super) fn groups() -> Vec<u32> {
    let unit = show(UNIT, "SupplementaryGroups").unwrap_or_default();
    let names = unit.get("SupplementaryGroups").map(String::as_str).unwrap_or_default();
    names
        .split_whitespace()
        .filter_map(|name| crate::durable::group_of(name).ok())
        .map(|group| group.as_raw())
        .collect()
}

/// The folders that the worker writes to.
fn needed(config: &Config) -> Vec<PathBuf> {
    let database = config.queue.database.parent().map(Path::to_path_buf);
    let of_drop = config.drops.iter().flat_map(|drop| {
        std::iter::once(drop.path.clone())
            .chain(drop.own_folders().into_iter().filter(|own| !own.starts_with(&drop.path)))
    });
    database.into_iter().chain(of_drop).collect()
}

fn show(unit: &str, properties: &str) -> Option<HashMap<String, String>> {
    let ran = Command::new("systemctl").args(["show", unit, "--property", properties]).output().ok()?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let said = parse(&said);
    (ran.status.success() && !said.is_empty()).then_some(said)
}

fn parse(said: &str) -> HashMap<String, String> {
    said.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn judge(unit: &HashMap<String, String>, timer: &HashMap<String, String>, needed: &[PathBuf]) -> Vec<Diagnosis> {
    let of = |name: &str| unit.get(name).map(String::as_str).unwrap_or_default();
    if of("LoadState") != "loaded" {
        return vec![Diagnosis::ok(AREA, format!("{UNIT} is not installed"))];
    }
    let mut found = Vec::new();
    let nightly = timer.get("UnitFileState").is_some_and(|state| state == "enabled");
    match (of("UnitFileState"), nightly) {
        ("enabled", true) => found.push(Diagnosis::fault(
            AREA,
            format!("{UNIT} and {NIGHTLY} are both enabled, and one process works on a queue"),
            format!("sudo systemctl disable --now {NIGHTLY}"),
        )),
        ("enabled", false) => found.push(Diagnosis::ok(AREA, format!("{UNIT} is enabled"))),
        (_, true) => found.push(Diagnosis::ok(AREA, format!("{NIGHTLY} is enabled"))),
        (_, false) => found.push(Diagnosis::warning(
            AREA,
            format!("{UNIT} is not enabled: after a restart of the machine nobody works"),
            format!("sudo systemctl enable --now {UNIT}"),
        )),
    }
    if of("ActiveState") == "failed" {
        let what = format!("{UNIT} has failed ({})", of("Result"));
        found.push(Diagnosis::fault(
            AREA,
            what,
            format!("journalctl -u {UNIT} -p err -n 20, then sudo systemctl restart {UNIT}"),
        ));
    }
    if matches!(of("WatchdogUSec"), "" | "0" | "infinity") {
        let cure = edit("[Service]\\nWatchdogSec=3min");
        found.push(Diagnosis::warning(AREA, "there is no watchdog: a worker that hangs is not noticed", cure));
    }
    if !of("AmbientCapabilities").split_whitespace().any(|name| name == "cap_lease") {
        let what = "without CAP_LEASE the worker cannot know whether a sender still has a file open";
        found.push(Diagnosis::warning(
            AREA,
            what,
            edit("[Service]\\nAmbientCapabilities=CAP_LEASE\\nCapabilityBoundingSet=CAP_LEASE"),
        ));
    }
    if of("ProtectSystem") == "strict" {
        let state = of("StateDirectory").split_whitespace().map(|name| Path::new("/var/lib").join(name));
        // A path may be marked as optional, or as relative to the root directory of the unit.
        let listed =
            of("ReadWritePaths").split_whitespace().map(|path| PathBuf::from(path.trim_start_matches(['-', '+'])));
        let writable: Vec<PathBuf> = listed.chain(state).collect();
        for folder in needed.iter().filter(|folder| !writable.iter().any(|path| folder.starts_with(path))) {
            let what = format!("{} cannot be written: it is below no entry of ReadWritePaths=", folder.display());
            found.push(Diagnosis::fault(AREA, what, edit(&format!("[Service]\\nReadWritePaths={}", folder.display()))));
        }
    }
    if of("ProtectHome") == "yes" {
        let homes = ["/home", "/root", "/run/user"];
        for folder in needed.iter().filter(|folder| homes.iter().any(|home| folder.starts_with(home))) {
            let what = format!("{} cannot be reached under ProtectHome=yes", folder.display());
            found.push(Diagnosis::fault(AREA, what, edit("[Service]\\nProtectHome=no")));
        }
    }
    found
}

/// The command that adds lines to the unit.
fn edit(lines: &str) -> String {
    format!(
        "sudo mkdir -p /etc/systemd/system/{UNIT}.d && printf '{lines}\\n' | sudo tee -a /etc/systemd/system/{UNIT}.d/local.conf && \
         sudo systemctl daemon-reload && sudo systemctl restart {UNIT}"
    )
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};

    const GOOD: &str = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nResult=success\nWatchdogUSec=3min\n\
                        ProtectSystem=strict\nProtectHome=yes\nReadWritePaths=-/srv/sftp\nAmbientCapabilities=cap_lease\n\
                        SupplementaryGroups=\nStateDirectory=passfort-ingest\nUser=passfort-ingest\n";

    fn faults(change: (&str, &str), timer: &str, folders: &[&str]) -> Vec<(Grade, String)> {
        let needed: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
        let found = judge(&parse(&GOOD.replace(change.0, change.1)), &parse(timer), &needed);
        let bad = found.into_iter().filter(|found| found.severity != Grade::Ok);
        bad.map(|found| (found.severity, format!("{} | {}", found.what, found.cure.unwrap()))).collect()
    }

    #[test]
    fn a_unit_that_allows_everything_has_no_finding() {
        assert_eq!(faults(("", ""), "UnitFileState=disabled", &["/srv/sftp/a", "/var/lib/passfort-ingest"]), []);
    }

    #[test]
    fn each_thing_that_the_unit_forbids_is_named_with_a_cure() {
        for (change, timer, folder, severity, said) in [
            (("", ""), "UnitFileState=enabled", "/srv/sftp/a", Grade::Fault, "both enabled"),
            (("UnitFileState=enabled", "UnitFileState=disabled"), "", "/srv/sftp/a", Grade::Warning, "enable --now"),
            (("ActiveState=active", "ActiveState=failed"), "", "/srv/sftp/a", Grade::Fault, "journalctl"),
            (("WatchdogUSec=3min", "WatchdogUSec=0"), "", "/srv/sftp/a", Grade::Warning, "WatchdogSec"),
            (("=cap_lease", "="), "", "/srv/sftp/a", Grade::Warning, "CAP_LEASE"),
            (("", ""), "", "/srv/other", Grade::Fault, "ReadWritePaths=/srv/other"),
            (("/srv/sftp", "/home/a"), "", "/home/a/in", Grade::Fault, "ProtectHome"),
        ] {
            let found = faults(change, timer, &[folder]);
            assert_eq!(found.len(), 1, "{change:?}: {found:?}");
            assert_eq!(found[0].0, severity, "{found:?}");
            assert!(found[0].1.contains(said), "{found:?}");
        }
    }

    #[test]
    fn a_unit_that_is_not_there_is_no_fault() {
        assert_eq!(faults(("LoadState=loaded", "LoadState=not-found"), "", &["/srv/other"]), []);
    }
}
