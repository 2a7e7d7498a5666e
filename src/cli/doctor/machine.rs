//! What the machine offers: watches of the kernel, and a clock that is kept right.

use std::{fs, process::Command};

use super::Diagnosis;
use crate::config::Config;

const AREA: &str = "machine";

/// How many watches are free, and whether the clock is kept right.
pub(super) fn findings(config: &Config) -> Vec<Diagnosis> {
    let folders: u64 = config.drops.iter().filter(|drop| drop.recursive).map(|drop| folders_below(&drop.path)).sum();
    let folders = folders + config.drops.len() as u64;
    let mut found: Vec<_> = limit("max_user_watches").map(|bound| watches(folders, bound)).into_iter().collect();
    let clock = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    found.extend(clock.ok().and_then(|clock| synchronized(&String::from_utf8_lossy(&clock.stdout))));
    found
}

fn limit(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
}

/// So many folders are counted at most; a larger drop needs the limit raised in any case.
const COUNTED: u64 = 100_000;

fn folders_below(path: &std::path::Path) -> u64 {
    let (mut open, mut count) = (vec![path.to_owned()], 0);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if count < COUNTED && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                count += 1;
                open.push(entry.path());
            }
        }
    }
    count
}

/// A folder takes a watch, and other programs need some too.
fn watches(folders: u64, bound: u64) -> Diagnosis {
    if folders.saturating_mul(2) <= bound {
        return Diagnosis::ok(AREA, format!("the kernel allows {bound} watches; the drops have {folders} folders"));
    }
    let wanted = folders.saturating_mul(4).next_power_of_two();
    Diagnosis::warning(
        AREA,
        format!("the kernel allows {bound} watches, and the drops have {folders} folders: what exceeds it is polled"),
        format!(
            "echo fs.inotify.max_user_watches={wanted} | sudo tee /etc/sysctl.d/60-passfort-ingest.conf && sudo sysctl --system"
        ),
    )
}

/// What `timedatectl` says; nothing where it says nothing.
fn synchronized(said: &str) -> Option<Diagnosis> {
    match said.trim() {
        "yes" => Some(Diagnosis::ok(AREA, "the clock is synchronized")),
        "no" => Some(Diagnosis::warning(
            AREA,
            "the clock is not synchronized: windows, limits an hour and receipts go by it",
            "sudo timedatectl set-ntp true",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Grade, *};

    #[test]
    fn few_watches_are_a_warning_with_the_command_that_raises_them() {
        assert_eq!(watches(100, 8192).severity, Grade::Ok);
        let few = watches(6000, 8192);
        assert_eq!(few.severity, Grade::Warning);
        assert!(few.cure.unwrap().contains("max_user_watches=32768"));
    }

    #[test]
    fn the_clock_is_judged_only_where_something_is_known() {
        assert_eq!(synchronized("yes\n").unwrap().severity, Grade::Ok);
        assert_eq!(synchronized("no\n").unwrap().severity, Grade::Warning);
        assert_eq!(synchronized(""), None);
    }
}
