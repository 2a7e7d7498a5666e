//! Opening the database: what it must be, the settings that durability rests on, and its migrations.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{DatabaseFault, QueueError, causes, guard, similar};
use crate::killpoint;

/// "PFIQ": marks a database as ours, so that a wrong path in the configuration destroys nothing.
const APPLICATION_ID: i64 = 0x5046_4951;

/// Each migration brings the schema from its index to the next number. Never edited once released.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_places.sql"),
    include_str!("migrations/0003_declared_and_by_profile.sql"),
    include_str!("migrations/0004_file_waits.sql"),
    include_str!("migrations/0005_holder.sql"),
    include_str!("migrations/0006_changed_from.sql"),
    include_str!("migrations/0007_content_rule.sql"),
    include_str!("migrations/0008_drop_ground.sql"),
    include_str!("migrations/0009_refused_images.sql"),
    include_str!("migrations/0010_spare_images.sql"),
    include_str!("migrations/0011_warnings.sql"),
    include_str!("migrations/0012_taking.sql"),
    include_str!("migrations/0013_similar.sql"),
    include_str!("migrations/0014_arrival_in_use.sql"),
    include_str!("migrations/0015_account.sql"),
    include_str!("migrations/0016_verified.sql"),
    include_str!("migrations/0017_recheck.sql"),
    include_str!("migrations/0018_adoption.sql"),
    include_str!("migrations/0019_lineage.sql"),
    include_str!("migrations/0020_absence.sql"),
    include_str!("migrations/0021_bounds.sql"),
    include_str!("migrations/0022_layouts.sql"),
    include_str!("migrations/0023_proofs.sql"),
    include_str!("migrations/0024_unchanged.sql"),
    include_str!("migrations/0025_partner_notes.sql"),
    include_str!("migrations/0026_causes.sql"),
    include_str!("migrations/0028_waits.sql"),
    include_str!("migrations/0029_lists.sql"),
    include_str!("migrations/0030_samples.sql"),
];

/// How long to wait for another process's commit. Ours take milliseconds; a backup tool may take seconds.
const BUSY: Duration = Duration::from_secs(10);

/// Whether a database of an older release may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// This process has the lock, so no process of the older release works on the database.
    Allowed,
    /// A daemon of the older release may be at work, whose claims the new triggers would refuse.
    Refused,
}

pub(super) fn open_for_writing(path: &Path, upgrade: Upgrade) -> Result<(Connection, u64), QueueError> {
    super::make_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let ours = || -> Result<u64, QueueError> {
        connection.busy_timeout(BUSY)?;
        steady_plans(&connection)?;
        untouched_while(&connection, || refuse_foreign(&connection, path))?;
        set(&connection, "journal_mode", "wal")?;
        set(&connection, "synchronous", "2")?;
        set(&connection, "foreign_keys", "1")?;
        set(&connection, "temp_store", "2")?;
        set(&connection, "cache_size", "-8192")?;
        // The log is cut back after a checkpoint, so that one large import does not keep its space for ever.
        set(&connection, "journal_size_limit", "16777216")?;
        connection.set_prepared_statement_cache_capacity(256);
        migrate(&connection, path, upgrade)?;
        seed_of(&connection)
    };
    match ours() {
        Ok(seed) => Ok((connection, seed)),
        Err(error) => Err(name_damage(error, path)),
    }
}

pub(super) fn open_for_reading(path: &Path) -> Result<Connection, QueueError> {
    if !path.try_exists().map_err(|source| io("look for", path, source))? {
        return Err(QueueError::Absent { path: path.to_owned() });
    }
    // A database in WAL mode needs its shared-memory file even for reading, so opening it read-only works only where
    // a writer has it open or the folder may be written: try the fuller right first.
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .or_else(|_| {
                Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            })?;
    let ours = || -> Result<(), QueueError> {
        connection.busy_timeout(BUSY)?;
        steady_plans(&connection)?;
        set(&connection, "query_only", "1")?;
        let version = untouched_while(&connection, || refuse_foreign(&connection, path))?;
        if version == 0 {
            return Err(QueueError::Absent { path: path.to_owned() });
        }
        if usize::try_from(version).is_ok_and(|version| version < MIGRATIONS.len()) {
            return Err(QueueError::Older { path: path.to_owned() });
        }
        Ok(())
    };
    match ours() {
        Ok(()) => Ok(connection),
        Err(error) => Err(name_damage(error, path)),
    }
}

fn io(action: &'static str, path: &Path, source: std::io::Error) -> QueueError {
    QueueError::Io { action, path: path.to_owned(), source }
}

fn name_damage(error: QueueError, path: &Path) -> QueueError {
    match error.fault() {
        Some(DatabaseFault::NotADatabase) => QueueError::Foreign { path: path.to_owned() },
        _ => error.about(path),
    }
}

/// Checks whose database it is, before anything is changed, and returns its schema's version.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<i64, QueueError> {
    // One snapshot: between two reads, another process may make the database, which then looked like a foreign one.
    let snapshot = connection.unchecked_transaction()?;
    let number = |pragma: &str| snapshot.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (id, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    snapshot.finish()?;
    if id != APPLICATION_ID && (id != 0 || version != 0 || tables != 0) {
        return Err(QueueError::Foreign { path: path.to_owned() });
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if version > known {
        return Err(QueueError::Newer { path: path.to_owned(), found: version, known });
    }
    Ok(version)
}

/// Where the database is refused meanwhile, its log is not checkpointed into it either: it belongs to another program, or
/// evidence.
fn untouched_while<T>(connection: &Connection, check: impl FnOnce() -> Result<T, QueueError>) -> Result<T, QueueError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let checked = check()?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(checked)
}

/// Has a statement planned once, whatever is bound to it. Without this, cached statements with a bound value in a
/// comparison are parsed and planned again at nearly every use: half of the writer's time.
fn steady_plans(connection: &Connection) -> Result<(), QueueError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Sets a pragma and reads it back: SQLite silently ignores what it does not know or cannot do.
fn set(connection: &Connection, pragma: &'static str, wanted: &'static str) -> Result<(), QueueError> {
    connection.execute_batch(&format!("PRAGMA {pragma} = {wanted}"))?;
    let found = connection.pragma_query_value(None, pragma, |row| {
        Ok(match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => other.as_str().unwrap_or_default().to_owned(),
        })
    })?;
    if found == wanted { Ok(()) } else { Err(QueueError::Pragma { pragma, wanted, found }) }
}

fn migrate(connection: &Connection, path: &Path, upgrade: Upgrade) -> Result<(), QueueError> {
    // All steps at once, so that no reader finds a schema between two releases meanwhile, and two processes that
    // start together do not both migrate.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let steps = usize::try_from(version).ok().and_then(|at| MIGRATIONS.get(at..)).unwrap_or_default();
    if steps.is_empty() && guard::is_current(connection)? {
        connection.execute_batch("ROLLBACK")?;
        return Ok(());
    }
    if version != 0 && upgrade == Upgrade::Refused {
        connection.execute_batch("ROLLBACK")?;
        return Err(QueueError::Older { path: path.to_owned() });
    }
    let done = connection
        .execute_batch(&format!(
            "{}; PRAGMA user_version = {}; PRAGMA application_id = {APPLICATION_ID};",
            steps.join(";\n"),
            MIGRATIONS.len()
        ))
        .map_err(QueueError::from)
        .and_then(|()| {
            let is_added = |table: &str| version != 0 && steps.iter().any(|step| step.contains(table));
            if is_added("TABLE image_of_profile") {
                similar::add_all(connection)?;
            }
            if is_added("TABLE cause ") {
                causes::assign_all(connection)?;
            }
            Ok(())
        })
        .and_then(|()| guard::install(connection))
        .and_then(|()| draw_numbers(connection));
    match done {
        Ok(()) => {
            killpoint::before("commit", "migrate");
            connection.execute_batch("COMMIT")?;
            killpoint::after("commit", "migrate");
            Ok(())
        }
        Err(error) => {
            connection.execute_batch("ROLLBACK")?;
            Err(error)
        }
    }
}

/// Draws what tells this database from others. In the transaction that makes the schema, because a reader that found the
/// schema without them failed: `status` beside the first start of a daemon.
fn draw_numbers(connection: &Connection) -> Result<(), QueueError> {
    connection.execute(
        "INSERT OR IGNORE INTO setting
            VALUES ('checksum_seed', abs(random() / 2)), ('start_number', lower(hex(randomblob(4))))",
        [],
    )?;
    Ok(())
}

/// The seed of a database that has one.
pub(super) fn seed_of(connection: &Connection) -> Result<u64, QueueError> {
    let text: String =
        connection.query_row("SELECT value FROM setting WHERE name = 'checksum_seed'", [], |row| row.get(0))?;
    text.parse().map_err(|_| QueueError::Unreadable { what: "the setting checksum_seed", found: text })
}

/// A number that changes when a database is made new, since its batches are then numbered from the beginning again: the
/// folders of taken files have it in their names.
pub(super) fn start_number(connection: &Connection) -> Result<String, QueueError> {
    Ok(connection.query_row("SELECT value FROM setting WHERE name = 'start_number'", [], |row| row.get(0))?)
}

/// Records the name by which the worker opens its database, in the file itself and not in the log, which has that name too.
pub(super) fn record_name(connection: &Connection, path: &Path) -> Result<(), QueueError> {
    let Some(name) = resolved(path) else { return Ok(()) };
    let changed = connection.execute(
        "INSERT INTO setting VALUES ('file_name', ?1)
             ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
        [name],
    )?;
    if changed > 0 {
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    Ok(())
}

/// Whether the database's file says that its worker last opened it by this name; the log is not read.
pub(super) fn has_name(path: &Path) -> bool {
    let read = || -> Option<String> {
        let mut address = reqwest::Url::from_file_path(path.canonicalize().ok()?).ok()?;
        address.set_query(Some("immutable=1"));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(address.as_str(), flags).ok()?;
        connection.query_row("SELECT value FROM setting WHERE name = 'file_name'", [], |row| row.get(0)).ok()
    };
    read().is_some_and(|name| resolved(path) == Some(name))
}

fn resolved(path: &Path) -> Option<String> {
    path.canonicalize().ok()?.into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_new_database_has_every_setting_and_opens_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/queue.db");
        let (first, seed) = open_for_writing(&path, Upgrade::Allowed).unwrap();
        let pragma = |name: &str| first.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(pragma("synchronous"), 2);
        assert_eq!(pragma("foreign_keys"), 1);
        drop(first);
        assert_eq!(open_for_writing(&path, Upgrade::Allowed).unwrap().1, seed);
        assert!(open_for_reading(&path).is_ok());
    }

    #[test]
    fn whoever_finds_the_schema_finds_the_numbers_of_the_database_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let connection = Connection::open(&path).unwrap();
        migrate(&connection, &path, Upgrade::Allowed).unwrap();
        assert!(seed_of(&connection).is_ok());
        assert_eq!(start_number(&connection).unwrap().len(), 8);
    }

    #[test]
    fn what_is_not_ours_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(open_for_writing(&path, Upgrade::Allowed), Err(QueueError::Foreign { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        let text = folder.path().join("text.db");
        fs::write(&text, "this is not a database at all, but a letter to somebody").unwrap();
        assert!(matches!(open_for_writing(&text, Upgrade::Allowed), Err(QueueError::Foreign { .. })));
        assert!(fs::read_to_string(&text).unwrap().starts_with("this is not"));
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let (connection, _) = open_for_writing(&path, Upgrade::Allowed).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(connection);
        assert!(matches!(open_for_writing(&path, Upgrade::Allowed), Err(QueueError::Newer { found: 99, .. })));
        assert!(matches!(open_for_reading(&path), Err(QueueError::Newer { found: 99, .. })));
    }

    #[test]
    fn an_older_schema_is_named_by_who_looks_and_brought_up_to_date_by_who_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let old = Connection::open(&path).unwrap();
        let first = MIGRATIONS[0];
        old.execute_batch(&format!(
            "{first}; PRAGMA user_version = 1; PRAGMA application_id = {APPLICATION_ID}; PRAGMA journal_mode = wal"
        ))
        .unwrap();
        assert!(matches!(open_for_reading(&path), Err(QueueError::Older { .. })));
        // A daemon of the older release kept running after such a change, and could not record what it had created.
        assert!(matches!(open_for_writing(&path, Upgrade::Refused), Err(QueueError::Older { .. })));
        assert_eq!(old.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap(), 1);
        open_for_writing(&path, Upgrade::Allowed).unwrap();
        assert!(open_for_reading(&path).is_ok());
        assert!(open_for_writing(&path, Upgrade::Refused).is_ok());
        old.execute_batch("DROP TRIGGER job_transition").unwrap();
        assert!(matches!(open_for_writing(&path, Upgrade::Refused), Err(QueueError::Older { .. })));
    }

    #[test]
    fn running_jobs_of_an_older_release_have_a_holder_afterwards_and_the_transitions_are_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let old = Connection::open(&path).unwrap();
        let steps = MIGRATIONS[..4].join(";");
        old.execute_batch(&format!(
            "{steps}; PRAGMA user_version = 4; PRAGMA application_id = {APPLICATION_ID}; PRAGMA journal_mode = wal;
             INSERT INTO drop_folder (name) VALUES ('a');
             INSERT INTO batch (drop_id, manifest, manifest_sha256, manifest_file, root, image_folder, image_root,
                                receipts_dir, after_success, state, received_at)
                VALUES (1, 'm', zeroblob(32), '', '', '', '', '', 'keep', 'open', 0)"
        ))
        .unwrap();
        for state in ["queued", "running"] {
            old.execute(
                "INSERT INTO job (batch_id, drop_id, entry_index, kind, profile_id, identity, content, state, created_at)
                 VALUES (1, 1, 0, 'file', 'a2c4393a-e219-67a4-5ab4-2186952e9038', zeroblob(32), zeroblob(32), ?1, 0)",
                [state],
            )
            .unwrap();
        }
        drop(old);
        let (connection, _) = open_for_writing(&path, Upgrade::Allowed).unwrap();
        let held = "SELECT group_concat(state) FROM job WHERE holder IS NOT NULL";
        assert_eq!(connection.query_row(held, [], |row| row.get::<_, String>(0)).unwrap(), "running");
        assert!(connection.execute("UPDATE job SET state = 'held'", []).is_err());
        drop(connection);

        // A trigger of another release is replaced, and one of this release is left alone.
        let version = |connection: &Connection| {
            connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0)).unwrap()
        };
        let other = Connection::open(&path).unwrap();
        other.execute_batch("DROP TRIGGER job_transition").unwrap();
        open_for_writing(&path, Upgrade::Allowed).unwrap();
        let before = version(&other);
        open_for_writing(&path, Upgrade::Allowed).unwrap();
        assert_eq!(version(&other), before);
        assert!(
            other.execute("UPDATE job SET state = 'done', remote_id = 'x', ended_at = 1 WHERE id = 1", []).is_err()
        );
    }

    #[test]
    fn what_failed_under_an_older_release_has_a_cause_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let old = Connection::open(&path).unwrap();
        let before = MIGRATIONS.iter().position(|step| step.contains("TABLE cause ")).unwrap();
        let steps = MIGRATIONS[..before].join(";");
        old.execute_batch(&format!(
            "{steps}; PRAGMA user_version = {before}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA journal_mode = wal;
             INSERT INTO drop_folder (name) VALUES ('a');
             INSERT INTO batch (drop_id, manifest, manifest_sha256, manifest_file, root, image_folder, image_root,
                                receipts_dir, after_success, state, received_at)
                VALUES (1, 'm', zeroblob(32), '', '', '', '', '', 'keep', 'open', 0)"
        ))
        .unwrap();
        for (index, said) in ["no profile 17", "No profile 'Anna'."].into_iter().enumerate() {
            let problems =
                format!(r#"[{{"reason": "the API refused it: create_document: HTTP 404: {said}", "cure": ""}}]"#);
            old.execute(
                "INSERT INTO job (batch_id, drop_id, entry_index, kind, profile_id, identity, content, state, problems,
                                  created_at, ended_at)
                 VALUES (1, 1, ?1, 'document', 'a2c4393a-e219-67a4-5ab4-2186952e9038', zeroblob(?1 + 1), zeroblob(32), 'failed', ?2,
                         0, 7)",
                rusqlite::params![i64::try_from(index).unwrap(), problems],
            )
            .unwrap();
        }
        drop(old);
        let (connection, _) = open_for_writing(&path, Upgrade::Allowed).unwrap();
        let found = connection
            .query_row("SELECT open, code, first_at FROM cause", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })
            .unwrap();
        assert_eq!(found, (2, "HTTP 404".to_owned(), 7));
    }

    #[test]
    fn a_setting_that_does_not_take_is_noticed() {
        let connection = Connection::open_in_memory().unwrap();
        // A database in memory has no log on disk.
        assert!(matches!(
            set(&connection, "journal_mode", "wal"),
            Err(QueueError::Pragma { pragma: "journal_mode", .. })
        ));
    }

    #[test]
    fn a_missing_database_is_reported_as_absent() {
        assert!(matches!(open_for_reading(Path::new("/nowhere/queue.db")), Err(QueueError::Absent { .. })));
    }
}
