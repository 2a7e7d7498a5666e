//! Where something is: by the numbers, names and IDs that people have at hand. By indexes only, each look is bounded, and so is
//! the time: what takes longer is for `why` and `jobs`.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ToSql, params};
use serde::Serialize;

use super::trace::same_end;
use crate::{
    queue::{QueueError, Reader, arrivals, rows, schema},
    relative_path,
};

/// So much is found at most.
const FOUND: usize = 20;

/// So many of the newest batches, and of the waiting manifests, are looked through for the end of a path.
const LOOKED_THROUGH: i64 = 20_000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SearchResult {
    pub found: Vec<SearchHit>,
    /// Whether there may be more than was looked at, or shown.
    pub partial: bool,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SearchHit {
    /// `job`, `manifest`, or `arrival`: a manifest that is not taken in yet.
    pub kind: &'static str,
    pub id: i64,
    pub state: String,
    /// Its reference, its path, or what it waits for.
    pub text: String,
    /// By what it was found.
    pub by: &'static str,
}

impl Reader {
    /// Looks for a job number, a profile, the ID of a document or file, a reference or its beginning, the name of a manifest, the
    /// path of a file, or a file that is waited for.
    pub(crate) fn search(&self, wanted: &str, most: Duration) -> Result<SearchResult, QueueError> {
        let until = Instant::now() + most;
        self.snapshot(|connection| {
            let mut search = SearchSteps { connection, wanted, found: Vec::new(), seen: BTreeSet::new() };
            let steps: [SearchStep; 7] = [
                |search| search.by_number(),
                |search| search.by_reference(),
                |search| search.by_id(),
                |search| search.by_path(),
                |search| search.by_manifest(),
                |search| search.by_awaited(),
                |search| search.by_beginning(),
            ];
            let mut partial = false;
            for step in steps {
                partial = Instant::now() >= until || search.found.len() >= FOUND;
                if partial {
                    break;
                }
                step(&mut search)?;
            }
            partial |= search.found.len() > FOUND;
            search.found.truncate(FOUND);
            Ok(SearchResult { found: search.found, partial })
        })
    }
}

/// One way to look.
type SearchStep = fn(&mut SearchSteps<'_>) -> Result<(), QueueError>;

struct SearchSteps<'a> {
    connection: &'a Connection,
    wanted: &'a str,
    found: Vec<SearchHit>,
    seen: BTreeSet<(&'static str, i64)>,
}

impl SearchSteps<'_> {
    fn add(&mut self, hit: SearchHit) {
        if self.seen.insert((hit.kind, hit.id)) {
            self.found.push(hit);
        }
    }

    /// Adds the jobs that a condition over `job` names, the newest first.
    fn jobs(&mut self, from: &str, values: &[&dyn ToSql], by: &'static str) -> Result<(), QueueError> {
        let sql = format!(
            "SELECT job.id, job.state, coalesce(reference, manifest || ', entry ' || entry_index)
               FROM (SELECT id FROM job {from} ORDER BY id DESC LIMIT {FOUND} + 1) AS one
               CROSS JOIN job ON job.id = one.id CROSS JOIN batch ON batch.id = batch_id ORDER BY job.id DESC"
        );
        let hits = self
            .connection
            .prepare_cached(&sql)?
            .query_map(values, |row| {
                Ok(SearchHit { kind: "job", id: row.get(0)?, state: row.get(1)?, text: row.get(2)?, by })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        hits.into_iter().for_each(|hit| self.add(hit));
        Ok(())
    }

    /// Adds the batches that a condition names, the newest first.
    fn batches(&mut self, condition: &str, values: &[&dyn ToSql], by: &'static str) -> Result<(), QueueError> {
        let sql = format!("SELECT id, state, manifest FROM batch WHERE {condition} ORDER BY id DESC LIMIT {FOUND} + 1");
        let hits = self
            .connection
            .prepare_cached(&sql)?
            .query_map(values, |row| {
                Ok(SearchHit { kind: "manifest", id: row.get(0)?, state: row.get(1)?, text: row.get(2)?, by })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        hits.into_iter().for_each(|hit| self.add(hit));
        Ok(())
    }

    /// A number alone, or as the log writes it.
    fn by_number(&mut self) -> Result<(), QueueError> {
        let (kind, number) = self.wanted.split_once(['=', ' ']).unwrap_or(("", self.wanted));
        let Ok(number) = number.trim().parse::<i64>() else { return Ok(()) };
        let is = |wanted: &str| kind.is_empty() || kind == wanted;
        if is("job") {
            self.jobs("WHERE id = ?1", &[&number], "number")?;
        }
        if is("batch") {
            self.batches("id = ?1", &[&number], "number")?;
        }
        if is("arrival") {
            self.arrivals("number", |arrival, _| arrival.id == number)?;
        }
        Ok(())
    }

    fn by_reference(&mut self) -> Result<(), QueueError> {
        let wanted = self.wanted;
        self.jobs("INDEXED BY job_reference WHERE reference IS NOT NULL AND reference = ?1", &[&wanted], "reference")
    }

    /// The beginning of a reference.
    fn by_beginning(&mut self) -> Result<(), QueueError> {
        let (wanted, after) = (self.wanted, format!("{}\u{10ffff}", self.wanted));
        // The first by the reference, not the newest, so that the index is enough.
        let sql = format!(
            "SELECT id, state, reference FROM job INDEXED BY job_reference
              WHERE reference IS NOT NULL AND reference > ?1 AND reference < ?2 ORDER BY reference LIMIT {FOUND} + 1"
        );
        let hits = self
            .connection
            .prepare_cached(&sql)?
            .query_map(params![wanted, after], |row| {
                Ok(SearchHit { kind: "job", id: row.get(0)?, state: row.get(1)?, text: row.get(2)?, by: "reference" })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        hits.into_iter().for_each(|hit| self.add(hit));
        Ok(())
    }

    /// A profile, or what was created.
    fn by_id(&mut self) -> Result<(), QueueError> {
        let lower = self.wanted.to_lowercase();
        if lower.len() == 36 {
            self.jobs("INDEXED BY job_of_profile WHERE profile_id = ?1", &[&lower], "profile")?;
        }
        let wanted = self.wanted;
        self.jobs("INDEXED BY job_created_as WHERE remote_id IS NOT NULL AND remote_id = ?1", &[&wanted], "ID")
    }

    /// A file by its path beneath a folder that manifests were taken in from.
    fn by_path(&mut self) -> Result<(), QueueError> {
        let wanted = self.wanted.trim_start_matches("./");
        let roots: Vec<(String, String, Option<String>, String)> = self
            .connection
            .prepare_cached(
                "SELECT DISTINCT root, image_root, shelf, image_folder
                   FROM (SELECT root, image_root, shelf, image_folder FROM batch ORDER BY id DESC LIMIT ?1)",
            )?
            .query_map([LOOKED_THROUGH], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect::<Result<_, _>>()?;
        let mut keys = BTreeSet::new();
        for (root, image_root, shelf, image_folder) in &roots {
            let beneath = [Some(root), Some(image_root), shelf.as_ref()].into_iter().flatten();
            let inside = beneath.filter_map(|folder| Path::new(wanted).strip_prefix(folder).ok());
            // As a manifest in a folder writes it.
            if Path::new(wanted).is_relative() {
                keys.insert(relative_path::path_key(Path::new(image_root), image_folder, wanted));
            }
            for relative in inside.chain([Path::new(wanted)].into_iter().filter(|path| path.is_relative())) {
                if let Some(relative) = relative.to_str().filter(|relative| !relative.is_empty()) {
                    keys.insert(relative_path::path_key(Path::new(image_root), "", relative));
                }
            }
        }
        for key in keys {
            self.jobs("WHERE id IN (SELECT job_id FROM upload WHERE path_key = ?1)", &[&key], "path")?;
        }
        Ok(())
    }

    /// The name of a manifest, or the end of its path.
    fn by_manifest(&mut self) -> Result<(), QueueError> {
        let wanted = self.wanted.trim_start_matches('/');
        self.batches(
            &format!(
                "id > (SELECT coalesce(max(id), 0) FROM batch) - {LOOKED_THROUGH}
                    AND substr('/' || root || '/' || manifest, -length(?1) - 1) = '/' || ?1"
            ),
            &[&wanted],
            "manifest",
        )?;
        self.arrivals("manifest", |arrival, wanted| same_end(&arrival.text, wanted))
    }

    /// A file that a manifest in a drop waits for.
    fn by_awaited(&mut self) -> Result<(), QueueError> {
        self.arrivals("awaited file", |arrival, wanted| {
            let mut files = arrival.state.split('\n').filter(|file| !file.is_empty());
            files.any(|file| same_end(file, wanted))
        })
    }

    /// Adds waiting manifests that are meant; `state` is what they wait for, while they are asked.
    fn arrivals(&mut self, by: &'static str, is_meant: impl Fn(&SearchHit, &str) -> bool) -> Result<(), QueueError> {
        let seed = schema::seed_of(self.connection)?;
        let hits: Vec<(SearchHit, String)> = self
            .connection
            .prepare_cached(
                "SELECT name, manifest, reason, missing, in_use FROM arrival
                   JOIN drop_folder ON drop_folder.id = drop_id LIMIT ?1",
            )?
            .query_map([LOOKED_THROUGH], |row| {
                let (drop, manifest): (String, String) = (row.get(0)?, row.get(1)?);
                let files = [rows::paths(row, 3)?, rows::paths(row, 4)?].concat().join("\n");
                let id = i64::try_from(arrivals::number(seed, &drop, &manifest)).unwrap_or(0);
                Ok((SearchHit { kind: "arrival", id, state: files, text: manifest, by }, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        let wanted = self.wanted;
        for (hit, reason) in hits.into_iter().filter(|(hit, _)| is_meant(hit, wanted)) {
            let text = format!("{}: {reason}", hit.text);
            self.add(SearchHit { state: "waiting".to_owned(), text, ..hit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::Site;

    fn found(site: &Site, wanted: &str) -> Vec<(&'static str, i64, &'static str)> {
        let result = site.reader().search(wanted, Duration::from_secs(60)).unwrap();
        result.found.iter().map(|hit| (hit.kind, hit.id, hit.by)).collect()
    }

    #[test]
    fn a_thing_is_found_by_whatever_a_person_has_of_it() {
        let site = Site::new();
        let batch = site.admit("sub/a.manifest.json", &["customer-1/passport", "customer-2/passport", "other"]);
        site.create(1, "9a92b3c5-0000-0000-0000-000000000001");
        let detail = site.detail(1);
        let profile = detail.job.profile_id.to_uppercase();
        for (wanted, hit) in [
            ("1", ("job", 1, "number")),
            ("job=2", ("job", 2, "number")),
            ("customer-2/passport", ("job", 2, "reference")),
            (profile.as_str(), ("job", 3, "profile")),
            ("9a92b3c5-0000-0000-0000-000000000001", ("job", 1, "ID")),
            ("a.manifest.json", ("manifest", batch, "manifest")),
            ("sub/a.manifest.json", ("manifest", batch, "manifest")),
            (detail.uploads[0].path.as_str(), ("job", 1, "path")),
        ] {
            let hits = found(&site, wanted);
            assert!(hits.contains(&hit), "{wanted}: {hits:?}");
        }
        assert_eq!(found(&site, "customer-"), [("job", 1, "reference"), ("job", 2, "reference")]);
        assert_eq!(found(&site, "nothing-like-it"), []);
    }

    #[test]
    fn it_is_bounded_in_number_and_in_time() {
        let site = Site::new();
        let references: Vec<_> = (0..40).map(|number| format!("many-{number}")).collect();
        site.admit("a.manifest.json", &references.iter().map(String::as_str).collect::<Vec<_>>());
        let result = site.reader().search("many-", Duration::from_secs(60)).unwrap();
        assert_eq!((result.found.len(), result.partial), (FOUND, true));
        let result = site.reader().search("many-1", Duration::ZERO).unwrap();
        assert_eq!((result.found.len(), result.partial), (0, true));
    }
}
