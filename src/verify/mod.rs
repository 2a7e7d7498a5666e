//! Asks the API whether what was created still exists, profile by profile, and what is there unused.
//!
//! Reads only: two calls a profile, `GET collected_data` and `GET document_images`, neither of which leaves a trace in
//! the profile's audit trail (guide). They keep to the limits of the account as all calls do. Whether an image that no
//! document uses is listed is up to the API (spec: the list is of the profile's images); an image that it does not list
//! is not found.

pub mod compare;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::compare::{Finding, KnownJobs, VerifyTotals, What, compare};
use crate::{
    account::{Account, SendBlocked},
    api::{LargeList, ListExchange},
    clock::Timestamp,
    entry::{EntryKind, ProfileId},
    jitter::jitter,
    job::JobState,
    operation::Operation,
    outcome::{DocumentList, ListDoubt, Outcome, PauseCause, Reply, StandingDocument, normal_id, outcome},
    queue::{AsyncReader, QueueError, views::created::CreatedJob},
    retry::RetryPolicy,
    verdict::text,
};

/// Why the verification ends early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The key is refused.
    #[error("the API refuses the key: {0}")]
    Key(String),
    /// No call has worked for too long.
    #[error("the API cannot be reached: {0}")]
    Unreachable(String),
    /// No call has worked for too long, because of a limit.
    #[error("a limit of the account leaves no room: {0}")]
    Limit(String),
    /// A person stopped it.
    #[error("stopped")]
    Stopped,
}

/// Why a profile was not checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Other profiles would fail in the same way.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// The queue cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Shared by all queries of a run.
#[derive(Debug, Clone)]
pub struct Asking {
    /// What was created; `None` where nothing is compared with it.
    pub queue: Option<AsyncReader>,
    /// How failed calls are tried again; `give_up_after` is counted from the last call that worked.
    pub retry: RetryPolicy,
    /// Ends every wait.
    pub stop: CancellationToken,
    /// How long a document may stay out of the lists after it was created.
    pub list_lag: Duration,
    /// Receives the first reason for waiting; further ones find it full.
    pub waits: mpsc::Sender<String>,
}

/// The result of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedProfile {
    pub profile: String,
    /// In numbers.
    pub sum: VerifyTotals,
    /// One by one.
    pub findings: Vec<Finding>,
    /// The jobs whose documents were looked for; none where the profile could not be read.
    pub jobs: Vec<i64>,
    /// Whether the API was asked, and gave no list.
    pub refused: bool,
}

/// The documents of a profile.
#[derive(Debug, Default)]
pub struct ReadList {
    pub list: DocumentList,
    /// Where it is long.
    _held: Option<LargeList>,
}

/// The answer to a query, or that there is none for this profile.
enum Said {
    Reply(Reply),
    /// It will never be answered for this profile.
    Refused(String),
}

impl Asking {
    /// Compares what the queue knows of a profile with what is there, for each account that puts something onto it;
    /// nearly always one. `account_of` gives the account of a drop. Cancel safe.
    ///
    /// # Errors
    ///
    /// Those of the queue, and [`NoAnswer`] where other profiles would fail in the same way.
    pub async fn check<'a>(
        &self,
        account_of: impl Fn(&str) -> Option<&'a Arc<Account>>,
        profile: &str,
    ) -> Result<Vec<CheckedProfile>, VerifyError> {
        let mut parts: BTreeMap<String, (Option<Arc<Account>>, Vec<CreatedJob>)> = BTreeMap::new();
        for job in self.on_profile(profile).await? {
            let account = account_of(&job.drop);
            let part = parts.entry(scope(account)).or_insert_with(|| (account.map(Arc::clone), Vec::new()));
            part.1.push(job);
        }
        let mut checked = Vec::new();
        for (scope_of_part, (account, before)) in parts {
            // A document that another account's worker has not created yet cannot be checked.
            if before.iter().all(|job| job.state == JobState::Running && job.images.is_empty() && job.lost == 0) {
                continue;
            }
            let is_ours = |job: &CreatedJob| scope(account_of(&job.drop)) == scope_of_part;
            checked.push(self.check_part(account, profile, before, is_ours).await?);
        }
        Ok(checked)
    }

    async fn on_profile(&self, profile: &str) -> Result<Vec<CreatedJob>, QueueError> {
        match &self.queue {
            Some(queue) => queue.on_profile(profile).await,
            None => Ok(Vec::new()),
        }
    }

    async fn check_part(
        &self,
        account: Option<Arc<Account>>,
        profile: &str,
        before: Vec<CreatedJob>,
        is_ours: impl Fn(&CreatedJob) -> bool,
    ) -> Result<CheckedProfile, VerifyError> {
        let unread = |why: String, refused: bool| {
            let (finding, ids) = (What::Unreadable, Vec::new());
            let finding = Finding { finding, job: None, reference: None, id: None, ids, detail: why };
            let sum = VerifyTotals { unreadable_profiles: 1, ..VerifyTotals::default() };
            let (profile, findings, jobs) = (profile.to_owned(), vec![finding], Vec::new());
            Ok(CheckedProfile { profile, sum, findings, jobs, refused })
        };
        let unreadable = |why: String| unread(why, true);
        let Some(id) = ProfileId::parse(profile) else { return unread("it is no profile's ID".into(), false) };
        let Some(account) = account else {
            let why = "its drop is not configured any more, and there is no key but those of drops";
            return unread(why.into(), false);
        };
        // The images first: a document that is made in between then has images that are in neither list, which is better
        // than images that seem to be without their document.
        // Long lists are held one profile at a time.
        let mut large = None;
        let read = |large| account.client.list_images(&id, large);
        let images = match self.ask(&account, Operation::ListImages, &mut large, read).await? {
            Said::Reply(Reply::Images(images)) => images,
            Said::Reply(_) => return unreadable("the answer is not a list of images".into()),
            Said::Refused(why) => return unreadable(why),
        };
        let expects_some = before.iter().any(|job| job.state == JobState::Done && job.kind == EntryKind::Document);
        let mut reread = false;
        let standing = loop {
            let asked = Timestamp::now();
            let read = |large| account.client.read_documents(&id, large);
            let standing = match self.ask(&account, Operation::ReadDocuments, &mut large, read).await? {
                Said::Reply(Reply::Documents(list)) => {
                    // An answer without a list says nothing of documents that must be there.
                    let matters = |doubt: &ListDoubt| *doubt != ListDoubt::NoList || expects_some;
                    match list.doubts.iter().find(|doubt| matters(doubt)) {
                        None => list.documents,
                        Some(doubt) => {
                            return unreadable(format!("the list of documents is not understood: {}", doubt.as_str()));
                        }
                    }
                }
                Said::Reply(_) => return unreadable("the answer is not a list of documents".into()),
                Said::Refused(why) => return unreadable(why),
            };
            // One that was created a moment ago may not be listed yet.
            match self.listed_later(&before, &standing, asked).filter(|_| !reread) {
                Some(wait) => self.wait(wait).await?,
                None => break standing,
            }
            reread = true;
        };
        // The queue last: a worker has recorded by now what the API has listed of its, or is about to.
        let mut known = KnownJobs::before(before);
        for look in 0..LOOKS {
            if look > 0 {
                self.wait(LOOK).await?;
            }
            known.learn(self.on_profile(profile).await?, &is_ours, look == 0);
            if known.sending.is_empty() || known.unknown(&standing, &images).is_empty() {
                break;
            }
        }
        let (sum, findings) = compare(&known, &standing, &images);
        let jobs = known.before.iter().filter(|job| job.state == JobState::Done).map(|job| job.job).collect();
        Ok(CheckedProfile { profile: profile.to_owned(), sum, findings, jobs, refused: false })
    }

    /// How long to wait before a list without one of these documents says that it is gone; nothing where none is so new.
    fn listed_later(&self, jobs: &[CreatedJob], standing: &[StandingDocument], asked: Timestamp) -> Option<Duration> {
        let listed = |job: &CreatedJob| {
            let id = normal_id(job.remote_id.as_deref().unwrap_or_default());
            standing.iter().any(|document| normal_id(&document.id) == id)
        };
        let created = jobs.iter().filter(|job| job.state == JobState::Done && !listed(job));
        let last = Timestamp(created.filter_map(|job| job.ended_at).max()?).after(self.list_lag);
        (last > asked).then(|| last.since(asked))
    }

    /// The list of a profile's documents, or why it will never be answered.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`] where other profiles would fail in the same way.
    pub async fn documents(
        &self,
        account: &Account,
        profile: &ProfileId,
    ) -> Result<Result<ReadList, String>, NoAnswer> {
        let mut large = None;
        let read = |large| account.client.read_documents(profile, large);
        Ok(match self.ask(account, Operation::ReadDocuments, &mut large, read).await? {
            Said::Reply(Reply::Documents(list)) => Ok(ReadList { list, _held: large }),
            Said::Reply(_) => Err("the answer is not a list of documents".to_owned()),
            Said::Refused(why) => Err(why),
        })
    }

    async fn ask<F>(
        &self,
        account: &Account,
        operation: Operation,
        large: &mut Option<LargeList>,
        call: impl Fn(Option<LargeList>) -> F,
    ) -> Result<Said, NoAnswer>
    where
        F: Future<Output = ListExchange>,
    {
        let mut failed = 0_u32;
        let mut limit = String::from("the pace leaves no room for a call");
        loop {
            let slot = match account.slot(operation, 0).await {
                Ok(slot) => slot,
                Err(SendBlocked::Later(wait)) => {
                    self.wait_for_room(account, wait, &limit).await?;
                    continue;
                }
                // Only this process could stop its accounts, and it does not.
                Err(SendBlocked::Paused(cause)) => return Err(NoAnswer::Unreachable(cause.as_str().to_owned())),
            };
            if self.stop.is_cancelled() {
                return Err(NoAnswer::Stopped);
            }
            let ListExchange { exchange, large: held } = call(large.take()).await;
            *large = held;
            let outcome = outcome(&exchange, Timestamp::now());
            // A circuit breaker would only repeat what is counted here.
            let _outage = account.learn(slot, &exchange, &outcome);
            let reason = match outcome {
                Outcome::Done(reply) => return Ok(Said::Reply(reply)),
                Outcome::Refused(reason) => return Ok(Said::Refused(text(operation, &reason))),
                Outcome::Throttled { reason, .. } => {
                    limit = text(operation, &reason);
                    // The pacer knows how long to wait.
                    self.wait_for_room(account, Duration::ZERO, &limit).await?;
                    continue;
                }
                Outcome::Paused { cause: PauseCause::KeyRefused, reason } => {
                    let said = text(operation, &reason);
                    let works = account.key_works_since(Instant::now().into(), || key_works(account)).await;
                    return if works { Ok(Said::Refused(said)) } else { Err(NoAnswer::Key(said)) };
                }
                Outcome::Paused { cause: PauseCause::QuotaSpent, reason } => {
                    failed = failed.saturating_add(1);
                    let asked = exchange.limits().and_then(|limits| limits.wait_after_failure(Timestamp::now()));
                    // The time limit is checked there.
                    let wait = self.retry.delay(failed, Duration::ZERO, asked, jitter()).unwrap_or_default();
                    self.wait_for_room(account, wait, &text(operation, &reason)).await?;
                    continue;
                }
                Outcome::TryAgain(reason)
                | Outcome::Unattributed(reason)
                | Outcome::Lost(reason)
                | Outcome::SourceChanged(reason)
                | Outcome::SourceUnreadable(reason) => reason,
            };
            failed = failed.saturating_add(1);
            let asked = exchange.limits().and_then(|limits| limits.wait_after_failure(Timestamp::now()));
            let tried = account.without_success_for();
            if failed > FEW_TRIES {
                self.say_waits(&text(operation, &reason));
            }
            // A list that is never understood concerns this profile only, where those of others are understood.
            match self.retry.delay(failed, tried, asked, jitter()) {
                Some(_) if failed > MOST_TRIES && tried < exchange.took + RECENT => {
                    return Ok(Said::Refused(text(operation, &reason)));
                }
                // However long the API asks for, nobody waits beyond the time in which a call must have worked.
                Some(delay) => self.wait(delay.min(self.retry.give_up_after.saturating_sub(tried))).await?,
                None => return Err(NoAnswer::Unreachable(text(operation, &reason))),
            }
        }
    }

    /// Waits this long, and not beyond the time in which a call must have worked.
    async fn wait_for_room(&self, account: &Account, wait: Duration, limit: &str) -> Result<(), NoAnswer> {
        self.say_waits(limit);
        let left = self.retry.give_up_after.saturating_sub(account.without_success_for());
        if left.is_zero() {
            return Err(NoAnswer::Limit(limit.to_owned()));
        }
        self.wait(wait.min(left)).await
    }

    fn say_waits(&self, why: &str) {
        // It is full when one was reported already.
        self.waits.try_send(why.to_owned()).ok();
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

/// This many failures in a row are not reported.
const FEW_TRIES: u32 = 2;

/// While an unknown image may be one that is being uploaded, the queue is read at this interval, and this many times:
/// longer than an answer takes. After that it is counted as being uploaded.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: u32 = 20;

/// How recently other calls must have worked.
const RECENT: Duration = Duration::from_secs(30);

/// Whose account it is; nothing where there is none.
fn scope(account: Option<&Arc<Account>>) -> String {
    account.map(|account| account.scope.clone()).unwrap_or_default()
}

async fn key_works(account: &Account) -> bool {
    let exchange = account.client.whoami().await;
    matches!(outcome(&exchange, Timestamp::now()), Outcome::Done(_))
}
