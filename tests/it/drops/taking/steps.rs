//! A taking is ended at each of its steps, and the sender uses the names again before the next start.

use std::{sync::Mutex, thread};

use passfort_ingest::killpoint;

use super::*;

/// Cases that are tried at the same time; they mostly wait.
const AT_ONCE: usize = 4;

const NAMES: [&str; 4] = ["1-front.png", "1-back.png", "in/2-front.png", "in/2-back.png"];

/// Two documents of two images for a customer, the first numbered so.
fn put_batch(site: &Site, manifest: &str, customer: u32, first: u32) {
    for (number, name) in (first..).zip(NAMES) {
        if !site.in_drop(name).exists() {
            site.put(name, picture(number));
        }
    }
    let documents = [0, 2].map(|at| of(&format!("{customer}-{at}"), customer, &NAMES[at..at + 2]));
    site.put_documents(manifest, &documents);
}

/// Where each picture is, by its number.
fn places(site: &Site) -> BTreeMap<u32, Vec<String>> {
    let numbers: BTreeMap<Vec<u8>, u32> = (0..40).map(|number| (picture(number), number)).collect();
    let mut places: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for file in site.files().into_iter().filter(|file| file.ends_with(".png")) {
        let content = fs::read(site.in_drop(&file)).unwrap();
        places.entry(numbers[&content]).or_default().push(file);
    }
    places
}

#[track_caller]
fn assert_each_in_one_place(site: &Site, numbers: &[u32], when: &str) {
    let places = places(site);
    let found: Vec<u32> = places.keys().copied().collect();
    assert!(found == numbers && places.values().all(|places| places.len() == 1), "{when}: {numbers:?}: {places:?}");
}

/// Ends it there; returns none where it does not come there.
fn killed_at(place: &str) -> Option<Site> {
    let site = site_with("");
    put_batch(&site, "x.manifest.json", X, 10);
    site.wait_until_settled();
    let mut command = site.command(&["run", "--once"]);
    command.env(killpoint::VARIABLE, place);
    site.finish(command).code.is_none().then_some(site)
}

fn nothing_else_happens(place: &str) -> bool {
    let Some(site) = killed_at(place) else { return false };
    assert_each_in_one_place(&site, &[10, 11, 12, 13], place);
    site.run_once().expect(0);
    assert_each_in_one_place(&site, &[10, 11, 12, 13], place);
    let mut standing = standing(&site).remove(&profile(X)).unwrap_or_default();
    standing.sort();
    let mut expected = [10, 11, 12, 13].map(|number| sha256(&picture(number)));
    expected.sort();
    assert_eq!(standing, expected, "{place}: each once");
    assert_eq!(site.left(), Vec::<String>::new(), "{place}");
    true
}

/// The sender uses each name again that is free, for another customer's picture.
fn names_are_used_again(place: &str) {
    let Some(site) = killed_at(place) else { return };
    let free: Vec<u32> = (20..).zip(NAMES).filter(|(_, name)| !site.in_drop(name).exists()).map(|(at, _)| at).collect();
    if free.is_empty() {
        // Nothing was begun.
        return;
    }
    put_batch(&site, "y.manifest.json", Y, 20);
    let all: Vec<u32> = (10..14).chain(free.iter().copied()).collect();
    assert_each_in_one_place(&site, &all, place);
    let code = site.run_once().code;
    assert!(matches!(code, Some(0 | 1 | 3)), "{place}: {code:?}");
    assert_each_in_one_place(&site, &all, place);
    let standing = standing(&site);
    for (customer, own) in [(X, 10..14), (Y, 20..24)] {
        let own: Vec<String> = own.map(|number| sha256(&picture(number))).collect();
        let has = standing.get(&profile(customer)).cloned().unwrap_or_default();
        // What lies there before its manifest comes may be another's, which it then waits for.
        assert!(has.iter().all(|one| own.contains(one)), "{place}: {customer} has another's picture");
    }
    // Whatever the sender could take for free was free.
    if free.len() == NAMES.len() {
        assert_eq!(standing.get(&profile(Y)).map(Vec::len), Some(4), "{place}: {:?}", site.files());
        assert!(site.is_settled("x.manifest.json"), "{place}: {:?}", site.files());
    }
}

/// The manifest has gone, which is all that its sender waits for: he overwrites what lies there, and another manifest comes
/// when the worker is back.
fn names_are_overwritten_where_the_manifest_has_gone(place: &str, how: Replace) {
    let Some(site) = killed_at(place) else { return };
    if site.in_drop("x.manifest.json").exists() {
        return;
    }
    for (number, name) in (20..).zip(NAMES) {
        replace(&site, name, number, how);
    }
    site.wait_until_settled();
    site.run(&["run", "--once"]);
    let own: Vec<String> = (10..14).map(|number| sha256(&picture(number))).collect();
    let has = standing(&site).remove(&profile(X)).unwrap_or_default();
    assert!(has.iter().all(|one| own.contains(one)), "{place}, {how:?}: X has another's picture: {:?}", site.files());
    let documents = [0, 2].map(|at| of(&format!("{Y}-{at}"), Y, &NAMES[at..at + 2]));
    site.put_documents("y.manifest.json", &documents);
    site.run_once();
    let has = standing(&site).remove(&profile(Y)).unwrap_or_default();
    assert_eq!(has.len(), 4, "{place}, {how:?}: Y has its pictures: {:?}", site.files());
    assert!(site.is_settled("x.manifest.json"), "{place}, {how:?}: {:?}", site.files());
}

/// A drop that is not configured any more: its folder is nobody's, so what was half taken goes back there.
#[test]
fn what_was_half_taken_of_a_drop_that_is_no_longer_configured_is_put_back() {
    for place in ["after.commit.begin_taking", "before.take.file:3", "after.take.file:5", "after.take.sync:2"] {
        let site = killed_at(place).unwrap_or_else(|| panic!("it was not ended at {place}"));
        site.another_drop("other", "");
        let config = fs::read_to_string(site.at("config.toml")).unwrap();
        let (before, _) = config.split_once("[[drop]]").unwrap();
        let (_, other) = config.split_once("name = 'other'").unwrap();
        site.write("config.toml", format!("{before}[[drop]]\nname = 'other'{other}"));
        for _ in 0..2 {
            site.run_once().expect(0);
            assert_each_in_one_place(&site, &[10, 11, 12, 13], place);
            let mut left = site.left();
            left.retain(|file| NAMES.contains(&file.as_str()));
            assert_eq!(left.len(), NAMES.len(), "{place}: {:?}", site.files());
            assert!(site.in_drop("x.manifest.json").exists(), "{place}: {:?}", site.files());
        }
        assert_eq!(site.documents().len(), 0, "{place}");
        // Configured again, it goes on.
        site.write("config.toml", config);
        site.run_once().expect(0);
        assert_eq!(standing(&site)[&profile(X)].len(), 4, "{place}");
        assert_eq!(site.left(), Vec::<String>::new(), "{place}");
    }
}

#[test]
fn a_taking_that_ends_at_any_step_is_finished_or_undone_and_overwrites_nothing() {
    let is_step = |place: &&&str| place.contains(".take.") || place.contains("taking");
    let places = killpoint::PLACES.iter().filter(is_step);
    let cases: Vec<String> = places.flat_map(|place| [1, 2, 4].map(|nth| format!("{place}:{nth}"))).collect();
    let (cases, reached) = (Mutex::new(cases.into_iter()), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(place) = cases.lock().unwrap().next() else { break };
                    if nothing_else_happens(&place) {
                        names_are_used_again(&place);
                        WAYS.iter().for_each(|how| names_are_overwritten_where_the_manifest_has_gone(&place, *how));
                        *reached.lock().unwrap() += 1;
                    }
                }
            });
        }
    });
    let reached = reached.into_inner().unwrap();
    assert!(reached >= 8, "it was ended at {reached} steps only");
}

/// Runs until all is done or waits, and ends at the place on the way there.
#[track_caller]
fn run_to(site: &Site, place: &str) {
    site.wait_until_settled();
    let mut command = site.command(&["run", "--once"]);
    command.env(killpoint::VARIABLE, place);
    assert_eq!(site.finish(command).code, None, "it was not ended at {place}");
}

/// What was written of the copy was put away beside the manifest, as if it were a sender's file.
#[test]
fn a_copy_that_a_kill_cut_short_is_not_put_away_with_what_cannot_be_put_back() {
    let site = site_with("");
    site.put("a.png", picture(1));
    site.put("shared.png", picture(2));
    site.put_documents("x.manifest.json", &[of("x", X, &["a.png", "shared.png"])]);
    site.put_documents("y.manifest.json", &[of("y", X, &["shared.png", "late.png"])]);
    run_to(&site, "before.take.copy");
    assert!(site.left().iter().any(|file| file.ends_with(".tmp")), "{:?}", site.files());
    // What was to be copied is another one, and the name of what was taken is in use again.
    site.put("shared.png", picture(3));
    site.put("a.png", picture(4));
    site.run_once().expect(3);
    assert_eq!(site.receipt("x.manifest.json")["errors"][0]["code"], "name-in-use");
    assert_eq!(site.moved_to("failed"), ["a.png", "x.manifest.json"]);
    assert_eq!(site.left(), ["a.png", "shared.png", "y.manifest.json"]);
}

/// A kill before another name was recorded made the files of a stranger's folder those of the batch.
#[test]
fn the_files_of_a_folder_that_has_a_batchs_name_stay_where_they_are() {
    let site = site_with("");
    site.run_once().expect(0);
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    let sql = "SELECT value FROM setting WHERE name = 'start_number'";
    let start_number: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    let strangers = ["notes.txt", "1-front.png"].map(|name| format!(".passfort-ingest/{start_number}-1/{name}"));
    strangers.iter().for_each(|path| site.put(path, picture(30)));
    put_batch(&site, "x.manifest.json", X, 10);
    run_to(&site, "after.commit.begin_taking");
    site.run_once().expect(0);
    assert_eq!(standing(&site)[&profile(X)].len(), 4);
    let mut left = site.left();
    left.sort_by(|one, other| other.cmp(one));
    assert_eq!(left, strangers);
}
