//! A database that is damaged, or somebody else's: it is refused with a word on the file and the cure, and left as it was.

use std::{collections::BTreeMap, fs};

use rusqlite::Connection;

use crate::support::{Format, Site, entry, image};

/// A site whose queue has settled a document, all of it in the database's own file.
fn used() -> Site {
    let site = Site::new();
    drop_document(&site, 1);
    site.run_once().expect(0);
    let connection = Connection::open(site.at("state/queue.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    site
}

fn drop_document(site: &Site, number: u32) {
    let path = format!("{number}.png");
    site.put(&path, image(Format::Png, number));
    site.put_documents(&format!("{number}.manifest.json"), &[entry(&format!("d{number}"), number, &path)]);
}

/// The database's files, without the shared memory, which is nobody's data.
fn database(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(site.at("state")).unwrap().map(|entry| entry.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), file.path()))
        .filter(|(name, _)| name == "queue.db" || name == "queue.db-wal")
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

/// Every command that opens it says these words, ends with 2, and changes no byte.
#[track_caller]
fn assert_refused(site: &Site, words: &[&str]) {
    drop_document(site, 2);
    let before = database(site);
    let calls = site.ledger().len();
    for command in [&["run"][..], &["run", "--once"], &["import", "drop"], &["status"], &["jobs"], &["pause"]] {
        let mut finished = site.run(command).expect(2);
        for word in words {
            finished = finished.says(word);
        }
        assert!(database(site) == before, "{command:?} changed a file");
    }
    assert_eq!(site.ledger().len(), calls, "nothing was sent");
}

#[test]
fn one_whose_beginning_is_damaged() {
    let site = used();
    let mut bytes = fs::read(site.at("state/queue.db")).unwrap();
    bytes[..16].fill(0x55);
    site.write("state/queue.db", bytes);
    assert_refused(&site, &["state/queue.db", "beginning is damaged", "[queue] database", "backup"]);
}

#[test]
fn one_that_a_newer_release_wrote() {
    let site = used();
    let connection = Connection::open(site.at("state/queue.db")).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    // The last word on its version may still be in the log.
    assert!(database(&site).contains_key("queue.db-wal"));
    std::mem::forget(connection);
    assert_refused(&site, &["state/queue.db", "newer release", "install that release again"]);
}

#[test]
fn one_of_another_program_with_its_log() {
    let site = Site::new();
    let connection = Connection::open(site.at("state/queue.db")).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = wal; CREATE TABLE theirs(x); INSERT INTO theirs VALUES (1)")
        .unwrap();
    // That program was killed: nobody has brought its log into its database.
    for name in ["queue.db", "queue.db-wal"] {
        fs::copy(site.at(&format!("state/{name}")), site.at(&format!("log/{name}"))).unwrap();
    }
    drop(connection);
    for name in ["queue.db", "queue.db-wal"] {
        fs::copy(site.at(&format!("log/{name}")), site.at(&format!("state/{name}"))).unwrap();
    }
    assert_refused(&site, &["state/queue.db", "not a queue of passfort-ingest", "set [queue] database"]);
}

#[test]
fn a_page_that_is_met_later_stops_the_work_with_a_word() {
    let site = used();
    let path = site.at("state/queue.db");
    let page: u64 = {
        let connection = Connection::open(&path).unwrap();
        let of = "SELECT rootpage FROM sqlite_schema WHERE name = 'identity'";
        connection.query_row(of, [], |row| row.get::<_, u32>(0)).unwrap().into()
    };
    let mut bytes = fs::read(&path).unwrap();
    let start = usize::try_from((page - 1) * 4096).unwrap();
    bytes[start..start + 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();

    drop_document(&site, 2);
    site.wait_until_settled();
    for arguments in [&["run", "--once", "--give-up-after", "2s"][..], &["run"]] {
        // The daemon ends by itself too: continuing would only meet the same page again.
        site.run(arguments).expect(3).says("is damaged").says("state/queue.db").says("backup").says("work left");
    }
    assert_eq!(site.summary().documents, 1, "nothing is sent that could not be recorded");
    let left = site.left();
    let is_there = |name: &str| left.iter().any(|path| path.ends_with(name));
    assert!(left.len() == 2 && is_there("2.manifest.json") && is_there("2.png"), "{left:?}");
}

#[test]
fn a_log_of_garbage_is_no_log() {
    let site = used();
    site.write("state/queue.db-wal", vec![0x5A; 50_000]);
    drop_document(&site, 2);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 2);
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn a_folder_that_cannot_be_made() {
    let site = Site::new();
    drop_document(&site, 1);
    let config = fs::read_to_string(site.at("config.toml")).unwrap();
    site.write("a-file", "no folder");
    site.write("config.toml", config.replace("state/queue.db", "a-file/deeper/queue.db"));
    for command in [&["run"][..], &["run", "--once"], &["import", "drop"]] {
        site.run(command).expect(2).says("a-file").says("folder");
    }
}

#[test]
fn a_daemon_whose_queue_fails_for_good_ends_with_3_and_says_why() {
    let site = used();
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || true);
    while !daemon.log().contains("at work") {
        assert!(daemon.is_alive(), "{}", daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let connection = Connection::open(site.at("state/queue.db")).unwrap();
    connection.execute_batch("ALTER TABLE pause RENAME TO elsewhere").unwrap();
    drop_document(&site, 2);
    daemon.finish().expect(3).says("no such table: pause").says("work left");
}
