//! What was put onto each profile, as far as the queue knows, for `verify`.
//!
//! One profile at a time, so that memory grows with the jobs of the largest profile only; and each question is over before
//! the API is asked anything, so that a worker's log can be cut back however long that takes.

use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::{Deserialize, Serialize};

use super::Filter;
use crate::{
    entry::EntryKind,
    job::JobState,
    queue::{AsyncReader, Queue, QueueError, Reader, rows},
};

/// A job that has put something onto a profile, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedJob {
    pub job: i64,
    pub drop: String,
    pub reference: Option<String>,
    pub kind: EntryKind,
    pub state: JobState,
    /// The document's or file's ID, where it is known.
    pub remote_id: Option<String>,
    pub images: Vec<String>,
    /// How many answers to uploads of images were lost.
    pub lost: u64,
    /// Uploads of images that a worker may be sending, or whose answer it has not recorded yet.
    pub sending: Vec<Sending>,
    /// When it ended, in milliseconds since 1970.
    pub ended_at: Option<i64>,
    /// A person says that its document was removed on purpose.
    pub removed: bool,
    /// A person says that this document is its own, with whatever images.
    pub released: bool,
}

/// One try to upload an image, that has not come to an end which the queue knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sending {
    pub job: i64,
    pub position: i64,
    /// How many answers were lost before: once this one is, it is another try.
    pub lost: i64,
}

/// Jobs that have put something onto a profile, or may have, with the account that their drop is worked on with now.
const HAS_PUT: &str = "job.state <> 'duplicate' AND (job.account IS NULL OR job.account IS drop_folder.account)
    AND (job.state = 'done'
         OR EXISTS (SELECT 1 FROM upload WHERE job_id = job.id AND (upload.remote_id IS NOT NULL OR lost > 0)))";

impl Reader {
    /// The next profiles after this one onto which jobs that match the filter have put something, `most` of them at
    /// most.
    pub(crate) fn profiles(&self, filter: &Filter, after: &str, most: u32) -> Result<Vec<String>, QueueError> {
        let (meant, mut values) = filter.job_conditions();
        values.push(Box::new(after.to_owned()));
        // In the order of the index, so that a page costs what is on it, and not all jobs that there are.
        let sql = format!(
            "SELECT DISTINCT job.profile_id
               FROM job INDEXED BY job_of_profile
              CROSS JOIN batch ON batch.id = job.batch_id CROSS JOIN drop_folder ON drop_folder.id = job.drop_id
              WHERE {HAS_PUT} AND {meant} AND job.profile_id > ?{} ORDER BY job.profile_id LIMIT {most}",
            values.len()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map(params_from_iter(values), |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Profiles like those of [`Reader::profiles`], this many at most, chosen at random and in order.
    pub(crate) fn some_profiles(&self, filter: &Filter, many: u32) -> Result<Vec<String>, QueueError> {
        let (meant, values) = filter.job_conditions();
        let sql = format!(
            "SELECT profile_id FROM (
                SELECT DISTINCT job.profile_id AS profile_id FROM job
                 CROSS JOIN batch ON batch.id = job.batch_id CROSS JOIN drop_folder ON drop_folder.id = job.drop_id
                 WHERE {HAS_PUT} AND {meant})
              ORDER BY random() LIMIT {many}"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let found = statement.query_map(params_from_iter(values), |row| row.get(0))?;
        let mut profiles: Vec<String> = found.collect::<Result<_, _>>()?;
        profiles.sort_unstable();
        Ok(profiles)
    }

    /// What was put onto a profile, and what a worker may be putting there.
    pub(crate) fn on_profile(&self, profile: &str) -> Result<Vec<CreatedJob>, QueueError> {
        self.snapshot(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT job.id, drop_folder.name, job.reference, job.kind, job.state, job.remote_id, job.ended_at,
                        job.removed_at IS NOT NULL, job.released
                   FROM job INDEXED BY job_of_profile CROSS JOIN drop_folder ON drop_folder.id = job.drop_id
                  WHERE job.profile_id = ?1 AND (job.state = 'running' OR {HAS_PUT})
                  ORDER BY job.id"
            ))?;
            let mut found = statement.query([profile])?;
            let mut jobs = Vec::new();
            while let Some(row) = found.next()? {
                let mut ours = ours(row)?;
                if ours.kind == EntryKind::Document {
                    add_images(connection, &mut ours)?;
                }
                jobs.push(ours);
            }
            Ok(jobs)
        })
    }
}

fn ours(row: &rusqlite::Row<'_>) -> Result<CreatedJob, QueueError> {
    let (kind, state): (String, String) = (row.get(3)?, row.get(4)?);
    Ok(CreatedJob {
        job: row.get(0)?,
        drop: row.get(1)?,
        reference: row.get(2)?,
        kind: rows::kind(&kind)?,
        state: JobState::parse(&state).ok_or_else(|| rows::unreadable("a job's state", &state))?,
        remote_id: row.get(5)?,
        images: Vec::new(),
        lost: 0,
        sending: Vec::new(),
        ended_at: row.get(6)?,
        removed: row.get(7)?,
        released: row.get(8)?,
    })
}

/// Reads what is known of a job's images.
fn add_images(connection: &Connection, ours: &mut CreatedJob) -> Result<(), QueueError> {
    let mut statement = connection
        .prepare_cached("SELECT position, remote_id, lost FROM upload WHERE job_id = ?1 ORDER BY position")?;
    let mut rows = statement.query([ours.job])?;
    while let Some(row) = rows.next()? {
        let (position, id, lost): (i64, Option<String>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if id.is_none() && ours.state == JobState::Running {
            ours.sending.push(Sending { job: ours.job, position, lost });
        }
        ours.images.extend(id);
        ours.lost += u64::try_from(lost).unwrap_or(0);
    }
    Ok(())
}

impl AsyncReader {
    /// The next profiles after this one onto which jobs that match the filter have put something, `most` of them at
    /// most.
    pub(crate) async fn profiles(&self, filter: Filter, after: String, most: u32) -> Result<Vec<String>, QueueError> {
        self.ask(move |reader| reader.profiles(&filter, &after, most)).await
    }

    /// Profiles like those of [`Self::profiles`], this many at most, chosen at random and in order.
    pub(crate) async fn some_profiles(&self, filter: Filter, many: u32) -> Result<Vec<String>, QueueError> {
        self.ask(move |reader| reader.some_profiles(&filter, many)).await
    }

    /// What was put onto a profile, and what a worker may be putting there.
    pub(crate) async fn on_profile(&self, profile: &str) -> Result<Vec<CreatedJob>, QueueError> {
        let profile = profile.to_owned();
        self.ask(move |reader| reader.on_profile(&profile)).await
    }
}

/// What the last `verify` of everything came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When it ended, as RFC 3339.
    pub at: String,
    pub profiles: u64,
    /// Documents that are missing, changed or doubled.
    pub amiss: u64,
    /// Images that no document uses and no job knows of, of each profile as many at most as answers were lost there.
    pub leftover_images: u64,
}

/// Reads it; none where there has been no such `verify`, or another version wrote it.
pub(super) fn verified(connection: &Connection) -> Result<Option<Verified>, QueueError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT value FROM setting WHERE name = 'verified'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

impl Queue {
    /// Writes down what a `verify` of everything came to.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn note_verified(&self, verified: &Verified) -> Result<(), QueueError> {
        let text = serde_json::to_string(verified).unwrap_or_default();
        self.run_blocking("note_verified", move |connection| {
            connection.execute(
                "INSERT INTO setting VALUES ('verified', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [&text],
            )?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::{NOW, Site, attempt, document, take};

    fn profile(number: u64) -> String {
        format!("a2c4393a-e219-67a4-5ab4-{number:012x}")
    }

    /// Admits one document for each of these profiles, under its number as reference.
    fn admit(site: &Site, numbers: &[u64]) {
        let entries = numbers.iter().zip(0..).map(|(&number, at)| {
            let mut entry = document(at, &number.to_string());
            entry.profile_id = crate::entry::ProfileId::parse(&profile(number)).unwrap();
            take(entry, u8::try_from(number).unwrap())
        });
        site.admit_entries("a.json", entries.collect());
    }

    fn all(reader: &Reader, filter: &Filter) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().cloned().unwrap_or_default();
            let page = reader.profiles(filter, &after, 2).unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    #[test]
    fn profiles_come_in_pages_each_once_and_only_those_that_are_meant() {
        let site = Site::new();
        admit(&site, &[5, 3, 4, 1, 2]);
        let reader = site.reader();
        assert_eq!(all(&reader, &Filter::default()), Vec::<String>::new(), "nothing was put anywhere yet");
        for number in [1, 2, 3, 5] {
            site.create(site.job(&number.to_string()), &format!("document-{number}"));
        }
        assert_eq!(all(&reader, &Filter::default()), [1, 2, 3, 5].map(profile));
        let one = Filter { profile: Some(profile(3).to_uppercase()), ..Filter::default() };
        assert_eq!(all(&reader, &one), [profile(3)]);
        let one = Filter { reference: Some("5".into()), states: vec![JobState::Done], ..Filter::default() };
        assert_eq!(all(&reader, &one), [profile(5)]);
        let ids = Filter { ids: vec![site.job("1"), site.job("4")], ..Filter::default() };
        assert_eq!(all(&reader, &ids), [profile(1)]);
        assert_eq!(reader.some_profiles(&Filter::default(), 9).unwrap(), [1, 2, 3, 5].map(profile));
        assert_eq!(reader.some_profiles(&ids, 9).unwrap(), [profile(1)]);
        assert_eq!(reader.some_profiles(&Filter::default(), 2).unwrap().len(), 2);
    }

    #[test]
    fn an_upload_is_under_way_until_its_answer_is_recorded() {
        let site = Site::new();
        admit(&site, &[1]);
        let (job, reader) = (site.job("1"), site.reader());
        let now = || reader.on_profile(&profile(1)).unwrap();
        assert_eq!(now(), []);
        site.claim(job);
        assert_eq!(now()[0].sending, [Sending { job, position: 0, lost: 0 }]);
        let stored = site.queue.upload_stored(job, 0, "image".into(), true, attempt("upload_image", "done"), NOW);
        site.wait(stored).unwrap();
        assert_eq!((now()[0].sending.len(), now()[0].images.as_slice()), (0, &["image".to_owned()][..]));
    }
}
