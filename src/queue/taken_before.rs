//! Which manifests took the file under a name before.

use std::ops::ControlFlow;

use super::{QueueError, Reader, rows};
use crate::{
    claims::NameClaim,
    clock::Timestamp,
    entry::Sha256,
    file_identity::{self, FileIdentity},
    job::Declared,
};

/// A file that became part of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenBefore {
    /// The batch that took it.
    pub batch_id: i64,
    /// Whether the batch is not closed yet.
    pub is_open: bool,
    /// Its manifest.
    pub manifest: String,
    /// The manifest's digest.
    pub manifest_sha256: Sha256,
    /// What its entry said of the file.
    pub claim: NameClaim,
    /// When its manifest was admitted.
    pub at: Timestamp,
    /// What it was in the drop, where that is known.
    pub file: Option<FileIdentity>,
}

impl Reader {
    /// Calls `each` with the takings of the file with this `relative_path::path_key`, newest first, until it breaks off.
    pub(crate) fn taken_before(
        &self,
        key: i64,
        mut each: impl FnMut(TakenBefore) -> ControlFlow<()>,
    ) -> Result<(), QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT batch.manifest, job.profile_id, upload.declared, batch.received_at, upload.seen, batch.id,
                    batch.state <> 'closed', batch.manifest_sha256
               FROM upload CROSS JOIN job ON job.id = upload.job_id CROSS JOIN batch ON batch.id = job.batch_id
              WHERE upload.path_key = ?1 ORDER BY upload.job_id DESC",
        )?;
        let mut rows = statement.query([key])?;
        while let Some(row) = rows.next()? {
            let seen: Option<String> = row.get(4)?;
            let taken = TakenBefore {
                batch_id: row.get(5)?,
                is_open: row.get(6)?,
                manifest: row.get(0)?,
                manifest_sha256: rows::digest(&row.get::<_, Vec<u8>>(7)?)?,
                claim: NameClaim::of(&row.get::<_, String>(1)?, Declared::of_bits(row.get(2)?).sha256),
                at: Timestamp(row.get(3)?),
                file: seen.and_then(|seen| file_identity::read_checked(&seen)),
            };
            if each(taken).is_break() {
                break;
            }
        }
        Ok(())
    }
}
