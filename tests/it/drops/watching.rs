//! New files are found with events and without: bursts of files, folders renamed into the drop, drops that are recreated, and
//! drops that cannot be read.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Builder, Daemon, Format, Site, entry, image, rename, wait_until};

/// A drop that is read in full so rarely that only events can tell in time.
fn by_events() -> Site {
    let site = Site::new();
    site.edit_config("rescan_every = '1s'", "rescan_every = '1h'");
    site
}

/// The number that the system gave the daemon.
fn pid_of(site: &Site, daemon: &mut Daemon) -> Pid {
    let mut pid = None;
    daemon.wait_until("it works on the queue", || {
        pid = site.status()["daemon"]["pid"].as_i64();
        pid.is_some()
    });
    Pid::from_raw(pid.unwrap().try_into().unwrap()).unwrap()
}

#[test]
fn status_shows_how_a_drop_is_watched() {
    let site = by_events();
    let mut daemon = site.daemon();
    daemon.wait_until("events are tried out", || site.watching() == "events");
    daemon.terminate().expect(0);

    let site = Builder { drop: "watch = 'poll'".to_owned(), ..Builder::default() }.build();
    let mut daemon = site.daemon();
    daemon.wait_until("it says so", || site.watching().contains("poll"));
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    daemon.wait_until("the receipt", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    site.run(&["status"]).expect(0).says("poll");
}

#[test]
fn a_flood_that_overflows_the_kernels_queue_is_taken_in_full_and_once() {
    let site = by_events();
    let mut daemon = site.daemon();
    daemon.wait_until("events are tried out", || site.watching() == "events");
    let pid = pid_of(&site, &mut daemon);
    // While it stands still, more happens than the kernel remembers.
    kill_process(pid, Signal::STOP).unwrap();
    let remembered: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let files = 20_000.max(remembered / 3 + 1000);
    for number in 0..files {
        fs::write(site.in_drop(&format!("scan-{number}.png")), image(Format::Png, number.try_into().unwrap())).unwrap();
    }
    for number in 0..100 {
        let document = entry(&number.to_string(), number, &format!("scan-{}.png", number * 7));
        site.put_documents(&format!("{number}.manifest.json"), &[document]);
    }
    kill_process(pid, Signal::CONT).unwrap();
    daemon.wait_until("all receipts", || (0..100).all(|number| site.is_settled(&format!("{number}.manifest.json"))));
    daemon.terminate().expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.images), (100, 100));
    assert_eq!(site.left().len(), files - 100, "what nobody names stays");
}

#[test]
fn folders_that_are_renamed_in_are_taken_with_all_that_is_in_them() {
    let site = by_events();
    let mut daemon = site.daemon();
    daemon.wait_until("events are tried out", || site.watching() == "events");
    for number in 0..3 {
        site.put_folder(&format!("made-{number}/deep/deeper"), number);
        rename(&site.at(&format!("made-{number}")), &site.in_drop(&format!("batch-{number}")));
        let manifest = format!("batch-{number}/deep/deeper/{number}.manifest.json");
        daemon.wait_until("the receipt", || site.is_settled(&manifest));
    }
    // And what comes into a new folder bit by bit.
    fs::create_dir_all(site.in_drop("new/folder")).unwrap();
    site.put_folder("drop/new/folder", 9);
    daemon.wait_until("the receipt", || site.is_settled("new/folder/9.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 4);
}

#[test]
fn a_drop_that_is_removed_and_made_again_continues() {
    let site = by_events();
    let mut daemon = site.daemon();
    for number in 0..3 {
        site.put_folder("drop", number);
        daemon.wait_until("the receipt", || site.is_settled(&format!("{number}.manifest.json")));
        daemon.wait_until("all is put away", || site.left().is_empty());
        fs::remove_dir_all(site.at("drop")).unwrap();
        daemon.wait_until("it is said", || site.trouble().contains("partner"));
        fs::create_dir(site.at("drop")).unwrap();
        daemon.wait_until("it is over", || !site.trouble().contains("partner"));
    }
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 3);
}

#[test]
fn one_drop_that_is_not_there_stops_no_other_and_is_reported_until_it_is_back() {
    let site = Site::new();
    let config = fs::read_to_string(site.at("config.toml")).unwrap();
    let other = site.at("other");
    let more =
        format!("[[drop]]\nname = 'other'\npath = '{}'\nsettle = '50ms'\nrescan_every = '1s'\n", other.display());
    site.write("config.toml", format!("{config}{more}"));
    let mut daemon = site.daemon();
    daemon.wait_until("it is said", || site.trouble().contains("other"));
    site.run(&["status"]).expect(0).says("other");
    site.put_folder("drop", 1);
    daemon.wait_until("the good one goes on", || site.is_settled("1.manifest.json"));

    // A file where a folder should be.
    fs::write(&other, "").unwrap();
    daemon.wait_until("it is said", || site.trouble().contains("other"));
    fs::remove_file(&other).unwrap();
    site.put_folder("other", 2);
    let receipt = site.at("other/receipts/2.manifest.json.receipt.json");
    daemon.wait_until("it is back", || receipt.exists());
    wait_until("nothing more is said of it", || !site.trouble().contains("other"));
    daemon.terminate().expect(0);
}
