//! The wall clock jumps by hours and days, forwards and back, while the real program works: nothing is lost, delayed,
//! hurried or duplicated by that.
//!
//! The daemon sees a clock of its own by libfaketime, which changes while it runs; the monotonic clock, the files'
//! times and the stand-in's clock stay the true ones. That needs Debian's package `faketime`, so a plain `cargo test`
//! leaves these tests out; `.ci/run` installs it and asks for them, and where it is missing they fail.

use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration};

use passfort_ingest::sandbox::{ApiCall, Options};
use serde_json::Value;

use crate::support::{Builder, Daemon, Format, Site, assert_sent_once_or_lost, entry, image, profile, wait_until};

/// How far the clock is ahead, one after the other: each is a jump from the one before.
const JUMPS: [&str; 5] = ["+6h", "-6h", "+10d", "-2d", "+0"];

/// The path of the library, on any architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|library| library.exists());
    found.next().expect("the package `faketime` is there: `.ci/run` installs it")
}

/// Lets the clock jump.
#[expect(clippy::disallowed_methods, reason = "so that nobody reads half of it")]
fn set_clock(site: &Site, ahead: &str) {
    site.write("clock.new", ahead);
    fs::rename(site.at("clock.new"), site.at("clock")).unwrap();
}

/// Starts the daemon under a clock that can be set.
fn daemon(site: &Site) -> Daemon {
    if !site.at("clock").exists() {
        set_clock(site, "+0");
    }
    let mut command: Command = site.command(&["-v", "run"]);
    command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", site.at("clock"));
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
    Daemon::start(command, &site.at("log"))
}

/// Drops one document, and waits until it is taken in: by then the daemon has looked at the clock.
fn nudge(site: &Site, daemon: &mut Daemon, number: u32) {
    let manifest = format!("nudge-{number}.manifest.json");
    site.put(&format!("nudge-{number}.png"), image(Format::Png, number));
    site.put_documents(&manifest, &[entry(&manifest, number, &format!("nudge-{number}.png"))]);
    let taken =
        |daemon: &Daemon| daemon.log().lines().any(|line| line.contains("taken in") && line.contains(&manifest));
    wait_until("the document is taken in", || taken(daemon) || !daemon.is_alive());
    assert!(taken(daemon), "{}", daemon.log());
}

/// Stops it; this many documents were created, each once, and everything is archived with a receipt.
#[track_caller]
fn assert_all_done(site: &Site, mut daemon: Daemon, documents: u64, manifests: usize) {
    daemon.wait_until("everything is put away", || site.left().is_empty());
    daemon.terminate().expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (documents, 0), "{summary}");
    assert_sent_once_or_lost(&site.ledger());
    let receipts: Vec<String> = site.files().into_iter().filter(|file| file.starts_with("receipts/")).collect();
    assert_eq!(receipts.len(), manifests, "{receipts:#?}");
    for receipt in receipts {
        let receipt: Value = serde_json::from_slice(&fs::read(site.in_drop(&receipt)).unwrap()).unwrap();
        assert_eq!(receipt["status"], "done", "{receipt:#}");
    }
}

#[test]
#[ignore = "needs libfaketime: `.ci/run` asks for it"]
fn retries_continue_at_their_own_pace() {
    let sandbox = Options { latency: Duration::from_millis(200), ..Options::default() };
    let site = Builder { sandbox, retry: "max = '1s'".to_owned(), ..Builder::default() }.build();
    let mut daemon = daemon(&site);
    for (round, jump) in (0_u32..).zip(JUMPS) {
        // Some of them wait and some are under way when it jumps. Too few failures in a row to pass for an outage.
        site.faults(&["upload_image=status-before:503"]);
        let before = site.calls(ApiCall::UploadImage).len();
        let calls = || site.calls(ApiCall::UploadImage).len() - before;
        let documents: Vec<Value> = (round * 10..round * 10 + 4)
            .map(|number| {
                site.put(&format!("{number}.png"), image(Format::Png, number));
                entry(&number.to_string(), number, &format!("{number}.png"))
            })
            .collect();
        site.put_documents(&format!("{round}.manifest.json"), &documents);
        daemon.wait_until("calls failed", || calls() >= 5);
        set_clock(&site, jump);
        daemon.wait_until("they are tried again", || calls() >= 9);
        site.faults(&[]);
        daemon.wait_until(jump, || site.is_settled(&format!("{round}.manifest.json")));
    }
    assert_all_done(&site, daemon, 4 * JUMPS.len() as u64, JUMPS.len());
}

#[test]
#[ignore = "needs libfaketime: `.ci/run` asks for it"]
fn an_answer_that_was_lost_is_looked_for_as_long_as_it_may_take() {
    for jump in ["+6h", "-6h"] {
        let sandbox = Options { visible_after: Duration::from_secs(4), ..Options::default() };
        let api = "response_timeout = '1s'".to_owned();
        let site = Builder { sandbox, api, retry: "max = '1s'".to_owned(), ..Builder::default() }.build();
        site.edit_config("absent_after = '2s'", "absent_after = '8s'");
        site.faults(&["create_document=hang-after,first=1"]);
        let mut daemon = daemon(&site);
        site.put_batch("all.manifest.json", 1);
        daemon.wait_until("it was sent", || !site.calls(ApiCall::CreateDocument).is_empty());
        set_clock(&site, jump);
        daemon.wait_until(jump, || site.is_settled("all.manifest.json"));
        assert_eq!(site.calls(ApiCall::CreateDocument).len(), 1, "it is found, and not sent again");
        assert_all_done(&site, daemon, 1, 1);
    }
}

#[test]
#[ignore = "needs libfaketime: `.ci/run` asks for it"]
fn the_hours_documents_are_no_more_whatever_the_clock_says() {
    // Three at once, and one in 109 seconds.
    let site = Builder { more: "[limits]\ndocuments_per_hour = 36".to_owned(), ..Builder::default() }.build();
    site.put_batch("all.manifest.json", 6);
    let mut running = daemon(&site);
    running.wait_until("the first are created", || site.summary().documents == 3);
    let began = site.calls(ApiCall::CreateDocument)[0].at_ms;
    for (round, jump) in (0_u32..).zip(JUMPS) {
        set_clock(&site, jump);
        nudge(&site, &mut running, 100 + round);
        running.terminate().expect(0);
        running = daemon(&site);
        nudge(&site, &mut running, 200 + round);
        // By the second, what came with the first has been handed out, as far as the limit lets it.
        nudge(&site, &mut running, 300 + round);
        let created = site.calls(ApiCall::CreateDocument);
        let took = created.last().unwrap().at_ms - began;
        assert!(created.len() as i64 <= 3 + took / 100_000, "{jump}: {} within {took} ms", created.len());
    }
    running.terminate().expect(0);
}

#[test]
#[ignore = "needs libfaketime: `.ci/run` asks for it"]
fn a_file_that_is_being_written_settles_by_the_steady_clock() {
    let site = Site::new();
    site.edit_config("settle = '50ms'", "settle = '5s'");
    let mut daemon = daemon(&site);
    let mut count = 0;
    for (round, jump) in (0_u32..).zip(["+6h", "-6h", "+10d"]) {
        let manifest = format!("{round}.manifest.csv");
        let mut csv = "profile_id,reference,category,document_type,path,image_type\n".to_owned();
        // A slow sender: what it has sent so far is a complete manifest each time, since this form has no end of its
        // own.
        for row in 0..12 {
            site.put(&format!("{count}.png"), image(Format::Png, count));
            csv += &format!("{},{count},PROOF_OF_IDENTITY,PASSPORT,{count}.png,FRONT\n", profile(count));
            let mut file = fs::File::options().create(true).append(true).open(site.in_drop(&manifest)).unwrap();
            file.write_all(csv.as_bytes()).unwrap();
            drop(file);
            csv.clear();
            count += 1;
            if row == 3 {
                set_clock(&site, jump);
            }
            // The sender's own pace, far below the settle time.
            std::thread::sleep(Duration::from_millis(150));
        }
        daemon.wait_until(jump, || site.is_settled(&manifest));
        assert_eq!(site.receipt(&manifest)["counts"]["created"], 12, "{jump}: it was taken when it was whole");
    }
    assert_all_done(&site, daemon, count.into(), 3);
}

#[test]
#[ignore = "needs libfaketime: `.ci/run` asks for it"]
fn a_file_that_is_under_way_is_waited_for_as_long_as_before() {
    let site = Site::new();
    let mut daemon = daemon(&site);
    site.put_documents("late.manifest.json", &[entry("late", 1, "late.png")]);
    daemon.wait_until("it is waited for", || site.status()["waiting_manifests"].to_string().contains("late.png"));
    for (round, jump) in (0_u32..).zip(JUMPS) {
        set_clock(&site, jump);
        // Looked at again at once, since something about it has changed; and before the other, which is younger.
        let mode = fs::Permissions::from_mode(0o640 + round % 2);
        fs::set_permissions(site.in_drop("late.manifest.json"), mode).unwrap();
        nudge(&site, &mut daemon, 100 + round);
        daemon.wait_until("the other is settled", || site.is_settled(&format!("nudge-{}.manifest.json", 100 + round)));
        assert!(!site.is_settled("late.manifest.json"), "{jump}: it is not given up");
    }
    site.put("late.png", image(Format::Png, 1));
    daemon.wait_until("it is settled", || site.is_settled("late.manifest.json"));
    let count = 1 + JUMPS.len();
    assert_all_done(&site, daemon, count as u64, count);
}

#[test]
#[ignore = "needs libfaketime: `.ci/run` asks for it"]
fn a_pause_for_a_spent_quota_ends_when_a_person_says_so_or_its_time_has_passed() {
    let pauses = |site: &Site| site.status()["queue"]["pauses"].as_array().unwrap().len();
    for jump in JUMPS {
        let site = Site::with_faults(&["upload_image=errors200:104"]);
        site.put_batch("all.manifest.json", 3);
        let mut running = daemon(&site);
        running.wait_until("it is paused", || !site.ledger().is_empty() && pauses(&site) == 1);
        set_clock(&site, jump);
        site.faults(&[]);
        running.terminate().expect(0);
        running = daemon(&site);
        nudge(&site, &mut running, 100);
        // A clock that was set on lets it try at once; else a person need not wait.
        if pauses(&site) > 0 {
            site.run(&["resume"]).expect(0);
        }
        running.wait_until(jump, || site.is_settled("all.manifest.json"));
        assert_all_done(&site, running, 4, 2);
    }
}
