//! A taking of hundreds of files is ended at any moment: each of them is then in exactly one place.

use passfort_ingest::{killpoint, sandbox};

use super::*;
use crate::support::{read_receipt, wait_until};

const DOCUMENTS: u32 = 70;
const IMAGES: [&str; 3] = ["front.png", "back.png", "face.png"];
const BATCHES: u32 = 3;

/// So often one batch's taking is ended, at most.
const KILLS: u32 = 8;

const MANIFEST: &str = "scans.manifest.json";

fn name(document: u32, image: &str) -> String {
    format!("{}/{document}-{image}", document % 7)
}

fn number(batch: u32, document: u32, at: usize) -> u32 {
    (batch * DOCUMENTS + document) * 3 + u32::try_from(at).unwrap()
}

/// Puts a batch under the names of the one before.
fn put_batch(site: &Site, batch: u32) {
    let documents: Vec<Value> = (0..DOCUMENTS)
        .map(|document| {
            let names = IMAGES.map(|image| name(document, image));
            for (at, name) in names.iter().enumerate() {
                assert!(
                    !site.in_drop(name).exists(),
                    "{batch}: it was taken with the manifest before: {name}: {:#?}",
                    site.files()
                );
                site.put(name, picture(number(batch, document, at)));
            }
            of(&format!("{batch}-{document}"), batch * DOCUMENTS + document, &names.each_ref().map(String::as_str))
        })
        .collect();
    site.put_documents(MANIFEST, &documents);
}

/// Every picture of the batches up to this one is in one place, in the drop or in the hands of the worker.
#[track_caller]
fn assert_each_in_one_place(site: &Site, last: u32) {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in site.files().into_iter().filter(|file| file.ends_with(".png")) {
        places.entry(sha256(&fs::read(site.in_drop(&file)).unwrap())).or_default().push(file);
    }
    for batch in 0..=last {
        for (document, at) in (0..DOCUMENTS).flat_map(|document| (0..IMAGES.len()).map(move |at| (document, at))) {
            let found = places.remove(&sha256(&picture(number(batch, document, at)))).unwrap_or_default();
            assert_eq!(found.len(), 1, "batch {batch}, {}: {found:?}", name(document, IMAGES[at]));
        }
    }
    assert!(places.is_empty(), "nobody put these: {places:?}");
}

#[test]
fn killed_again_and_again_while_it_takes_each_file_is_in_one_place() {
    let site = paused("");
    let mut dice = sandbox::Dice::new(7);
    let mut kills = 0;
    let names = || {
        let names = (0..DOCUMENTS).flat_map(|document| IMAGES.map(|image| name(document, image)));
        names.map(|name| site.in_drop(&name))
    };
    for batch in 0..BATCHES {
        put_batch(&site, batch);
        site.wait_until_settled();
        for _ in 0..KILLS {
            // Before any of its moves; where fewer are left than that, it takes them all.
            let place = format!("before.take.file:{}", dice.draw() % 211 + 1);
            let mut command = site.command(&["run"]);
            command.env(killpoint::VARIABLE, &place);
            let mut daemon = Daemon::start(command, &site.at("log"));
            wait_until("it ends or has taken all", || !daemon.is_alive() || !names().any(|name| name.exists()));
            drop(daemon);
            kills += 1;
            assert_each_in_one_place(&site, batch);
            if !names().any(|name| name.exists()) {
                break;
            }
        }
        let mut daemon = site.daemon();
        daemon.wait_until("all its files are taken", || !names().any(|name| name.exists()));
        wait_until_taken(&site, &mut daemon, MANIFEST);
        daemon.terminate().expect(0);
        assert_each_in_one_place(&site, batch);
    }
    assert!(kills >= BATCHES, "{kills} kills tell nothing");
    site.run(&["resume"]).expect(0);
    site.run_once().expect(0);
    assert_each_in_one_place(&site, BATCHES - 1);
    assert_eq!(site.left(), Vec::<String>::new());
    let expected: Vec<(u32, [u32; 3])> =
        (0..BATCHES * DOCUMENTS).map(|one| (one, [0, 1, 2].map(|at| one * 3 + at))).collect();
    let expected: Vec<(u32, &[u32])> = expected.iter().map(|(one, numbers)| (*one, numbers.as_slice())).collect();
    assert_standing(&site, &expected);
    let receipts = site.receipt_paths(MANIFEST);
    assert!(receipts.iter().all(|path| read_receipt(path)["status"] == "done"), "{receipts:?}");
    assert_eq!(receipts.len(), BATCHES as usize);
}

/// The same while it sends, archives and takes at once, with documents that are refused among them.
#[test]
fn killed_at_any_moment_of_its_work_each_file_is_in_one_place() {
    let site = site_with("");
    let refused = profile(5);
    site.faults(&[&format!("upload_image=status-before:422,profile={refused}")]);
    let mut dice = sandbox::Dice::new(8);
    put_batch(&site, 0);
    site.wait_until_settled();
    for _ in 0..3 * KILLS {
        let calls = site.ledger().len() + usize::try_from(dice.draw() % 40).unwrap();
        let mut daemon = site.daemon();
        daemon.wait_until("some calls or the end", || site.ledger().len() >= calls || site.is_settled(MANIFEST));
        daemon.kill();
        assert_each_in_one_place(&site, 0);
    }
    site.run_once();
    wait_until("all is put away", || site.left().is_empty());
    assert_each_in_one_place(&site, 0);
    let receipt = site.receipt(MANIFEST);
    assert_eq!(receipt["counts"]["created"], DOCUMENTS - 1, "{}", receipt["counts"]);
    assert_eq!(site.summary().documents, u64::from(DOCUMENTS - 1));
}
