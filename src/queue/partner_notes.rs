//! Which texts for people are to be beside the receipts of a drop, and which are there: of each manifest that waits, and of
//! each that is taken and not settled. The two are compared, so that nothing is lost by a kill: what differs is due.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Queue, QueueError, Reader, rows::text};
use crate::{clock::Timestamp, manifest_wait::SenderAdvice};

/// What a text is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// A manifest that is not taken yet.
    Waiting,
    /// One that is taken and not settled.
    Taken,
}

impl NoteKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Taken => "taken",
        }
    }

    fn parse(word: &str) -> Result<Self, QueueError> {
        match word {
            "waiting" => Ok(Self::Waiting),
            "taken" => Ok(Self::Taken),
            other => Err(super::rows::unreadable("a note's kind", other)),
        }
    }
}

/// Which text it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NoteKey {
    pub drop: String,
    /// Its path relative to the drop.
    pub manifest: String,
    pub kind: NoteKind,
}

/// A manifest whose `waiting.txt` is not there, or says something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueWait {
    pub drop: String,
    pub manifest: String,
    /// Changes with what is said.
    pub about: i64,
    pub since: Timestamp,
    pub advice: SenderAdvice,
    /// The text that is there.
    pub known: Option<KnownNote>,
}

/// A batch whose `taken.txt` is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTaking {
    pub drop: String,
    pub manifest: String,
    pub batch_id: i64,
    pub received_at: Timestamp,
    /// How many entries it has, where that is known.
    pub entries: Option<u64>,
    /// The drop's folder.
    pub root: PathBuf,
    pub receipts_dir: PathBuf,
    pub receipt_mode: u32,
    pub receipt_group: Option<String>,
    /// The text that is there.
    pub known: Option<KnownNote>,
}

/// A text that is there, or that a kill may have left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNote {
    pub key: NoteKey,
    pub root: PathBuf,
    pub receipts_dir: PathBuf,
    /// Its file's name, in the manifest's folder below `receipts_dir`.
    pub name: String,
}

/// What is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueNotes {
    pub waits: Vec<DueWait>,
    pub takings: Vec<DueTaking>,
    /// Texts about what is over.
    pub over: Vec<KnownNote>,
}

/// A number that changes with what the text for a sender says of a file.
pub(super) fn key_of(advice: &str, file: &str) -> i64 {
    xxhash_rust::xxh3::xxh3_64(format!("{file}\0{advice}").as_bytes()).cast_signed()
}

impl Reader {
    /// A number that changes when another connection has changed the database.
    pub(crate) fn version(&self) -> Result<i64, QueueError> {
        Ok(self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// Up to `most` of each kind of text that is due in these drops, whose receipts are in these folders; `taken.txt` and what
    /// is over in all drops. What began after `before` is not due yet.
    pub(crate) fn due_notes(
        &self,
        drops: &[(&str, &Path)],
        before: Timestamp,
        most: u32,
    ) -> Result<DueNotes, QueueError> {
        let drops: HashMap<&str, String> = drops.iter().map(|(drop, folder)| (*drop, text(folder))).collect();
        let drops = serde_json::to_string(&drops).unwrap_or_default();
        self.snapshot(|connection| {
            Ok(DueNotes {
                waits: due_waits(connection, &drops, before, most)?,
                takings: due_takings(connection, before, most)?,
                over: over(connection, most)?,
            })
        })
    }

    /// The text of a manifest that waits, where there is one, and what it is about.
    pub(crate) fn wait_note(&self, drop: &str, manifest: &str) -> Result<(Option<KnownNote>, Option<i64>), QueueError> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT root, folder, name, about FROM partner_note
                  WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1) AND manifest = ?2 AND kind = 'waiting'",
            )?
            .query_row([drop, manifest], |row| {
                let key = NoteKey { drop: drop.to_owned(), manifest: manifest.to_owned(), kind: NoteKind::Waiting };
                Ok((known(row, 0, key)?, row.get(3)?))
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }
}

fn due_waits(connection: &Connection, drops: &str, before: Timestamp, most: u32) -> Result<Vec<DueWait>, QueueError> {
    connection
        .prepare_cached(
            "SELECT drop_folder.name, arrival.manifest, advice_key, first_seen, advice, partner_note.root, folder,
                    partner_note.name
               FROM json_each(?1) AS wanted
               JOIN drop_folder ON drop_folder.name = wanted.key
               JOIN arrival ON arrival.drop_id = drop_folder.id
               LEFT JOIN partner_note ON partner_note.drop_id = arrival.drop_id
                    AND partner_note.manifest = arrival.manifest AND partner_note.kind = 'waiting'
              WHERE advice IS NOT NULL AND first_seen <= ?2
                AND (partner_note.about IS NOT advice_key OR folder <> wanted.value)
              LIMIT ?3",
        )?
        .query_map(params![drops, before.0, most], |row| {
            let advice: String = row.get(4)?;
            let advice = serde_json::from_str(&advice).unwrap_or_else(|_| SenderAdvice::unknown());
            let (drop, manifest): (String, String) = (row.get(0)?, row.get(1)?);
            let key = NoteKey { drop: drop.clone(), manifest: manifest.clone(), kind: NoteKind::Waiting };
            Ok(DueWait {
                known: known(row, 5, key)?,
                drop,
                manifest,
                about: row.get(2)?,
                since: Timestamp(row.get(3)?),
                advice,
            })
        })?
        .collect::<Result<_, _>>()
        .map_err(QueueError::from)
}

fn due_takings(connection: &Connection, before: Timestamp, most: u32) -> Result<Vec<DueTaking>, QueueError> {
    connection
        .prepare_cached(
            "SELECT drop_folder.name, batch.manifest, batch.id, received_at,
                    iif(batch.state = 'admitting', batch.entries, batch.admitted), batch.root, receipts_dir,
                    receipt_mode, receipt_group, partner_note.root, folder, partner_note.name
               FROM batch JOIN drop_folder ON drop_folder.id = batch.drop_id
               LEFT JOIN partner_note ON partner_note.drop_id = batch.drop_id
                    AND partner_note.manifest = batch.manifest AND partner_note.kind = 'taken'
              WHERE batch.state IN ('admitting', 'open', 'ended') AND batch.state <> 'closed'
                AND texts AND received_at <= ?1 AND (partner_note.about IS NOT batch.id OR folder <> receipts_dir)
                AND NOT EXISTS (SELECT 1 FROM batch AS later WHERE later.drop_id = batch.drop_id
                                   AND later.manifest = batch.manifest AND later.id > batch.id)
              LIMIT ?2",
        )?
        .query_map(params![before.0, most], |row| {
            let (drop, manifest): (String, String) = (row.get(0)?, row.get(1)?);
            let key = NoteKey { drop: drop.clone(), manifest: manifest.clone(), kind: NoteKind::Taken };
            Ok(DueTaking {
                known: known(row, 9, key)?,
                drop,
                manifest,
                batch_id: row.get(2)?,
                received_at: Timestamp(row.get(3)?),
                entries: row.get::<_, Option<i64>>(4)?.and_then(|entries| entries.try_into().ok()),
                root: row.get::<_, String>(5)?.into(),
                receipts_dir: row.get::<_, String>(6)?.into(),
                receipt_mode: row.get(7)?,
                receipt_group: row.get(8)?,
            })
        })?
        .collect::<Result<_, _>>()
        .map_err(QueueError::from)
}

/// A text that may be there, from three columns.
fn known(row: &Row<'_>, column: usize, key: NoteKey) -> Result<Option<KnownNote>, rusqlite::Error> {
    let (root, folder): (Option<String>, Option<String>) = (row.get(column)?, row.get(column + 1)?);
    let name: Option<String> = row.get(column + 2)?;
    Ok(root.zip(folder).zip(name).map(|((root, folder), name)| KnownNote {
        key,
        root: root.into(),
        receipts_dir: folder.into(),
        name,
    }))
}

fn over(connection: &Connection, most: u32) -> Result<Vec<KnownNote>, QueueError> {
    let mut select = connection.prepare_cached(
        "SELECT drop_folder.name, note.manifest, kind, root, folder, note.name
           FROM partner_note AS note JOIN drop_folder ON drop_folder.id = note.drop_id
          WHERE CASE kind
                WHEN 'waiting' THEN NOT EXISTS (SELECT 1 FROM arrival WHERE arrival.drop_id = note.drop_id
                                                   AND arrival.manifest = note.manifest)
                ELSE NOT EXISTS (SELECT 1 FROM batch WHERE batch.drop_id = note.drop_id
                                    AND batch.manifest = note.manifest AND batch.id >= coalesce(note.about, 0)
                                    AND state IN ('admitting', 'open', 'ended')) END
          LIMIT ?1",
    )?;
    let mut rows = select.query([most])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let kind: String = row.get(2)?;
        found.push(KnownNote {
            key: NoteKey { drop: row.get(0)?, manifest: row.get(1)?, kind: NoteKind::parse(&kind)? },
            root: row.get::<_, String>(3)?.into(),
            receipts_dir: row.get::<_, String>(4)?.into(),
            name: row.get(5)?,
        });
    }
    Ok(found)
}

impl Queue {
    /// Notes texts that are about to be written, with their names; one that is there already keeps its name.
    pub(crate) fn plan_notes(&self, notes: Vec<KnownNote>) -> Result<(), QueueError> {
        self.run_blocking("plan_notes", move |connection| {
            let mut insert = connection.prepare_cached(
                "INSERT INTO partner_note (drop_id, manifest, kind, root, folder, name)
                 SELECT id, ?2, ?3, ?4, ?5, ?6 FROM drop_folder WHERE name = ?1
                 ON CONFLICT DO UPDATE SET about = NULL, root = excluded.root, folder = excluded.folder,
                                           name = excluded.name
                  WHERE about IS NOT NULL OR name <> excluded.name OR folder <> excluded.folder",
            )?;
            for KnownNote { key, root, receipts_dir, name } in &notes {
                insert.execute(params![
                    key.drop,
                    key.manifest,
                    key.kind.as_str(),
                    text(root),
                    text(receipts_dir),
                    name
                ])?;
            }
            Ok(())
        })
    }

    /// Notes which texts were written, and what they are about, and which are gone.
    pub(crate) fn notes_done(&self, written: Vec<(NoteKey, i64)>, gone: Vec<NoteKey>) -> Result<(), QueueError> {
        self.run_blocking("notes_done", move |connection| {
            let mut update = connection.prepare_cached(
                "UPDATE partner_note SET about = ?4
                  WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1) AND manifest = ?2 AND kind = ?3",
            )?;
            for (key, about) in &written {
                update.execute(params![key.drop, key.manifest, key.kind.as_str(), about])?;
            }
            let mut delete = connection.prepare_cached(
                "DELETE FROM partner_note
                  WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1) AND manifest = ?2 AND kind = ?3",
            )?;
            for key in &gone {
                delete.execute(params![key.drop, key.manifest, key.kind.as_str()])?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest_wait::ManifestWait,
        queue::{
            arrivals::Arrival,
            test_support::{self, DROP, NOW, Site},
        },
    };

    const MOST: u32 = 10;

    fn later() -> Timestamp {
        Timestamp(NOW.0 + 60_000)
    }

    fn due(site: &Site) -> DueNotes {
        due_in(site, "/drop/receipts")
    }

    fn due_in(site: &Site, receipts: &str) -> DueNotes {
        site.reader().due_notes(&[(DROP, Path::new(receipts))], later(), MOST).unwrap()
    }

    fn wait(site: &Site, manifest: &str, cause: &ManifestWait) {
        let arrival = Arrival {
            drop: DROP.into(),
            manifest: manifest.into(),
            file: test_support::a_file(),
            reason: cause.reason(),
            advice: cause.for_sender(),
            seen: NOW,
            looked: NOW,
            missing: Vec::new(),
            in_use: Vec::new(),
            replaced: Vec::new(),
            patience: None,
        };
        site.queue.note_arrival(arrival, NOW).unwrap();
    }

    fn note(manifest: &str, kind: NoteKind) -> KnownNote {
        KnownNote {
            key: NoteKey { drop: DROP.into(), manifest: manifest.into(), kind },
            root: "/drop".into(),
            receipts_dir: "/drop/receipts".into(),
            name: format!("{manifest}.{}.txt", kind.as_str()),
        }
    }

    #[test]
    fn a_manifest_that_waits_is_due_once_for_each_thing_that_is_said() {
        let site = Site::new();
        wait(&site, "a.json", &ManifestWait::NoMarker("a.json.done".into()));
        assert_eq!(
            site.reader().due_notes(&[(DROP, Path::new("/r"))], Timestamp(NOW.0 - 1), MOST).unwrap(),
            DueNotes::default(),
            "too soon"
        );
        assert_eq!(
            site.reader().due_notes(&[("another", Path::new("/r"))], later(), MOST).unwrap(),
            DueNotes::default()
        );
        let [first] = &due(&site).waits[..] else { panic!("one is due") };
        assert_eq!((first.manifest.as_str(), first.since), ("a.json", NOW));
        let planned = note("a.json", NoteKind::Waiting);
        site.queue.plan_notes(vec![planned.clone()]).unwrap();
        assert_eq!(due(&site).waits.len(), 1, "it is not written yet");
        site.queue.notes_done(vec![(planned.key.clone(), first.about)], Vec::new()).unwrap();
        wait(&site, "a.json", &ManifestWait::NoMarker("a.json.done".into()));
        assert_eq!(due(&site), DueNotes::default());
        assert_eq!(due_in(&site, "/elsewhere").waits.len(), 1, "the folder is another one now");
        wait(&site, "a.json", &ManifestWait::Behind);
        let [other] = &due(&site).waits[..] else { panic!("something else is said") };
        assert_eq!(other.known, Some(planned.clone()));
        site.queue.forget_arrivals(DROP, |_| false).unwrap();
        assert_eq!(due(&site).over, vec![planned.clone()]);
        site.queue.notes_done(Vec::new(), vec![planned.key]).unwrap();
        assert_eq!(due(&site), DueNotes::default());
    }

    #[test]
    fn a_batch_is_due_until_its_receipt_is_published() {
        let site = Site::new();
        let batch = site.admit("a.manifest.json", &["one"]);
        let [taking] = &due(&site).takings[..] else { panic!("one is due") };
        assert_eq!(
            (taking.batch_id, taking.entries, taking.receipts_dir.ends_with("receipts")),
            (batch, Some(1), true)
        );
        let receipts_dir = taking.receipts_dir.clone();
        let planned = KnownNote { receipts_dir, ..note("a.manifest.json", NoteKind::Taken) };
        site.queue.plan_notes(vec![planned.clone()]).unwrap();
        site.queue.notes_done(vec![(planned.key.clone(), batch)], Vec::new()).unwrap();
        assert_eq!(due(&site), DueNotes::default());
        // A kill before the text was written.
        site.queue.plan_notes(vec![planned.clone()]).unwrap();
        assert_eq!(due(&site).takings[0].known, Some(planned.clone()));
        site.create(site.job("one"), "9a92b3c5-0000-4000-8000-000000000000");
        site.queue.name_receipt(batch, "r".into()).unwrap();
        site.queue.receipt_published(batch, crate::receipt::BatchStatus::Done).unwrap();
        let after = due(&site);
        assert_eq!((after.takings, after.over), (Vec::new(), vec![planned]));
    }
}
