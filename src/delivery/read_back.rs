//! A document whose answer was lost: asks whether it exists.

use super::{
    Delivery,
    judge::{Failed, ReadBack, attempt_of},
};
use crate::{
    account::Account,
    jitter::jitter,
    job::{Creation, Job, WaitReason},
    operation::Operation,
    outcome::{Outcome, Reply, outcome},
    queue::{
        QueueError,
        attempt::{End, Evidence},
    },
    verdict::Verdict,
};

impl Delivery {
    /// Asks whether the document exists; returns whether the job continues, which it does only if the document
    /// certainly does not.
    pub(super) async fn read_back(&self, account: &Account, job: &mut Job) -> Result<bool, QueueError> {
        let slot = match account.slot(Operation::ReadDocuments, 0).await {
            Ok(slot) => (slot, self.telemetry.begin_call()),
            Err(why) => {
                self.not_now(job, why).await?;
                return Ok(false);
            }
        };
        let asked = self.clock.now();
        let exchange = account.client.read_documents(&job.profile_id).await;
        let now = self.clock.now();
        let outcome = outcome(&exchange, now);
        self.learn(account, slot, &exchange, &outcome).await?;
        let mut attempt = attempt_of(&exchange, &outcome, None);
        let Outcome::Done(Reply::Documents(documents)) = &outcome else {
            let mut failed = self.judge.call(job, &outcome, &exchange, attempt, now, jitter());
            failed.lost = None;
            // Refused or used up: whether the document exists is still not known, so only a person can decide.
            failed.verdict = match failed.verdict {
                Verdict::Refuse { reason, .. } => {
                    Verdict::Hold { reason: format!("cannot find out whether the document exists: {reason}") }
                }
                Verdict::Wait { waits: WaitReason::Retry, delay, reason, trial } => {
                    Verdict::Wait { waits: WaitReason::ReadBack, delay, reason, trial }
                }
                other => other,
            };
            self.act(account, job, vec![failed]).await?;
            return Ok(false);
        };
        let asked = (asked, self.clock.moved_ms());
        match self.judge.read_back(documents, job, asked, exchange.took, jitter()) {
            ReadBack::Created(id) => {
                attempt.outcome = "adopted";
                self.telemetry.read_back(true);
                let created = End::Created { remote_id: id.to_owned() };
                let evidence = Evidence { attempts: vec![attempt], ..Evidence::default() };
                self.queue.end_try(job.id, created, evidence, now).await?;
                Ok(false)
            }
            ReadBack::Absent => {
                attempt.outcome = "absent";
                self.telemetry.read_back(false);
                job.creation = Creation::None;
                self.queue.absent(job.id, attempt).await?;
                Ok(true)
            }
            ReadBack::NotYet(verdict) => {
                attempt.outcome = "absent";
                let failed = Failed { verdict, attempt: Some(attempt), lost: None, in_doubt: None };
                self.act(account, job, vec![failed]).await?;
                Ok(false)
            }
        }
    }
}
