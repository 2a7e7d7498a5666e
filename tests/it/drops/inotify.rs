//! What is dropped while the kernel forgets to tell of it: its queue holds next to nothing, or it watches no more folders.
//!
//! The drops are read in full so rarely that only events, and what is made of their loss, can tell in time. How long the
//! kernel's queues are is the whole machine's affair, and changing it takes root, so a plain `cargo test` leaves these
//! tests out; `.ci/run` asks for them. What was set before is set again as soon as the daemon has made its queue.

use std::{
    fs,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Builder, Daemon, Format, Site, assert_sent_once_or_lost, image, metrics, page_in, rename, value, wait_until,
};

/// How long queues are that are made from now on.
const BOUND: &str = "/proc/sys/fs/inotify/max_queued_events";

/// Queues hold sixteen events for a while; what was set before is set again however the test ends.
struct Sixteen {
    before: String,
    _alone: MutexGuard<'static, ()>,
}

impl Sixteen {
    fn set() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = Self { before: fs::read_to_string(BOUND).unwrap(), _alone: alone };
        fs::write(BOUND, "16").expect("root may set it");
        bound
    }
}

impl Drop for Sixteen {
    fn drop(&mut self) {
        fs::write(BOUND, &self.before).unwrap();
    }
}

/// A drop that is read in full so rarely that only events can tell in time.
fn by_events() -> Site {
    let site = Builder { more: "[http]\nlisten = '127.0.0.1:0'".to_owned(), ..Builder::default() }.build();
    site.edit_config("rescan_every = '1s'", "rescan_every = '10m'");
    site
}

/// A daemon on a queue that forgets all but sixteen events.
fn forgetful(site: &Site) -> Daemon {
    let bound = Sixteen::set();
    let mut daemon = site.daemon();
    daemon.wait_until("events are tried out", || site.watching() == "events");
    drop(bound);
    daemon
}

fn documents(site: &Site) -> usize {
    site.files().iter().filter(|file| file.starts_with("receipts/")).count()
}

#[track_caller]
fn assert_each_once(site: &Site, daemon: Daemon, count: u64) {
    daemon.terminate().expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled, summary.images), (count, 0, count), "{summary}");
    assert_sent_once_or_lost(&site.ledger());
    assert_eq!(documents(site) as u64, count, "one receipt for each");
    let left = site.left().into_iter().filter(|file| file.contains("manifest"));
    assert_eq!(left.count(), 0, "each manifest is put away");
}

#[test]
#[ignore = "changes a bound of the machine for a moment: `.ci/run` asks for it"]
fn a_flood_into_new_folders_is_taken_although_most_events_are_lost() {
    let site = by_events();
    let mut daemon = forgetful(&site);
    for folder in 0..60 {
        let path = format!("drop/batch-{}/{folder}", folder % 7);
        for other in 0..40 {
            site.write(&format!("{path}/other-{other}.png"), image(Format::Png, 10_000 + folder * 100 + other));
        }
        site.put_folder(&path, folder);
    }
    for folder in 60..80 {
        site.put_folder(&format!("made-{folder}/deep/deeper"), folder);
        fs::write(site.at(&format!("made-{folder}/deep/note.txt")), "stays").unwrap();
        rename(&site.at(&format!("made-{folder}")), &site.in_drop(&format!("moved-{folder}")));
    }
    daemon.wait_until("all receipts", || documents(&site) == 80);

    // Of folders whose making was never reported, too, what comes later must be reported.
    for folder in 0..60 {
        site.put_folder(&format!("drop/batch-{}/{folder}", folder % 7), 100 + folder);
    }
    for folder in 60..80 {
        site.put_folder(&format!("drop/moved-{folder}/deep/deeper/new"), 100 + folder);
    }
    daemon.wait_until("all receipts", || documents(&site) == 160);
    assert_each_once(&site, daemon, 160);
}

/// Whether nothing was noticed in the drop for so long that no look follows the last news any more.
fn is_quiet(daemon: &Daemon) -> bool {
    let page = page_in(&daemon.log()).expect("the page is served");
    value(&metrics(page), "last_drop_event_seconds") > 3.0
}

#[test]
#[ignore = "changes a bound of the machine for a moment: `.ci/run` asks for it"]
fn folders_that_were_made_while_events_were_lost_are_watched_soon() {
    let site = by_events();
    let mut daemon = forgetful(&site);
    let pid = Pid::from_raw(daemon.id().try_into().unwrap()).unwrap();
    // While it stands still, more happens than the kernel remembers.
    kill_process(pid, Signal::STOP).unwrap();
    for folder in 0..40 {
        site.write(&format!("drop/{folder}/deep/other.png"), image(Format::Png, 1000 + folder));
    }
    site.put_folder("drop", 0);
    kill_process(pid, Signal::CONT).unwrap();
    daemon.wait_until("the receipt", || documents(&site) == 1);
    for folder in [39, 30, 21] {
        // Nothing but the event of the one folder may tell of it.
        wait_until("it is quiet", || is_quiet(&daemon));
        site.put_folder(&format!("drop/{folder}/deep"), folder);
        daemon.wait_until("the receipt", || site.is_settled(&format!("{folder}/deep/{folder}.manifest.json")));
    }
    assert_each_once(&site, daemon, 4);
}

/// What the daemon's own part of the machine allows.
fn allow_watches(daemon: &Daemon, watches: u32) {
    let command = format!("echo {watches} > /proc/sys/user/max_inotify_watches");
    let target = daemon.id().to_string();
    let mut inside = Command::new("nsenter");
    inside.args(["--user", "--preserve-credentials", "--target", &target, "sh", "-c", &command]);
    let status = inside.status().unwrap();
    assert!(status.success(), "the bound can be set");
}

#[test]
#[ignore = "needs a user namespace, which not every machine lets one make: `.ci/run` asks for it"]
fn more_folders_than_may_be_watched_are_polled_and_that_is_reported() {
    let site = by_events();
    let program = site.command(&["run"]);
    let mut command = Command::new("unshare");
    command.arg("--map-root-user").arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut daemon = Daemon::start(command, &site.at("log"));
    daemon.wait_until("events are tried out", || site.watching() == "events");
    allow_watches(&daemon, 8);
    for folder in 0..20 {
        site.put_folder(&format!("drop/{folder}/deep"), folder);
        fs::write(site.in_drop(&format!("{folder}/deep/note.txt")), "stays").unwrap();
    }
    daemon.wait_until("all receipts", || documents(&site) == 20);
    daemon.wait_until("it is said", || site.watching().contains("max_user_watches"));
    for folder in 0..20 {
        site.put_folder(&format!("drop/{folder}/deep"), 100 + folder);
    }
    daemon.wait_until("all receipts", || documents(&site) == 40);
    allow_watches(&daemon, 10_000);
    daemon.wait_until("it is over", || site.watching() == "events");
    assert_each_once(&site, daemon, 40);
}
