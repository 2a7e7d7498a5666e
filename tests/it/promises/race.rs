//! Somebody swaps files, folders and links in the drop as fast as possible while they are admitted, sent and archived:
//! nothing from outside is ever read, moved, or removed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use serde_json::json;

use crate::support::{Builder, Format, Site, entry, image, promise, sha256, wait_until};

/// Changes the two names' places, in one step.
fn swap(one: &Path, other: &Path) -> bool {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

/// All files below a folder with the digests of their content.
fn content(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for file in fs::read_dir(next).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_dir() {
                folders.push(file.path());
            } else {
                let name = file.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, sha256(&fs::read(file.path()).unwrap()));
            }
        }
    }
    found
}

/// Names that lead elsewhere now and then, each with what it is swapped with.
fn traps(site: &Site) -> Vec<(std::path::PathBuf, std::path::PathBuf)> {
    let trap = |real: &str, lure: &str| (site.in_drop(real), site.in_drop(lure));
    vec![
        // A folder of images, one file in it, and the folders that files are put into.
        trap("scans", "x-scans"),
        trap("plain/fixed.png", "x-fixed.png"),
        trap("done", "x-done"),
        trap("failed", "x-failed"),
    ]
}

/// How many times names are swapped after the last manifest is there: a few seconds of it.
const SWAPS_AFTER_THE_LAST: u64 = 200_000;

/// Ends the threads that swap, also where the test fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn race(rounds: u32) {
    let site = Builder { drop: "incomplete_after = '1s'".to_owned(), ..Builder::default() }.build();
    // What changes all the time would never count as complete.
    site.edit_config("settle = '50ms'", "settle = '0s'");
    for folder in ["scans", "done", "failed"] {
        fs::create_dir(site.in_drop(folder)).unwrap();
        fs::create_dir_all(site.at("outside").join(folder)).unwrap();
        symlink(site.at("outside").join(folder), site.in_drop(&format!("x-{folder}"))).unwrap();
    }
    // Outside is a file of the same name for each that is sent, and one that only links lead to.
    let secret = |number: u32| image(Format::Png, 1_000_000 + number);
    for number in 0..rounds {
        site.write(&format!("outside/scans/{number}.png"), secret(number));
    }
    fs::create_dir(site.in_drop("plain")).unwrap();
    site.write("outside/fixed.png", secret(rounds));
    symlink(site.at("outside/fixed.png"), site.in_drop("x-fixed.png")).unwrap();
    let before = content(&site.at("outside"));

    let (over, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut daemon = site.daemon();
    let is_settled = |number: &u32| site.is_settled(&format!("{number}.manifest.json"));
    thread::scope(|scope| {
        // A failure in here would otherwise wait for threads that never end.
        let _end = EndOnDrop(&over);
        for (real, lure) in traps(&site) {
            let (over, swaps) = (&over, &swaps);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    swaps.fetch_add(u64::from(swap(&real, &lure)), Ordering::Relaxed);
                    thread::yield_now();
                }
                if real.is_symlink() {
                    assert!(swap(&real, &lure), "{} is where it belongs again", real.display());
                }
            });
        }
        for number in 0..rounds {
            put_one(&site, number);
        }
        // The drop takes nothing while its ground looks bad, which it may do for as long as this goes on.
        let enough = swaps.load(Ordering::Relaxed) + SWAPS_AFTER_THE_LAST;
        daemon.wait_until("the last has settled, or it was hindered long enough", || {
            is_settled(&(rounds - 1)) || swaps.load(Ordering::Relaxed) > enough
        });
    });
    let under_attack = (0..rounds).filter(is_settled).count();
    daemon.wait_until("everything has settled once nobody swaps any more", || {
        (0..rounds).all(|number| is_settled(&number))
    });
    daemon.terminate().expect(0);
    eprintln!("{swaps:?} swaps, {under_attack} of {rounds} settled meanwhile, {} calls", site.ledger().len());
    assert_eq!(content(&site.at("outside")), before, "nothing outside was moved, removed, or put there");
    let secrets: Vec<String> = (0..=rounds).map(|number| sha256(&secret(number))).collect();
    for call in site.ledger() {
        assert!(call.sha256.is_none_or(|sent| !secrets.contains(&sent)), "a file from outside was sent");
    }
}

/// Drops a manifest of two images, one of which is swapped for a link all the time.
fn put_one(site: &Site, number: u32) {
    let draft = site.in_drop(".draft");
    // The folder may be the lure at this moment: then it is tried again until it is the real one.
    wait_until("the image lies in the drop", || {
        fs::write(&draft, image(Format::Png, number)).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = rustix::fs::open(site.in_drop("scans"), flags, Mode::empty());
        folder.is_ok_and(|folder| rustix::fs::renameat(CWD, &draft, &folder, format!("{number}.png")).is_ok())
    });
    // Where the last one was taken away, whichever of the two it was.
    fs::write(&draft, image(Format::Png, 2_000_000 + number)).unwrap();
    rustix::fs::renameat_with(CWD, &draft, CWD, site.in_drop("plain/fixed.png"), RenameFlags::NOREPLACE).ok();
    let mut document = entry(&number.to_string(), number, "");
    document["images"] = json!([{ "path": format!("scans/{number}.png") }, { "path": "plain/fixed.png" }]);
    let alone = entry(&format!("{number}-alone"), number, &format!("scans/{number}.png"));
    site.put_documents(&format!("{number}.manifest.json"), &[document, alone]);
}

#[test]
fn nothing_outside_is_touched_while_files_folders_and_links_are_swapped() {
    promise!(
        "Nothing outside a drop is read, moved or deleted because a manifest says so: no `..`, no absolute path, no symbolic link, no device and no FIFO."
    );
    race(20);
}

/// The same for about a minute: `.ci/run` does it.
#[test]
#[ignore = "takes a minute"]
fn nothing_outside_is_touched_for_a_minute() {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        race(1000);
    }
}
