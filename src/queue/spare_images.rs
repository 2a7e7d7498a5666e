//! Images that the API has, of documents that were not created: the next document of their profile uses them.
//!
//! An ID belongs to one job. It moves to the job that uses it, so that no two documents have one image, and a retry of the
//! job that it came from sends its image again.

use rusqlite::{Connection, OptionalExtension, params};

use super::QueueError;
use crate::{
    entry::{EntryKind, ImageType},
    job::{Creation, Job},
};

/// SQL for the drops that are worked on with the account of one, whose number follows.
pub(super) const DROPS_OF_ACCOUNT: &str = "SELECT other.id FROM drop_folder AS own JOIN drop_folder AS other
     ON other.id = own.id OR other.account = own.account WHERE own.id =";

/// Gives a claimed job the IDs of images of failed and cancelled jobs of its account that have the same profile, digest and type.
/// A document that may have been created keeps its own.
pub(super) fn use_for(connection: &Connection, job: &mut Job) -> Result<(), QueueError> {
    if job.kind != EntryKind::Document || job.creation != Creation::None || job.refused_before.is_some() {
        return Ok(());
    }
    for upload in job.uploads.iter_mut().filter(|upload| upload.remote_id.is_none()) {
        let spare: Option<(i64, u32, String)> = connection
            .prepare_cached(&format!(
                "SELECT job.id, position, upload.remote_id FROM job JOIN upload ON job_id = job.id
                  WHERE profile_id = ?1 AND state IN ('failed', 'cancelled') AND creation = 'none'
                    AND kind = 'document' AND drop_id IN ({DROPS_OF_ACCOUNT} ?2)
                    AND (job.account IS NULL OR job.account IS (SELECT account FROM drop_folder WHERE id = ?2))
                    AND sha256 = ?3 AND image_type IS ?4 AND upload.remote_id IS NOT NULL
                  ORDER BY job.id, position LIMIT 1",
            ))?
            .query_row(
                params![
                    job.profile_id.as_str(),
                    job.drop_id,
                    upload.sha256.0,
                    upload.image_type.map(ImageType::as_str)
                ],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let Some((from, position, remote_id)) = spare else { continue };
        let mut give =
            connection.prepare_cached("UPDATE upload SET remote_id = ?3 WHERE job_id = ?1 AND position = ?2")?;
        give.execute(params![from, position, None::<String>])?;
        give.execute(params![job.id, upload.position, remote_id])?;
        upload.remote_id = Some(remote_id);
    }
    Ok(())
}
