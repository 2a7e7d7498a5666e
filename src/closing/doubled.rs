//! The addendum beside a receipt: entries of which the API was found to have more than one document, noticed after the
//! receipt was published. It never replaces a file; after a crash the same may be said in two of them.

use std::io;

use serde::Serialize;

use super::{ClosingError, access_of, receipt_folder};
use crate::{
    durable,
    queue::{Queue, Reader, verified::DoubledEntry},
    relative_path::{self, join},
};

const ENDING: &str = ".doubled.json";

#[derive(Serialize)]
struct Addendum<'a> {
    version: u32,
    manifest: &'a str,
    drop: &'a str,
    receipt: Option<&'a str>,
    entries: &'a [DoubledEntry],
}

/// Writes the addenda that are missing, of manifests whose receipts are published.
///
/// # Errors
///
/// [`ClosingError`]; what was written by then is not written again.
pub fn publish_addenda(queue: &Queue, reader: &Reader) -> Result<(), ClosingError> {
    for batch in queue.batches_to_amend()? {
        let entries = reader.doubled_entries(batch.id)?;
        let addendum = Addendum {
            version: 1,
            manifest: &batch.manifest,
            drop: &batch.drop,
            receipt: batch.receipt.as_deref(),
            entries: &entries,
        };
        let text = serde_json::to_vec_pretty(&addendum).map_err(io::Error::other).map_err(ClosingError::Receipt)?;
        let access = access_of(&batch)?;
        let folder = receipt_folder(&batch, access)?;
        let name = durable::fit(relative_path::name(&batch.manifest), ENDING);
        for number in 0.. {
            let candidate = durable::numbered(&name, number);
            match folder.publish(&candidate, access, |out| out.write_all(&text)) {
                Ok(_) => {
                    let jobs = entries.iter().map(|entry| entry.job).collect();
                    queue.amended(jobs, join(relative_path::parent(&batch.manifest), &candidate))?;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ClosingError::Receipt(error)),
            }
        }
    }
    Ok(())
}
