//! Files that changed since they were checked: they are checked again, and replace what was checked.

use std::time::Instant;

use super::{
    Delivery,
    files::CHANGED,
    judge::{Failed, Rechecked},
    upload::Uploaded,
};
use crate::{
    account::Account,
    jitter::jitter,
    job::{Job, Upload},
    problem::Problem,
    queue::{QueueError, admission::CheckedFile, attempt::Attempt},
    verdict::Verdict,
};

impl Delivery {
    /// Checks a file that is not the one that was checked.
    pub(super) async fn changed(&self, job: &Job, upload: &Upload, attempt: Option<Attempt>) -> Uploaded {
        let found = self.files.recheck(job, upload, Instant::now()).await;
        match self.judge.rechecked(found, job, upload, attempt, jitter()) {
            Ok(rechecked) => Uploaded::Changed(Box::new(rechecked)),
            Err(failed) => Uploaded::Failed(failed),
        }
    }

    /// Continues with files that were checked again. Refuses the job where that would make it an entry that exists
    /// already, or where other jobs wait for what it was.
    pub(super) async fn accept_rechecked(
        &self,
        account: &Account,
        job: &Job,
        rechecked: Vec<Rechecked>,
    ) -> Result<(), QueueError> {
        let files: Vec<(u32, CheckedFile)> = rechecked.iter().map(|changed| (changed.position, changed.file)).collect();
        let mut failed: Vec<Failed> = rechecked.into_iter().map(|changed| changed.failed).collect();
        if self.queue.recheck(job.id, files).await? {
            tracing::info!(job = job.id, files = failed.len(), "files that have changed were checked again");
        } else {
            let problem = Problem::error(
                format!("{CHANGED}; with what it is now, this would be another entry"),
                "do not change files after their manifest is there; drop the manifest and its files again",
            );
            let verdict = Verdict::Refuse { reason: problem.reason.clone(), problem };
            failed.push(Failed { verdict, attempt: None, lost: None, in_doubt: None });
        }
        self.act(account, job, failed).await
    }
}
