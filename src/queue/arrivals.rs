//! Manifests that are in a drop and not admitted yet, and what is known of those that were.

use std::{collections::HashMap, path::Path, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError, Reader, partner_notes,
    rows::{drop_id, text},
};
use crate::{clock::Timestamp, file_identity::Present, manifest_wait::SenderAdvice};

/// A manifest that cannot be admitted yet.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The drop's name.
    pub drop: String,
    /// Its path relative to the drop.
    pub manifest: String,
    /// Its file.
    pub file: Present,
    /// What it waits for.
    pub reason: String,
    /// What the text for its sender says.
    pub advice: SenderAdvice,
    /// When it was first seen.
    pub seen: Timestamp,
    /// When this look began.
    pub looked: Timestamp,
    /// The first of the files that it waits for.
    pub missing: Vec<String>,
    /// The first of those that are in use by other manifests.
    pub in_use: Vec<String>,
    /// Those of them that were replaced while several manifests waited for them.
    pub replaced: Vec<String>,
    /// How long it may wait before it is taken in as it is; `None` for ever.
    pub patience: Option<Duration>,
}

/// A manifest that an earlier process, or an earlier look, noted as waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedArrival {
    /// The identity of its file.
    pub file: String,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When that look was.
    pub checked_at: Timestamp,
    /// The first of the files that it waited for.
    pub missing: Vec<String>,
    /// The first of those that were in use by other manifests.
    pub in_use: Vec<String>,
    /// Those of them that were replaced while several manifests waited for them.
    pub replaced: Vec<String>,
}

/// The number by which the log names a manifest that is not taken in yet: of its path, with the queue's secret seed, so
/// that the log does not show the path, and the number stays the same.
pub(super) fn number(seed: u64, drop: &str, manifest: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(format!("{drop}\0{manifest}").as_bytes(), seed) % 1_000_000_000
}

impl Queue {
    /// The number of a manifest that is not taken in yet.
    pub(crate) fn arrival_number(&self, drop: &str, manifest: &str) -> u64 {
        number(self.seed(), drop, manifest)
    }

    /// Notes that a manifest waits, and returns when it, or what it is about, was first seen.
    pub(crate) fn note_arrival(&self, arrival: Arrival, now: Timestamp) -> Result<Timestamp, QueueError> {
        self.run_blocking("note_arrival", move |connection| {
            let drop_id = drop_id(connection, &arrival.drop)?;
            let missing = serde_json::to_string(&arrival.missing).ok();
            let text = |paths: &[String]| serde_json::to_string(paths).ok().filter(|_| !paths.is_empty());
            let (in_use, replaced) = (text(&arrival.in_use), text(&arrival.replaced));
            let (advice, file) = (serde_json::to_string(&arrival.advice).unwrap_or_default(), arrival.file.to_keep());
            let advice_key = partner_notes::key_of(&advice, &file);
            let noted: Option<String> = connection
                .prepare_cached("SELECT file FROM arrival WHERE drop_id = ?1 AND manifest = ?2")?
                .query_row(params![drop_id, arrival.manifest], |row| row.get(0))
                .optional()?;
            let is_the_same = noted.is_some_and(|noted| arrival.file.is_kept_as(&noted));
            // Another file under the same name is another arrival, so its time starts again. A first time that is still to
            // come was taken from a clock that has been corrected since.
            let first = connection
                .prepare_cached(
                    "INSERT INTO arrival (drop_id, manifest, file, first_seen, checked_at, reason, missing, in_use, replaced,
                                          advice, advice_key, patience_ms)
                     VALUES (?1, ?2, ?3, ?8, ?4, ?5, ?6, ?9, ?10, ?11, ?12, ?13)
                     ON CONFLICT (drop_id, manifest) DO UPDATE SET
                         first_seen = CASE WHEN ?7 THEN min(first_seen, excluded.first_seen)
                                           ELSE excluded.first_seen END,
                         file = excluded.file, checked_at = excluded.checked_at,
                         reason = excluded.reason, missing = excluded.missing, in_use = excluded.in_use,
                         replaced = excluded.replaced, advice = excluded.advice, advice_key = excluded.advice_key,
                         patience_ms = excluded.patience_ms
                     RETURNING first_seen",
                )?
                .query_row(
                    params![
                        drop_id,
                        arrival.manifest,
                        file,
                        arrival.looked.0.min(now.0),
                        arrival.reason,
                        missing,
                        is_the_same,
                        arrival.seen.0.min(now.0),
                        in_use,
                        replaced,
                        advice,
                        advice_key,
                        arrival.patience.and_then(|patience| i64::try_from(patience.as_millis()).ok())
                    ],
                    |row| row.get(0),
                )?;
            Ok(Timestamp(first))
        })
    }

    /// Forgets the waiting manifests of a drop that are no longer there. One that is there and was only not checked
    /// again keeps its time.
    pub(crate) fn forget_arrivals(&self, drop: &str, is_there: impl Fn(&str) -> bool) -> Result<usize, QueueError> {
        let drop = drop.to_owned();
        let (drop_id, mut gone) = self.run_blocking("forget_arrivals", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            let waiting = connection
                .prepare_cached("SELECT manifest FROM arrival WHERE drop_id = ?1")?
                .query_map([drop_id], |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()?;
            Ok((drop_id, waiting))
        })?;
        gone.retain(|manifest| !is_there(manifest));
        if gone.is_empty() {
            return Ok(0);
        }
        self.run_blocking("forget_arrivals", move |connection| forget(connection, drop_id, &gone))
    }

    /// Forgets these manifests of a drop, which are no longer there.
    pub(crate) fn forget_arrivals_of(&self, drop: &str, manifests: Vec<String>) -> Result<usize, QueueError> {
        let drop = drop.to_owned();
        self.run_blocking("forget_arrivals", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            forget(connection, drop_id, &manifests)
        })
    }

    /// Notes what keeps a drop's folder from being read, or that nothing does any more.
    pub(crate) fn drop_trouble(&self, drop: &str, trouble: Option<String>, now: Timestamp) -> Result<(), QueueError> {
        let drop = drop.to_owned();
        self.run_blocking("drop_trouble", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            connection.execute(
                "UPDATE drop_folder SET trouble = ?2,
                     trouble_since = CASE WHEN ?2 IS NULL THEN NULL ELSE coalesce(trouble_since, ?3) END
                  WHERE id = ?1",
                params![drop_id, trouble, now.0],
            )?;
            Ok(())
        })
    }

    /// Notes how changes in a drop's folder are noticed.
    pub(crate) fn drop_watching(&self, drop: &str, watching: String) -> Result<(), QueueError> {
        let drop = drop.to_owned();
        self.run_blocking("drop_watching", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            connection.execute("UPDATE drop_folder SET watching = ?2 WHERE id = ?1", params![drop_id, watching])?;
            Ok(())
        })
    }

    /// What is known of the manifest at this path in a folder: the newest batch made of it, and whether that is closed.
    pub(crate) fn known_manifest(
        &self,
        drop: &str,
        root: &Path,
        manifest: &str,
    ) -> Result<Option<KnownBatch>, QueueError> {
        let (drop, root, manifest) = (drop.to_owned(), text(root), manifest.to_owned());
        self.run_blocking("known_manifest", move |connection| known(connection, &drop, Some(&root), &manifest))
    }
}

fn forget(connection: &Connection, drop_id: i64, manifests: &[String]) -> Result<usize, QueueError> {
    let mut statement = connection.prepare_cached("DELETE FROM arrival WHERE drop_id = ?1 AND manifest = ?2")?;
    manifests.iter().map(|manifest| Ok(statement.execute(params![drop_id, manifest])?)).sum()
}

impl Reader {
    /// The manifests of a drop that were noted as waiting, by their paths.
    pub(crate) fn noted_arrivals(&self, drop: &str) -> Result<HashMap<String, NotedArrival>, QueueError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT manifest, file, first_seen, checked_at, missing, in_use, replaced FROM arrival
                  WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1)",
            )?
            .query_map([drop], |row| {
                let paths =
                    |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
                let noted = NotedArrival {
                    file: row.get(1)?,
                    first_seen: Timestamp(row.get(2)?),
                    checked_at: Timestamp(row.get(3)?),
                    missing: paths(row.get(4)?),
                    in_use: paths(row.get(5)?),
                    replaced: paths(row.get(6)?),
                };
                Ok((row.get(0)?, noted))
            })?
            .collect::<Result<_, _>>()?)
    }

    /// The same in whichever folder the drop is or was.
    pub(crate) fn known_manifest(&self, drop: &str, manifest: &str) -> Result<Option<KnownBatch>, QueueError> {
        known(&self.connection, drop, None, manifest)
    }
}

fn known(
    connection: &Connection,
    drop: &str,
    root: Option<&str>,
    manifest: &str,
) -> Result<Option<KnownBatch>, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT id, state, manifest_file, manifest_sha256, shelf IS NOT NULL, work_root IS NOT NULL
               FROM batch
              WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1) AND manifest = ?2
                AND root = coalesce(?3, root)
              ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![drop, manifest, root], |row| {
            let state: String = row.get(1)?;
            Ok(KnownBatch {
                batch_id: row.get(0)?,
                admitting: state == "admitting",
                closed: state == "closed",
                file: row.get(2)?,
                sha256: row.get(3)?,
                moved: row.get(4)?,
                taken: row.get(5)?,
            })
        })
        .optional()?)
}

/// A batch that was made of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBatch {
    /// Its number.
    pub batch_id: i64,
    /// Whether a crash interrupted its admission.
    pub admitting: bool,
    /// Whether its receipt is published and its files are moved.
    pub closed: bool,
    /// The identity of the file that it was made of.
    pub file: String,
    /// That file's digest.
    pub sha256: Vec<u8>,
    /// Whether its files were moved away.
    pub moved: bool,
    /// Whether they are in the work folder.
    pub taken: bool,
}
