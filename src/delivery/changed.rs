//! What it means for a job that one of its files is not there as it was checked: it waits, goes on with what is there now,
//! or ends.

use std::time::{Duration, Instant};

use super::{
    Delivery, Rechecked, Uploaded,
    files::{CHANGED, Recheck},
    judged::{Failed, trial_of},
};
use crate::{
    account::Account,
    inbox::beneath::Refusal,
    jitter::jitter,
    job::{Job, Upload, WaitReason},
    problem::Problem,
    queue::{QueueError, admission::CheckedFile, attempt::Attempt},
    verdict::{Patience, Trial, Verdict, wait_for_file},
};

/// Between two looks at a file that somebody has open.
const WRITER: Duration = Duration::from_secs(2);

/// Until a job is taken up again whose files were checked anew.
const AT_ONCE: Duration = Duration::from_millis(50);

impl Delivery {
    /// What it means that a file could not be opened.
    pub(super) fn unopened(&self, refusal: &Refusal, job: &Job, upload: &Upload) -> Uploaded {
        let problem = refusal.problem(&upload.path);
        match refusal {
            Refusal::Unsafe(_) => refused(problem, None, job, upload),
            Refusal::Missing | Refusal::Io(_) => self.wait_for(problem, None, job, upload),
        }
    }

    /// What it means that a file is not the one that was checked.
    pub(super) async fn changed(&self, job: &Job, upload: &Upload, attempt: Option<Attempt>) -> Uploaded {
        let waits = |delay: Duration, reason: String, trial: Trial, attempt| {
            let verdict = Verdict::Wait { waits: WaitReason::File, delay, reason, trial };
            Failed { verdict, attempt, lost: None, in_doubt: None }
        };
        match self.files.recheck(job, upload, Instant::now()).await {
            Recheck::NotYet(problem) => self.wait_for(problem, attempt, job, upload),
            // However long that takes: what is taken from under a writer is lost to both.
            Recheck::BeingWritten => {
                let reason = format!("{}: the file is still open for writing", upload.path);
                Uploaded::Failed(Box::new(waits(WRITER, reason, trial_of(job), attempt)))
            }
            Recheck::Bad(problem) => {
                let reason = format!("{CHANGED}, and now: {}", problem.reason);
                refused(Problem { reason, ..problem }, attempt, job, upload)
            }
            Recheck::Good(_) if trial_of(job).file >= job.file_patience => {
                let problem = Problem::error("the file keeps changing", "drop it once it is as it shall be, and retry");
                refused(problem, attempt, job, upload)
            }
            Recheck::Good(file) => {
                let reason = format!(
                    "{}: the file has changed since its manifest was taken in, and was checked anew",
                    upload.path
                );
                let failed = waits(AT_ONCE, reason, trial_of(job), attempt);
                Uploaded::Changed(Box::new(Rechecked { position: upload.position, file, failed }))
            }
        }
    }

    /// Waits for a file until its time is over.
    fn wait_for(&self, problem: Problem, attempt: Option<Attempt>, job: &Job, upload: &Upload) -> Uploaded {
        let reason = format!("{}: {}", upload.path, problem.reason);
        let patience = Patience { file: job.file_patience, ..self.patience };
        let Some(verdict) = wait_for_file(&reason, trial_of(job), Duration::ZERO, &patience, jitter()) else {
            let reason = format!("waited for in vain; the last: {}", problem.reason);
            return refused(Problem { reason, ..problem }, attempt, job, upload);
        };
        Uploaded::Failed(Box::new(Failed { verdict, attempt, lost: None, in_doubt: None }))
    }

    /// Goes on with files that were checked anew; refuses the job where that would make another entry of it, which exists
    /// already or which others wait for.
    pub(super) async fn take_rechecked(
        &self,
        account: &Account,
        job: &Job,
        anew: Vec<Rechecked>,
    ) -> Result<(), QueueError> {
        let files: Vec<(u32, CheckedFile)> = anew.iter().map(|changed| (changed.position, changed.file)).collect();
        let mut failed: Vec<Failed> = anew.into_iter().map(|changed| changed.failed).collect();
        if self.queue.recheck(job.id, files).await? {
            tracing::info!(job = job.id, files = failed.len(), "files that have changed were checked anew");
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

fn refused(problem: Problem, attempt: Option<Attempt>, job: &Job, upload: &Upload) -> Uploaded {
    let verdict = Verdict::Refuse { reason: format!("{}: {}", upload.path, problem.reason), problem };
    let failed = Failed { verdict, attempt, lost: None, in_doubt: None };
    Uploaded::Failed(Box::new(failed.about(upload, job.kind)))
}
