//! Between rows and the types of [`crate::job`].

use std::{path::Path, time::Duration};

use rusqlite::{Connection, Row};

use super::QueueError;
pub(super) use crate::clock::{moment, optional_moment};
use crate::{
    clock,
    entry::{EntryKind, ImageType, ProfileId, Sha256},
    job::{Creation, Declared, FileLocation, Job, Upload},
    problem::Problem,
};

/// The columns that [`job`] reads, in its order.
pub(super) const JOB: &str = "id, batch_id, drop_id, kind, profile_id, category, document_type, extracted_data, name, \
                              creation, sent_at, attempts, tried_ms, file_ms";

/// The error for a value that could not be read; quotes only a bounded part of it.
pub(super) fn unreadable(what: &'static str, found: &str) -> QueueError {
    QueueError::Unreadable { what, found: found.chars().take(60).collect() }
}

/// Reads a list of paths from a column; empty where there is none.
pub(super) fn paths(row: &Row<'_>, column: usize) -> Result<Vec<String>, rusqlite::Error> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

pub(super) fn problems(text: &str) -> Vec<Problem> {
    serde_json::from_str(text).unwrap_or_else(|_| vec![Problem::error(text, "see the log")])
}

/// Reads a place from two columns.
pub(super) fn place(row: &Row<'_>, column: usize) -> Result<Option<FileLocation>, rusqlite::Error> {
    let (root, path): (Option<String>, Option<String>) = (row.get(column)?, row.get(column + 1)?);
    Ok(root.zip(path).map(|(root, path)| FileLocation { root, path }))
}

pub(super) fn kind(word: &str) -> Result<EntryKind, QueueError> {
    match word {
        "document" => Ok(EntryKind::Document),
        "file" => Ok(EntryKind::File),
        other => Err(unreadable("an entry's kind", other)),
    }
}

pub(super) fn digest(bytes: &[u8]) -> Result<Sha256, QueueError> {
    bytes.try_into().map(Sha256).map_err(|_| unreadable("a digest", &bytes.len().to_string()))
}

/// A job without its uploads and their place.
pub(super) fn job(row: &Row<'_>) -> Result<Job, QueueError> {
    let profile: String = row.get(4)?;
    let creation: String = row.get(9)?;
    Ok(Job {
        id: row.get(0)?,
        batch_id: row.get(1)?,
        drop_id: row.get(2)?,
        kind: kind(&row.get::<_, String>(3)?)?,
        profile_id: ProfileId::parse(&profile).ok_or_else(|| unreadable("a profile's id", &profile))?,
        category: row.get(5)?,
        document_type: row.get(6)?,
        extracted_data: row.get(7)?,
        name: row.get(8)?,
        uploads: Vec::new(),
        image_root: String::new(),
        work: None,
        image_folder: String::new(),
        file_patience: Duration::MAX,
        clock_ms: clock::moved_ms(),
        creation: Creation::parse(&creation).ok_or_else(|| unreadable("a job's creation", &creation))?,
        sent_at: row.get(10)?,
        attempts: row.get(11)?,
        tried_ms: row.get::<_, i64>(12)?.try_into().unwrap_or(0),
        file_ms: row.get::<_, i64>(13)?.try_into().unwrap_or(0),
        refused_before: None,
    })
}

/// A job's uploads, in order.
pub(super) fn uploads(connection: &Connection, job_id: i64) -> Result<Vec<Upload>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, path, image_type, bytes, sha256, checksum, remote_id, lost, lies_root, lies_path, declared,
                changed_from
           FROM upload
          WHERE job_id = ?1 ORDER BY position",
    )?;
    let mut rows = statement.query([job_id])?;
    let mut uploads = Vec::new();
    while let Some(row) = rows.next()? {
        let image_type: Option<String> = row.get(2)?;
        uploads.push(Upload {
            position: row.get(0)?,
            path: row.get(1)?,
            image_type: image_type
                .map(|word| ImageType::parse(&word).ok_or_else(|| unreadable("an image's type", &word)))
                .transpose()?,
            bytes: row.get::<_, i64>(3)?.try_into().unwrap_or(0),
            sha256: digest(&row.get::<_, Vec<u8>>(4)?)?,
            checksum: row.get::<_, i64>(5)?.cast_unsigned(),
            remote_id: row.get(6)?,
            lost: row.get(7)?,
            moved_to: place(row, 8)?,
            declared: Declared::of_bits(row.get(10)?),
            changed_from: row.get::<_, Option<Vec<u8>>>(11)?.map(|bytes| digest(&bytes)).transpose()?,
        });
    }
    Ok(uploads)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn json(problems: &[Problem]) -> String {
    serde_json::to_string(problems).unwrap_or_else(|_| "[]".to_owned())
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The number of a drop, made at its first use.
pub(super) fn drop_id(connection: &Connection, name: &str) -> Result<i64, QueueError> {
    connection.prepare_cached("INSERT OR IGNORE INTO drop_folder (name) VALUES (?1)")?.execute([name])?;
    Ok(connection.prepare_cached("SELECT id FROM drop_folder WHERE name = ?1")?.query_row([name], |row| row.get(0))?)
}
