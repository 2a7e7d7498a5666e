//! One worker on a database, whatever its name; and a database that is not the one that was worked with last sends nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::support::{Finished, Format, Site, entry, image};

fn drop_document(site: &Site, folder: &str, number: u32) {
    let path = format!("{number}.png");
    site.write(&format!("{folder}/{path}"), image(Format::Png, number));
    let manifest = serde_json::json!({ "version": 1, "documents": [entry(&format!("d{number}"), number, &path)] });
    site.write(&format!("{folder}/{number}.manifest.json"), manifest.to_string());
}

/// A site whose queue has created one document, and knows of another that is to come.
fn used() -> Site {
    let site = Site::new();
    drop_document(&site, "drop", 1);
    site.run_once().expect(0);
    merge_log(&site);
    drop_document(&site, "drop", 2);
    site
}

/// Brings all that was committed into the database's own file.
fn merge_log(site: &Site) {
    let connection = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// The program on a database of another name.
fn run_on(site: &Site, database: &str, arguments: &[&str]) -> Finished {
    site.wait_until_settled();
    let mut command = site.command(arguments);
    command.env("PASSFORT_INGEST__QUEUE__DATABASE", site.at(database));
    site.finish(command)
}

/// It ends with 2, says these words and the cure, and sends nothing; `status` and `jobs` work and say so too.
#[track_caller]
fn assert_refused(site: &Site, database: &str, words: &str) {
    let calls = site.ledger().len();
    for command in [&["run", "--once"][..], &["run"], &["import", "drop"]] {
        run_on(site, database, command).expect(2).says(words).says("`adopt");
    }
    assert_eq!(site.ledger().len(), calls, "nothing was sent");
    run_on(site, database, &["status"]).expect(0).says("REFUSED").says(words);
    run_on(site, database, &["jobs"]).expect(0);
    run_on(site, database, &["export"]).expect(0);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        // A socket is no part of it.
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// The mark in a drop's receipts folder.
fn mark(site: &Site, drop: &str) -> PathBuf {
    let files = fs::read_dir(site.at(&format!("{drop}/receipts"))).unwrap().map(|file| file.unwrap().path());
    let mut marks = files.filter(|path| path.display().to_string().contains("/.passfort-ingest-start-"));
    marks.next().expect("the folder is marked")
}

/// Lets a mark name a start of another database.
fn make_foreign(mark: &Path) {
    let text = fs::read_to_string(mark).unwrap();
    let (head, _) = text.split_once('\n').unwrap();
    fs::write(mark, format!("{head}\n0123456789abcdef\n")).unwrap();
}

#[test]
fn a_second_worker_is_refused_under_every_name_of_the_database_and_without_the_lock_file() {
    let (site, daemon) = Site::taken_in();
    // Under another name the log is not seen, only what the file holds.
    merge_log(&site);
    fs::hard_link(site.at("state/queue.db"), site.at("hard.db")).unwrap();
    symlink(site.at("state/queue.db"), site.at("symbolic.db")).unwrap();
    symlink(site.at("state"), site.at("other")).unwrap();
    fs::remove_file(site.at("state/queue.db.lock")).unwrap();
    for name in ["hard.db", "symbolic.db", "other/queue.db", "state/queue.db"] {
        run_on(&site, name, &["run", "--once"]).expect(2).says("already works on");
        run_on(&site, name, &["status"]).expect(0);
    }
    // SQLite keeps its log beside one name only, so nothing is written under another.
    run_on(&site, "hard.db", &["pause"]).expect(2).says("another name");
    run_on(&site, "symbolic.db", &["resume"]).expect(0);
    daemon.terminate().expect(0);
}

/// A random day went on under a hard link: the log with the newest commits was beside the other name.
#[test]
fn a_hard_link_is_refused_also_once_its_worker_was_killed() {
    let (site, daemon) = Site::taken_in();
    merge_log(&site);
    daemon.kill();
    fs::hard_link(site.at("state/queue.db"), site.at("hard.db")).unwrap();
    for command in [&["run", "--once"][..], &["adopt"], &["resume"]] {
        run_on(&site, "hard.db", command).expect(2).says("another name");
    }
    run_on(&site, "state/queue.db", &["resume"]).expect(0);
    run_on(&site, "state/queue.db", &["run", "--once"]).expect(0);
    assert_eq!(site.documents().len(), 2);
}

/// A random day refused the database's own name for ever: it had a link, an empty log, and no lineage yet.
#[test]
fn the_own_name_is_worked_under_although_there_is_a_link() {
    let site = Site::new();
    drop_document(&site, "drop", 1);
    site.run_once_killed_at("before.commit.begin_start");
    merge_log(&site);
    fs::hard_link(site.at("state/queue.db"), site.at("hard.db")).unwrap();
    assert!(!site.at("state/queue.db.lineage").exists());
    // A cleaner does that.
    fs::remove_file(site.at("state/queue.db.lock")).unwrap();
    for command in [&["run", "--once"][..], &["resume"]] {
        run_on(&site, "hard.db", command).expect(2).says("another name");
    }
    run_on(&site, "state/queue.db", &["run", "--once"]).expect(0);
    assert_eq!(site.documents().len(), 1);
}

#[test]
#[ignore = "mounts: `.ci/run` asks for it where only it sees them"]
fn a_second_worker_is_refused_by_a_bind_mount() {
    let (site, daemon) = Site::taken_in();
    fs::create_dir(site.at("bound")).unwrap();
    let mounted = std::process::Command::new("mount").arg("--bind").args([site.at("state"), site.at("bound")]).status();
    assert!(mounted.unwrap().success(), "nobody may mount anything here");
    run_on(&site, "bound/queue.db", &["run", "--once"]).expect(2).says("already works on");
    run_on(&site, "bound/queue.db", &["resume"]).expect(0);
    daemon.terminate().expect(0);
    assert!(std::process::Command::new("umount").arg(site.at("bound")).status().unwrap().success());
}

#[test]
fn a_database_goes_on_where_it_was_left() {
    let site = used();
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 2);
}

/// A random day restored a copy of before anything was sent; what had been taken since stayed in the work folder for ever.
#[test]
fn a_database_of_before_a_taking_is_refused_and_adopt_takes_up_what_was_taken() {
    let site = Site::new();
    site.run_once().expect(0);
    merge_log(&site);
    copy_folder(&site.at("state"), &site.at("earlier"));
    drop_document(&site, "drop", 1);
    site.run_once_killed_at("after.commit.admit_whole");
    for end in ["-wal", "-shm"] {
        fs::remove_file(site.at(&format!("state/queue.db{end}"))).ok();
    }
    fs::copy(site.at("earlier/queue.db"), site.at("state/queue.db")).unwrap();
    drop_document(&site, "drop", 2);
    assert_refused(&site, "state/queue.db", "another database was used at this path");
    site.run(&["adopt"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 2);
}

#[test]
fn an_earlier_copy_in_the_databases_place_sends_nothing() {
    for is_same_file in [false, true] {
        let site = used();
        copy_folder(&site.at("state"), &site.at("earlier"));
        site.run_once().expect(0);
        merge_log(&site);
        drop_document(&site, "drop", 3);
        if is_same_file {
            // The inode stays, so only the marks tell.
            fs::write(site.at("state/queue.db"), fs::read(site.at("earlier/queue.db")).unwrap()).unwrap();
        } else {
            fs::remove_file(site.at("state/queue.db")).unwrap();
            fs::copy(site.at("earlier/queue.db"), site.at("state/queue.db")).unwrap();
        }
        for end in ["-wal", "-shm"] {
            fs::remove_file(site.at(&format!("state/queue.db{end}"))).ok();
        }
        assert_refused(&site, "state/queue.db", "is older than what was done here");
    }
}

#[test]
fn a_copy_of_the_live_file_alone_sends_nothing_in_its_place() {
    let (site, mut daemon) = Site::taken_in();
    // What the file holds by then is whole; all later commits fit into the log.
    merge_log(&site);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both are created", || site.documents().len() == 2);
    daemon.kill();
    // The log is not copied, and the commits of this start are in it.
    fs::remove_file(site.at("state/queue.db-wal")).unwrap();
    drop_document(&site, "drop", 5);
    assert_refused(&site, "state/queue.db", "commits are missing");
}

#[test]
fn a_copy_from_within_a_start_sends_nothing_in_its_place() {
    let (site, mut daemon) = Site::taken_in();
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both are created", || site.documents().len() == 2);
    merge_log(&site);
    let copy = fs::read(site.at("state/queue.db")).unwrap();
    drop_document(&site, "drop", 5);
    daemon.wait_until("one more is created", || site.documents().len() == 3);
    daemon.kill();
    fs::remove_file(site.at("state/queue.db-wal")).unwrap();
    fs::write(site.at("state/queue.db"), copy).unwrap();
    drop_document(&site, "drop", 6);
    assert_refused(&site, "state/queue.db", "commits are missing");
}

#[test]
fn a_deleted_database_is_missed() {
    let site = used();
    fs::remove_file(site.at("state/queue.db")).unwrap();
    assert_refused(&site, "state/queue.db", "another database was used at this path");

    let site = used();
    fs::remove_dir_all(site.at("state")).unwrap();
    let receipts = site.at("drop/receipts").display().to_string();
    assert_refused(&site, "state/queue.db", &format!("another database put its receipts into {receipts}"));
}

#[test]
fn a_copy_beside_or_elsewhere_sends_nothing() {
    let site = used();
    fs::copy(site.at("state/queue.db"), site.at("state/second.db")).unwrap();
    assert_refused(&site, "state/second.db", "it was copied or moved");
    copy_folder(&site.at("state"), &site.at("elsewhere"));
    assert_refused(&site, "elsewhere/queue.db", "it was copied or moved");
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 2, "the original goes on");
}

#[test]
fn an_empty_mark_is_no_evidence_and_one_that_others_may_write_does_not_count() {
    let site = used();
    site.write("state/queue.db.lineage", "");
    make_foreign(&mark(&site, "drop"));
    fs::set_permissions(mark(&site, "drop"), fs::Permissions::from_mode(0o664)).unwrap();
    site.run_once().expect(0).says("does not count");
    assert_eq!(site.documents().len(), 2);
    fs::remove_file(mark(&site, "drop")).unwrap();
    drop_document(&site, "drop", 3);
    site.run_once().expect(0);
    assert!(mark(&site, "drop").exists(), "it is written again");

    fs::set_permissions(site.at("state/queue.db.lineage"), fs::Permissions::from_mode(0o660)).unwrap();
    drop_document(&site, "drop", 4);
    assert_refused(&site, "state/queue.db", "chmod go-w");
    fs::set_permissions(site.at("state/queue.db.lineage"), fs::Permissions::from_mode(0o600)).unwrap();
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 4);
}

#[test]
fn receipts_of_another_queue_stop_their_drop_alone() {
    let site = Site::new();
    site.another_drop("other", "");
    for (number, drop) in [(1, "drop"), (2, "other")] {
        drop_document(&site, drop, number);
    }
    site.run_once().expect(0);
    make_foreign(&mark(&site, "other"));
    for (number, drop) in [(3, "drop"), (4, "other")] {
        drop_document(&site, drop, number);
    }
    site.run_once().expect(3).says("another queue");
    assert_eq!(site.documents().len(), 3);
    site.run(&["status"]).expect(0).says("BAD GROUND").says("another queue");
    assert!(site.at("other/4.manifest.json").exists());
    assert_eq!(fs::read_to_string(mark(&site, "other")).unwrap().lines().nth(1), Some("0123456789abcdef"));
}

#[test]
fn a_receipts_folder_of_another_queue_is_refused_by_an_import() {
    let site = Site::new();
    site.put_folder("in", 1);
    site.run(&["import", "in"]).expect(0);
    make_foreign(&mark(&site, "in"));
    site.put_folder("in", 2);
    site.run(&["import", "in"]).expect(2).says("another queue").says("--receipts-to");
    assert_eq!(site.documents().len(), 1);
    site.run(&["import", "in", "--receipts-to", "receipts"]).expect(0);
    assert_eq!(site.documents().len(), 2);
}

#[test]
fn a_backup_is_made_beside_a_daemon_replaces_nothing_and_is_known_for_one() {
    let (site, daemon) = Site::taken_in();
    site.run(&["backup", "copy.db"]).expect(0).says("copy.db");
    site.run(&["backup", "copy.db"]).expect(2);
    site.run(&["resume"]).expect(0);
    let mut daemon = daemon;
    daemon.wait_until("both are created", || site.documents().len() == 2);
    daemon.terminate().expect(0);
    run_on(&site, "copy.db", &["jobs"]).expect(0).says("queued");
    drop_document(&site, "drop", 3);
    assert_refused(&site, "copy.db", "it is a backup of");
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(site.at(&format!("state/queue.db{end}"))).ok();
    }
    fs::copy(site.at("copy.db"), site.at("state/queue.db")).unwrap();
    assert_refused(&site, "state/queue.db", "it is a backup of");
}

/// The database's folder was lost along with every mark: the receipts alone say what was created.
#[test]
fn a_new_database_beside_receipts_of_ours_sends_nothing_until_a_person_has_seen_to_it() {
    for (arguments, created) in [(&["adopt"][..], 2), (&["adopt", "--nothing-was-lost"], 2)] {
        let site = used();
        fs::remove_file(mark(&site, "drop")).unwrap();
        fs::remove_dir_all(site.at("state")).unwrap();
        fs::create_dir(site.at("state")).unwrap();
        assert_refused(&site, "state/queue.db", "it is new");
        site.run(arguments).expect(0);
        site.run_once().expect(0);
        assert_eq!(site.documents().len(), created, "{arguments:?}");
    }
}

#[test]
fn receipts_that_name_nothing_created_or_are_a_strangers_stop_nothing() {
    let site = Site::new();
    site.write("drop/receipts/a.manifest.json.receipt.json", "{}");
    drop_document(&site, "drop", 1);
    site.run_once().expect(0);
}
