//! Entries that ask for what the API has just refused: they end with the one that was refused.
//!
//! Two thousand entries of the same document left two thousand copies of its image at the API: each was uploaded before its
//! document was refused. Jobs of the same content end at once; those of other content with an image that was refused end
//! when they are claimed. Jobs that come later are tried: the API may have changed its mind.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    QueueError, rows,
    spare_images::DROPS_OF_ACCOUNT,
    transition::{self, Change, Expected},
};
use crate::{
    clock::Timestamp,
    job::{Job, JobState},
    problem::Problem,
};

/// Jobs that end in one transaction with the one that was refused, so that nobody waits for long. Of the others, the first
/// is sent again.
const AT_ONCE: u32 = 20_000;

const EQUAL_REFUSED: &str = "equal-refused";

/// What the API refused for good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedContent {
    /// The positions of the images, or the file, of which it would refuse the bytes on any profile.
    pub images: Vec<u32>,
}

/// Ends the jobs of the same account that ask for the same as this one, which is about to end as refused. Those first that wait for
/// it, so that none takes its place.
pub(super) fn end_equals(
    connection: &Connection,
    job_id: i64,
    problems: &[Problem],
    now: Timestamp,
) -> Result<(), QueueError> {
    let equals: Vec<(i64, String)> = connection
        .prepare_cached(&format!(
            "SELECT job.id, job.state FROM job AS refused JOIN job ON job.profile_id = refused.profile_id
              WHERE refused.id = ?1 AND job.id <> ?1 AND job.content = refused.content
                AND job.content_rule = refused.content_rule AND job.drop_id IN ({DROPS_OF_ACCOUNT} refused.drop_id)
                AND job.state IN ('queued', 'waiting') AND job.creation = 'none'
              ORDER BY job.id LIMIT ?2",
        ))?
        .query_map(params![job_id, AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let problems: Vec<Problem> = problems.iter().map(|problem| of_equal(job_id, problem)).collect();
    let reason = problems.first().map(|problem| problem.reason.as_str()).unwrap_or_default();
    for (equal, state) in equals {
        let state = JobState::parse(&state).ok_or_else(|| rows::unreadable("a job's state", &state))?;
        let change = Change::EqualRefused { reason, problems: &problems };
        transition::apply(connection, Expected::in_state(equal, state), &change, now)?;
    }
    Ok(())
}

/// Remembers images that were refused, for the other jobs that the queue has now.
pub(super) fn note_images(connection: &Connection, job_id: i64, positions: &[u32]) -> Result<(), QueueError> {
    for position in positions {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO refused_image (drop_id, kind, sha256, job_id, up_to)
                 SELECT drop_id, kind, sha256, job.id, (SELECT max(id) FROM job)
                   FROM job JOIN upload ON job_id = job.id WHERE job.id = ?1 AND position = ?2",
            )?
            .execute(params![job_id, position])?;
    }
    Ok(())
}

/// A person asks the API again.
pub(super) fn forget_images(connection: &Connection, job_id: i64) -> Result<(), QueueError> {
    connection
        .prepare_cached(&format!(
            "DELETE FROM refused_image WHERE (drop_id, kind, sha256) IN
                 (SELECT drop_folder.id, kind, sha256 FROM job JOIN upload ON job_id = job.id
                    JOIN drop_folder ON drop_folder.id IN ({DROPS_OF_ACCOUNT} job.drop_id) WHERE job.id = ?1)",
        ))?
        .execute([job_id])?;
    Ok(())
}

/// Whether an image of any job was refused.
pub(super) fn has_images(connection: &Connection) -> Result<bool, QueueError> {
    Ok(connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM refused_image)")?.query_row([], |row| row.get(0))?)
}

/// Why a claimed job need not be sent: one of its images was refused when the queue had it already.
pub(super) fn refused_before(connection: &Connection, job: &Job) -> Result<Option<Problem>, QueueError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT refused_image.job_id, job.problems FROM refused_image LEFT JOIN job ON job.id = refused_image.job_id
          WHERE refused_image.drop_id IN ({DROPS_OF_ACCOUNT} ?1) AND refused_image.kind = ?2 AND sha256 = ?3
            AND up_to >= ?4
          ORDER BY refused_image.job_id DESC LIMIT 1",
    ))?;
    for upload in job.uploads.iter().filter(|upload| upload.remote_id.is_none()) {
        let found: Option<(i64, Option<String>)> = statement
            .query_row(params![job.drop_id, job.kind.as_str(), upload.sha256.0, job.id], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        if let Some((refused, problems)) = found {
            let problem = problems.and_then(|text| rows::problems(&text).into_iter().next());
            let problem = problem.unwrap_or_else(|| Problem::error("the API refused the image", "use retry"));
            return Ok(Some(of_equal(refused, &problem).path(&upload.path)));
        }
    }
    Ok(None)
}

/// What was wrong with a job, for one that is equal to it.
fn of_equal(job_id: i64, problem: &Problem) -> Problem {
    if problem.code.as_deref() == Some(EQUAL_REFUSED) {
        return problem.clone();
    }
    Problem {
        reason: format!("the same was refused as job {job_id}: {}", problem.reason),
        // Of the other one.
        path: None,
        field: None,
        ..problem.clone()
    }
    .code(EQUAL_REFUSED)
}
