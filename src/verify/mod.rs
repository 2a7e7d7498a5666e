//! Asks the API whether what was created still stands, profile by profile, and what lies there unused.
//!
//! Reads only: two calls a profile, `GET collected_data` and `GET document_images`, neither of which leaves a trace in
//! the profile's audit trail (guide). They keep to the limits of the account as all calls do. Whether an image that no
//! document uses is listed is for the API to say (spec: the list is of the profile's images); where it lists none, none
//! is found, and nothing is said of what it keeps to itself.

pub mod compare;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use self::compare::{Finding, Sum, What, compare};
use crate::{
    account::{Account, NotNow},
    api::Exchange,
    clock::Timestamp,
    entry::ProfileId,
    outcome::{Operation, Outcome, PauseCause, Reply, outcome},
    queue::created::OnProfile,
    retry::RetryPolicy,
    verdict::text,
};

/// Why there is no point in asking on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The key is refused.
    #[error("the API refuses the key: {0}")]
    Key(String),
    /// No call has worked for too long.
    #[error("the API cannot be reached: {0}")]
    Unreachable(String),
    /// A person stopped it.
    #[error("stopped")]
    Stopped,
}

/// What all questions of a run share.
#[derive(Debug, Clone)]
pub struct Asking {
    /// How failed calls are tried again; `give_up_after` is counted from the last call that worked.
    pub retry: RetryPolicy,
    /// Ends every wait.
    pub stop: CancellationToken,
}

/// What became of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The profile.
    pub profile: String,
    /// In numbers.
    pub sum: Sum,
    /// One by one.
    pub findings: Vec<Finding>,
}

/// A question that has an answer, though perhaps not the one that was hoped for.
enum Said {
    Reply(Reply),
    /// It will never be answered for this profile.
    Refused(String),
}

impl Asking {
    /// Compares what the queue knows of a profile with what stands there. Safe to drop.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`] where other profiles would fare no better.
    pub async fn check(&self, account: Option<Arc<Account>>, known: OnProfile) -> Result<Checked, NoAnswer> {
        let OnProfile { profile, jobs } = known;
        let unreadable = |why: String| {
            let finding = Finding { finding: What::Unreadable, job: None, reference: None, id: None, detail: why };
            let sum = Sum { unreadable_profiles: 1, ..Sum::default() };
            Ok(Checked { profile: profile.clone(), sum, findings: vec![finding] })
        };
        let Some(id) = ProfileId::parse(&profile) else { return unreadable("it is no profile's ID".into()) };
        let Some(account) = account else {
            return unreadable("its drop is not configured any more, and there is no key but those of drops".into());
        };
        // The images first: a document that is made in between then has images that are in neither list, which is better
        // than images that seem to be without their document.
        let images = match self.ask(&account, Operation::ListImages, || account.client.list_images(&id)).await? {
            Said::Reply(Reply::Images(images)) => images,
            Said::Reply(_) => return unreadable("the answer is not a list of images".into()),
            Said::Refused(why) => return unreadable(why),
        };
        match self.ask(&account, Operation::ReadDocuments, || account.client.read_documents(&id)).await? {
            Said::Reply(Reply::Documents(standing)) => {
                let (sum, findings) = compare(&jobs, &standing, &images);
                Ok(Checked { profile, sum, findings })
            }
            Said::Reply(_) => unreadable("the answer is not a list of documents".into()),
            Said::Refused(why) => unreadable(why),
        }
    }

    async fn ask<F>(&self, account: &Account, operation: Operation, call: impl Fn() -> F) -> Result<Said, NoAnswer>
    where
        F: Future<Output = Exchange>,
    {
        let mut failed = 0_u32;
        loop {
            let slot = match account.slot(operation, 0).await {
                Ok(slot) => slot,
                Err(NotNow::Later(wait)) => {
                    self.wait(wait).await?;
                    continue;
                }
                // Nobody stops this process's accounts but itself, which it does not.
                Err(NotNow::Paused(cause)) => return Err(NoAnswer::Unreachable(cause.as_str().to_owned())),
            };
            if self.stop.is_cancelled() {
                return Err(NoAnswer::Stopped);
            }
            let began = Instant::now();
            let exchange = call().await;
            let outcome = outcome(&exchange, Timestamp::now());
            // A breaker would only say what is counted here.
            let _outage = account.learn(slot, &exchange, &outcome);
            let reason = match outcome {
                Outcome::Done(reply) => return Ok(Said::Reply(reply)),
                Outcome::Refused(reason) => return Ok(Said::Refused(text(operation, &reason))),
                // The pace knows how long to wait.
                Outcome::Throttled { .. } => continue,
                Outcome::Paused { cause: PauseCause::KeyRefused, reason } => {
                    let said = text(operation, &reason);
                    let works = account.key_works_since(began.into(), || key_works(account)).await;
                    return if works { Ok(Said::Refused(said)) } else { Err(NoAnswer::Key(said)) };
                }
                Outcome::Paused { cause: PauseCause::QuotaSpent, reason }
                | Outcome::TryAgain(reason)
                | Outcome::Lost(reason)
                | Outcome::SourceChanged(reason)
                | Outcome::SourceUnreadable(reason) => reason,
            };
            failed = failed.saturating_add(1);
            let asked = exchange.limits().and_then(|limits| limits.wait_after_failure(Timestamp::now()));
            let tried = account.without_success_for();
            // A list that is never understood is this profile's own affair where others are.
            let jitter = f64::from(failed % 8) / 8.0;
            match self.retry.delay(failed, tried, asked, jitter) {
                Some(_) if failed > MOST_TRIES && tried < exchange.took + RECENT => {
                    return Ok(Said::Refused(text(operation, &reason)));
                }
                Some(delay) => self.wait(delay).await?,
                None => return Err(NoAnswer::Unreachable(text(operation, &reason))),
            }
        }
    }

    async fn wait(&self, wait: Duration) -> Result<(), NoAnswer> {
        tokio::select! {
            () = self.stop.cancelled() => Err(NoAnswer::Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// A profile that fails so often while others work is given up.
const MOST_TRIES: u32 = 8;

/// Other calls worked so lately.
const RECENT: Duration = Duration::from_secs(30);

async fn key_works(account: &Account) -> bool {
    let exchange = account.client.whoami().await;
    matches!(outcome(&exchange, Timestamp::now()), Outcome::Done(_))
}
