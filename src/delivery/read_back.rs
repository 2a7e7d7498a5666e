//! A document whose answer was lost: asks whether it stands.

use std::time::Duration;

use super::{
    Delivery,
    judged::{Failed, attempt_of, trial_of},
};
use crate::{
    account::Account,
    clock::Timestamp,
    jitter::jitter,
    job::{Creation, Job, WaitReason},
    operation::Operation,
    outcome::{Outcome, Reply, StandingDocument, outcome},
    queue::{
        QueueError,
        attempt::{End, Evidence},
    },
    verdict::{Trial, Verdict},
};

impl Delivery {
    /// Asks whether the document stands; returns whether the job goes on, which it does only if it certainly does not.
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
        let trial = trial_of(job);
        let Outcome::Done(Reply::Documents(documents)) = &outcome else {
            let mut failed = self.failed(job, &outcome, &exchange, attempt);
            failed.lost = None;
            // Refused or used up: whether the document stands is still not known, so only a person can settle it.
            failed.verdict = match failed.verdict {
                Verdict::Refuse { reason, .. } => {
                    Verdict::Hold { reason: format!("cannot find out whether the document stands: {reason}") }
                }
                Verdict::Wait { waits: WaitReason::Retry, delay, reason, trial } => {
                    Verdict::Wait { waits: WaitReason::ReadBack, delay, reason, trial }
                }
                other => other,
            };
            self.act(account, job, vec![failed]).await?;
            return Ok(false);
        };
        let ours = job.image_ids().unwrap_or_default();
        if let Some(id) = find(documents, &ours) {
            attempt.outcome = "adopted";
            self.telemetry.read_back(true);
            let created = End::Created { remote_id: id.to_owned() };
            let evidence = Evidence { attempts: vec![attempt], ..Evidence::default() };
            self.queue.end_try(job.id, created, evidence, now).await?;
            return Ok(false);
        }
        let sent = job.sent_at.map_or(asked, Timestamp);
        let patience = self.patience.certainly_absent_after(job.loss_answered);
        // Where the clock was moved meanwhile, the queue knows the time of sending by the new one: it is asked for next time.
        let waited = if self.clock.moved_ms() == job.clock_ms { asked.since(sent) } else { Duration::ZERO };
        attempt.outcome = "absent";
        if waited >= patience {
            self.telemetry.read_back(false);
            job.creation = Creation::None;
            self.queue.absent(job.id, attempt).await?;
            return Ok(true);
        }
        let attempts = trial.attempts.saturating_add(1);
        let delay = self.patience.retry.delay(attempts, Duration::ZERO, None, jitter()).unwrap_or(patience);
        let delay = delay.min(patience.saturating_sub(waited)).max(Duration::from_millis(50));
        let tried = trial.tried.saturating_add(exchange.took).saturating_add(delay);
        let reason = "the answer to its creation was lost, and it is not among the profile's documents yet".to_owned();
        let trial = Trial { attempts, tried, ..trial };
        let failed = Failed {
            verdict: Verdict::Wait { waits: WaitReason::ReadBack, delay, reason, trial },
            attempt: Some(attempt),
            lost: None,
            in_doubt: None,
        };
        self.act(account, job, vec![failed]).await?;
        Ok(false)
    }
}

/// The document that has exactly these images, in any order and letter case.
fn find<'a>(documents: &'a [StandingDocument], images: &[String]) -> Option<&'a str> {
    let sorted = |ids: &[String]| {
        let mut ids: Vec<String> = ids.iter().map(|id| id.to_ascii_lowercase()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let ours = sorted(images);
    documents.iter().find(|document| sorted(&document.image_ids) == ours).map(|document| document.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: &str, images: &[&str]) -> StandingDocument {
        StandingDocument {
            id: id.into(),
            category: String::new(),
            document_type: String::new(),
            image_ids: images.iter().map(|&image| image.into()).collect(),
        }
    }

    #[test]
    fn only_a_document_with_exactly_our_images_is_ours() {
        let standing = [document("more", &["a", "b", "c"]), document("less", &["a"]), document("ours", &["B", "a"])];
        assert_eq!(find(&standing, &["a".into(), "b".into()]), Some("ours"));
        assert_eq!(find(&standing, &["a".into(), "d".into()]), None);
        assert_eq!(find(&[], &["a".into()]), None);
    }
}
