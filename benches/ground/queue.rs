//! What a database says, as far as it is compared here.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use passfort_ingest::queue::{Queue, Reader, WhenStuck};
use rusqlite::{Connection, types::ValueRef};
use xxhash_rust::xxh3::Xxh3;

/// The tables whose content is compared: all but the setting, which is drawn at random for a new database.
const TABLES: [&str; 12] = [
    "drop_folder",
    "batch",
    "job",
    "upload",
    "attempt",
    "invalid_entry",
    "identity",
    "arrival",
    "pause",
    "tally",
    "taking",
    "taking_file",
];

/// A job, as a request that is about to go out needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    pub state: String,
    pub creation: String,
    pub remote_id: Option<String>,
    /// The IDs of its uploads in their order, where they are known.
    pub uploads: Vec<Option<String>>,
}

/// What a database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    /// Of all that is in it.
    pub digest: u64,
    /// By profile; no two jobs here have the same.
    pub jobs: BTreeMap<String, JobRow>,
    /// The state of each batch, by its manifest.
    pub batches: BTreeMap<String, String>,
}

/// Opens a database as the worker does, checks it from end to end, and reads it.
pub fn read(path: &Path) -> Result<Says> {
    let queue = Queue::open(path, WhenStuck::Fail).context("the database cannot be opened")?;
    Reader::open(path).context("the database cannot be read")?;
    let connection = Connection::open(path)?;
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(check == "ok", "integrity_check: {check}");
    let orphans = connection.prepare("PRAGMA foreign_key_check")?.exists([])?;
    ensure!(!orphans, "foreign_key_check found something");
    let wrong: i64 = connection.query_row(
        "SELECT count(*) FROM tally WHERE jobs <> (SELECT count(*) FROM job
          WHERE job.drop_id = tally.drop_id AND job.state = tally.state)",
        [],
        |row| row.get(0),
    )?;
    ensure!(wrong == 0, "the tally counts wrong");
    let says = Says { digest: digest(&connection)?, jobs: jobs(&connection)?, batches: batches(&connection)? };
    drop(queue);
    Ok(says)
}

fn digest(connection: &Connection) -> Result<u64> {
    let mut hash = Xxh3::new();
    for table in TABLES {
        hash.update(table.as_bytes());
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => hash.update(b"n"),
                    ValueRef::Integer(number) => hash.update(&number.to_le_bytes()),
                    ValueRef::Real(number) => hash.update(&number.to_le_bytes()),
                    ValueRef::Text(text) | ValueRef::Blob(text) => {
                        hash.update(&text.len().to_le_bytes());
                        hash.update(text);
                    }
                }
            }
        }
    }
    Ok(hash.digest())
}

fn jobs(connection: &Connection) -> Result<BTreeMap<String, JobRow>> {
    let mut found = BTreeMap::new();
    let mut statement = connection.prepare(
        "SELECT profile_id, job.state, creation, job.remote_id, upload.remote_id FROM job JOIN upload ON job_id = job.id
          ORDER BY job.id, position",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (state, creation): (String, String) = (row.get(1)?, row.get(2)?);
        let job =
            found.entry(row.get(0)?).or_insert(JobRow { state, creation, remote_id: row.get(3)?, uploads: Vec::new() });
        job.uploads.push(row.get(4)?);
    }
    Ok(found)
}

fn batches(connection: &Connection) -> Result<BTreeMap<String, String>> {
    let mut statement = connection.prepare("SELECT manifest, state FROM batch")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
