//! Full disks, under the database and under what is written for others: work stops, reports it, and continues when
//! there is room; nothing is lost, and nothing is sent again.
//!
//! The small disks are mounted where only the program under test sees them, so that nothing stays behind. Not everybody
//! may do that, root in a container often not; so a plain `cargo test` leaves them out, and `.ci/run` asks for them and
//! fails where it may not.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use passfort_ingest::sandbox::Options;
use serde_json::{Value, json};

use crate::support::{Builder, Daemon, Finished, Site, assert_sent_once_or_lost, entry, is_text, padded, promise};

const MANIFEST: &str = "all.manifest.json";

/// The daemon, with a small disk of its own at one path.
struct OnSmallDisk {
    daemon: Daemon,
    disk: PathBuf,
}

impl OnSmallDisk {
    fn start(site: &Site, path: &str, size: &str) -> Self {
        let program = site.command(&["run"]);
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]);
        command.arg("mount -t tmpfs -o size=$1 tmpfs \"$2\" && shift 2 && exec \"$@\"").args(["sh", size]);
        command.arg(site.at(path)).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut daemon = Daemon::start(command, &site.at("log"));
        daemon.wait_until("it is at work", || site.summary().calls.is_empty());
        let seen_by_it = PathBuf::from(format!("/proc/{}/root", daemon.id()));
        let disk = seen_by_it.join(site.at(path).strip_prefix("/").unwrap());
        let log = |daemon: &Daemon| daemon.log().contains("at work");
        while !log(&daemon) {
            assert!(daemon.is_alive(), "{}", daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { daemon, disk }
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.disk.join("ballast")).unwrap();
        for piece in [1 << 16, 1 << 10, 1] {
            while ballast.write_all(&vec![b'.'; piece]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.disk.join("ballast")).unwrap();
    }

    /// A command that sees the small disk.
    fn beside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &self.daemon.id().to_string()]);
        command
    }

    /// What `status` says where the small disk is seen.
    fn status(&self, site: &Site) -> Finished {
        let program = site.command(&["status"]);
        let mut command = self.beside();
        command.arg(program.get_program()).args(program.get_args());
        site.finish(command)
    }

    /// Makes the disk read-only, as the kernel does with one that has errors, or takes that back.
    fn remount(&self, site: &Site, path: &str, how: &str) {
        let status =
            self.beside().args(["mount", "-o", &format!("remount,{how}")]).arg(site.at(path)).status().unwrap();
        assert!(status.success(), "the disk cannot be mounted again as {how}");
    }

    fn wait_until(&mut self, what: &str, holds: impl FnMut() -> bool) {
        self.daemon.wait_until(what, holds);
    }

    fn wait_until_status_says(&mut self, site: &Site, text: &str) {
        // Where the ground is tried only when the disk is full, nothing is taken, and that is said.
        let says = |status: &str| status.contains(text) || status.contains("BAD GROUND");
        while !says(&self.status(site).said()) {
            assert!(self.daemon.is_alive(), "{}", self.daemon.log());
            assert!(!site.is_settled(MANIFEST), "it was done without saying '{text}'");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[track_caller]
fn assert_each_once(site: &Site, receipt: &Value, count: u32) {
    assert_eq!((&receipt["status"], &receipt["counts"]["created"]), (&json!("done"), &json!(count)), "{receipt}");
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled, summary.images), (count.into(), 0, count.into()), "{summary}");
    assert_sent_once_or_lost(&site.ledger());
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
#[ignore = "mounts small disks, which not every machine lets one do: `.ci/run` asks for it"]
fn a_full_disk_under_the_database_stops_all_work_until_there_is_room() {
    promise!(
        "A full disk, an unreadable folder or a lost mount stops the work that needs it, loses nothing, and is reported."
    );
    let sandbox = Options { latency: Duration::from_millis(10), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    let mut daemon = OnSmallDisk::start(&site, "state", "8m");
    site.put_batch(MANIFEST, 400);
    daemon.wait_until("it is in the middle of it", || site.ledger().len() > 40);
    daemon.fill();
    daemon.wait_until_status_says(&site, "STUCK: the database cannot be written");
    assert!(site.summary().documents < 400, "it stopped in the middle");
    daemon.make_room();
    daemon.wait_until("everything is settled", || site.is_settled(MANIFEST) && site.left().is_empty());
    while daemon.status(&site).said().contains("STUCK") {
        assert!(daemon.daemon.is_alive());
    }
    daemon.daemon.terminate().expect(0);
    assert_each_once(&site, &site.receipt(MANIFEST), 400);
}

#[test]
#[ignore = "mounts small disks, which not every machine lets one do: `.ci/run` asks for it"]
fn a_full_disk_under_the_receipts_keeps_the_files_until_there_is_room() {
    let site = Builder::default().build();
    let receipts = site.at("elsewhere");
    fs::create_dir(&receipts).unwrap();
    fs::write(
        site.at("config.toml"),
        fs::read_to_string(site.at("config.toml")).unwrap() + &format!("receipts_dir = '{}'\n", receipts.display()),
    )
    .unwrap();
    let mut daemon = OnSmallDisk::start(&site, "elsewhere", "64k");
    daemon.fill();
    site.put_batch(MANIFEST, 3);
    daemon.wait_until_status_says(&site, "the receipt cannot be written");
    assert_eq!(site.left().len(), 4, "nothing is moved before its receipt is there");
    daemon.make_room();
    daemon.wait_until("the files are put away", || site.left().is_empty());
    let receipt = sole_file(&daemon.disk);
    assert_each_once(&site, &serde_json::from_slice(&fs::read(receipt).unwrap()).unwrap(), 3);
    daemon.daemon.terminate().expect(0);
}

/// What is written for others goes to a disk of its own, which becomes read-only.
fn read_only(key: &str, says: &str) {
    let site = Builder::default().build();
    let elsewhere = site.at("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let config = fs::read_to_string(site.at("config.toml")).unwrap() + &format!("{key} = '{}'\n", elsewhere.display());
    fs::write(site.at("config.toml"), config).unwrap();
    let mut daemon = OnSmallDisk::start(&site, "elsewhere", "1m");
    daemon.remount(&site, "elsewhere", "ro");
    site.put_batch(MANIFEST, 3);
    // Where its ground is tried only after that, it takes nothing, and says so.
    let said = |daemon: &OnSmallDisk| {
        let status = daemon.status(&site).said();
        status.contains(says) || status.contains("BAD GROUND")
    };
    while !said(&daemon) {
        assert!(daemon.daemon.is_alive(), "{}", daemon.daemon.log());
        assert!(!site.left().is_empty(), "it was done without saying '{says}'");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(site.left().iter().any(|file| file.ends_with(MANIFEST)), "the manifest is moved last: {:?}", site.left());
    daemon.remount(&site, "elsewhere", "rw");
    daemon.wait_until("the files are put away", || site.left().is_empty());
    assert_eq!(site.summary().documents, 3);
    assert_sent_once_or_lost(&site.ledger());
    daemon.daemon.terminate().expect(0);
}

#[test]
#[ignore = "mounts small disks, which not every machine lets one do: `.ci/run` asks for it"]
fn a_read_only_disk_under_the_receipts_keeps_the_files_until_it_can_be_written() {
    read_only("receipts_dir", "the receipt cannot be written");
}

#[test]
#[ignore = "mounts small disks, which not every machine lets one do: `.ci/run` asks for it"]
fn a_read_only_disk_under_the_done_folder_keeps_the_files_until_it_can_be_written() {
    read_only("done_dir", "cannot be put away");
}

#[test]
#[ignore = "mounts small disks, which not every machine lets one do: `.ci/run` asks for it"]
fn a_full_disk_under_the_done_folder_keeps_each_file_complete_in_one_place() {
    let site = Builder::default().build();
    let done = site.at("elsewhere");
    fs::create_dir(&done).unwrap();
    let config = fs::read_to_string(site.at("config.toml")).unwrap() + &format!("done_dir = '{}'\n", done.display());
    fs::write(site.at("config.toml"), config).unwrap();
    let mut daemon = OnSmallDisk::start(&site, "elsewhere", "256k");
    let documents: Vec<Value> = (0..4)
        .map(|number| {
            let path = format!("{number}.pdf");
            site.put(&path, padded(number, 40_000));
            entry(&format!("document-{number}"), number, &path)
        })
        .collect();
    daemon.fill();
    // Room for one of them, and for the folders.
    fs::OpenOptions::new()
        .write(true)
        .open(daemon.disk.join("ballast"))
        .unwrap()
        .set_len(256 * 1024 - 64 * 1024)
        .unwrap();
    site.put(MANIFEST, json!({ "version": 1, "documents": documents }).to_string());
    daemon.wait_until("some are put away", || site.is_settled(MANIFEST));
    while !daemon.status(&site).said().contains("cannot be put away") && !site.left().is_empty() {
        assert!(daemon.daemon.is_alive(), "{}", daemon.daemon.log());
    }
    assert!(site.left().iter().any(|file| file.ends_with(MANIFEST)), "the manifest is moved last: {:?}", site.left());
    daemon.make_room();
    daemon.wait_until("all are put away", || site.left().is_empty());
    let date = sole_file(&daemon.disk);
    let mut names: Vec<String> =
        fs::read_dir(&date).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["0.pdf", "1.pdf", "2.pdf", "3.pdf", MANIFEST], "each once, and nothing half-written");
    for number in 0..4 {
        assert!(fs::read(date.join(format!("{number}.pdf"))).unwrap() == padded(number, 40_000));
    }
    assert_each_once(&site, &site.receipt(MANIFEST), 4);
    daemon.daemon.terminate().expect(0);
}

fn sole_file(folder: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    // The worker's own mark in the receipts folder is hidden, and texts are for people.
    found.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.') && !is_text(path));
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}
