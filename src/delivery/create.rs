//! The document of a job: the intent is recorded, then it is sent.

use super::{Delivery, judge::attempt_of};
use crate::{
    account::Account,
    api::DocumentRequest,
    extracted_data::ExtractedData,
    jitter::jitter,
    job::{Creation, Job},
    operation::Operation,
    outcome::{Outcome, Reply, outcome},
    queue::{
        QueueError,
        attempt::{End, Evidence},
    },
};

impl Delivery {
    /// Creates the document of a job whose images all have an ID.
    pub(super) async fn create(&self, account: &Account, job: &mut Job) -> Result<(), QueueError> {
        let slot = match account.slot(Operation::CreateDocument, 0).await {
            Ok(slot) => (slot, self.telemetry.begin_call()),
            Err(why) => return self.not_now(job, why).await,
        };
        if self.is_stopped(job) {
            return self.give_back(job).await;
        }
        if job.creation == Creation::None {
            let now = self.clock.now();
            if self.queue.intend(job.id, now).await? {
                return self.cancel(job).await;
            }
            job.creation = Creation::Intended;
            (job.sent_at, job.clock_ms) = (Some(now.0), self.clock.moved_ms());
        }
        let request = DocumentRequest {
            category: job.category.clone(),
            document_type: job.document_type.clone(),
            image_ids: job.image_ids().unwrap_or_default(),
            extracted_data: job.extracted_data.as_deref().and_then(ExtractedData::parse),
        };
        let exchange = account.client.create_document(&job.profile_id, &request).await;
        let now = self.clock.now();
        let outcome = outcome(&exchange, now);
        self.learn(account, slot, &exchange, &outcome, &job.profile_id).await?;
        let attempt = attempt_of(&exchange, &outcome, None);
        if let Outcome::Done(Reply::Document { id }) = &outcome {
            let (created, evidence) =
                (End::Created { remote_id: id.clone() }, Evidence { attempts: vec![attempt], ..Evidence::default() });
            return self.queue.end_try(job.id, created, evidence, now).await;
        }
        if let Outcome::Lost(_) | Outcome::Unattributed(_) = &outcome {
            job.creation = Creation::Unknown;
            // The time in which it may still appear begins where the call has ended, whatever the answer was.
            (job.sent_at, job.clock_ms) = (Some(now.0), self.clock.moved_ms());
        } else {
            // Every other outcome says that nothing was created.
            job.creation = Creation::None;
        }
        let mut failed = self.judge.call(job, &outcome, &exchange, attempt, now, jitter());
        failed.lost = None;
        self.act(account, job, vec![failed]).await
    }
}
