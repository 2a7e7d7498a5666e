//! A document whose answer was lost: asks whether it exists.

use std::{collections::HashSet, time::Duration};

use super::{
    Delivery,
    judge::{Failed, attempt_of},
};
use crate::{
    absence::{Conclusion, Control, KnownDocument, ListReading, decide, shows},
    account::Account,
    api::{LargeList, ListExchange},
    clock::Timestamp,
    entry::ProfileId,
    jitter::jitter,
    job::{Creation, Job, WaitReason},
    operation::Operation,
    outcome::{DocumentList, ListDoubt, Outcome, Reply, id_digest, normal_id, outcome},
    queue::{
        QueueError,
        attempt::{AbsenceProof, Attempt, End, Evidence},
        doubt::{CreatedDocument, ProfileKnowledge, ReadingNote},
    },
    verdict::Verdict,
};

/// A list as the API answered it.
struct Answered {
    list: DocumentList,
    /// Where it is long.
    _held: Option<LargeList>,
    /// When it was asked for.
    asked: Timestamp,
    took: Duration,
    attempt: Attempt,
}

impl Delivery {
    /// Asks whether the document exists; returns whether the job continues, which it does only if the document
    /// certainly does not. The caller holds the profile's turn.
    pub(super) async fn read_back(&self, account: &Account, job: &mut Job) -> Result<bool, QueueError> {
        // Before the list is asked for, so that it has to show all of it.
        let known = self.queue.profile_knowledge(job.id).await?;
        let about = sought_ids(&known);
        let Some(mut answered) = self.list_documents(account, job, (&job.profile_id, &about), Vec::new()).await? else {
            return Ok(false);
        };
        let clock_ms = self.clock.moved_ms();
        let passed = known.call_ended.filter(|_| known.clock_ms == clock_ms).map(|ended| answered.asked.since(ended));
        let has_passed = passed.is_some_and(|passed| passed >= self.judge.absence().absent_after);
        let is_foreign = has_passed && self.is_foreign(job, &known, &answered.list).await?;
        let reading = |answered: &Answered, control: &Control| {
            let age = |document: &CreatedDocument| KnownDocument {
                id: document.id.clone(),
                image_ids: document.image_ids.clone(),
                age: answered.asked.since(document.created_at),
            };
            decide(&ListReading {
                sought: &known.sought,
                list: &answered.list,
                known: &known.created.iter().map(age).collect::<Vec<_>>(),
                taken: &known.taken,
                is_foreign,
                control,
                ended_for: passed,
                doubts: known.doubts,
                bounds: self.judge.absence(),
                observed: known.observed,
            })
        };
        let mut witness = shown(&known, &answered.list);
        let mut conclusion = reading(&answered, &Control::Unread);
        let mut attempts = Vec::new();
        if conclusion == Conclusion::NeedsControl {
            let (now, lag) = (self.clock.now(), self.judge.absence().list_lag);
            let control = match self.queue.control_document(job.id, now, lag, known.doubts).await? {
                None => Control::Unavailable,
                Some(control) => {
                    let own = vec![Attempt { outcome: "unseen", ..answered.attempt.clone() }];
                    let about = [std::slice::from_ref(&control.id), &control.image_ids].concat();
                    let there = (&control.profile_id, about.as_slice());
                    let Some(other) = self.list_documents(account, job, there, own).await? else {
                        return Ok(false);
                    };
                    attempts.push(Attempt { outcome: "control", ..other.attempt });
                    let age = other.asked.since(control.created_at);
                    let there = KnownDocument { id: control.id, image_ids: control.image_ids, age };
                    let shown = shows(&other.list, &there);
                    witness = Some(there.id);
                    shown.map_or_else(Control::NotShown, |()| Control::Shown)
                }
            };
            conclusion = reading(&answered, &control);
        }
        let is_doubtful = matches!(conclusion, Conclusion::Wait { doubt: Some(_) } | Conclusion::Held { .. });
        self.learn_from_reading(job, &known, &answered, &conclusion, clock_ms, (is_foreign, is_doubtful)).await?;
        answered.attempt.outcome = match &conclusion {
            Conclusion::Created(_) => "adopted",
            Conclusion::Absent => "absent",
            Conclusion::Wait { doubt: None } => "unseen",
            _ => "doubtful",
        };
        if let Conclusion::Wait { doubt: Some(why) } | Conclusion::Held { why, .. } = &conclusion {
            answered.attempt.detail = Some(why.clone());
        }
        let bound = self.judge.absence().absent_after;
        answered.attempt.proof =
            witness.filter(|_| conclusion == Conclusion::Absent).map(|witness| AbsenceProof { bound, witness });
        attempts.push(answered.attempt);
        let verdict = match conclusion {
            Conclusion::Created(id) => {
                self.telemetry.read_back(true);
                let evidence = Evidence { attempts, ..Evidence::default() };
                self.queue.end_try(job.id, End::Created { remote_id: id }, evidence, self.clock.now()).await?;
                return Ok(false);
            }
            Conclusion::Absent => {
                self.telemetry.read_back(false);
                job.creation = Creation::None;
                self.queue.absent(job.id, attempts).await?;
                let Some(verdict) = self.refused_creation(account, job).await? else { return Ok(true) };
                let failed = Failed { verdict, attempt: None, lost: None, in_doubt: None, refused: None };
                self.act(account, job, vec![failed]).await?;
                return Ok(false);
            }
            Conclusion::Held { why, cure } => {
                Verdict::Hold { reason: format!("cannot find out whether the document exists: {why}; {cure}") }
            }
            Conclusion::Wait { doubt } => self.judge.look_again(job, doubt.as_deref(), passed, answered.took, jitter()),
            // Both lists were read.
            Conclusion::NeedsControl => self.judge.look_again(job, None, passed, answered.took, jitter()),
        };
        let mut failed: Vec<Failed> =
            attempts.into_iter().map(|attempt| Failed::of(verdict.clone(), attempt)).collect();
        failed.reverse();
        self.act(account, job, failed).await?;
        Ok(false)
    }

    /// Reads what the list of a profile says about these IDs; `None` where it could not be read, and the job was put off or held with the attempts
    /// so far.
    async fn list_documents(
        &self,
        account: &Account,
        job: &Job,
        (profile_id, about): (&ProfileId, &[String]),
        before: Vec<Attempt>,
    ) -> Result<Option<Answered>, QueueError> {
        let slot = match account.slot(Operation::ReadDocuments, 0).await {
            Ok(slot) => (slot, self.telemetry.begin_call()),
            Err(why) => {
                self.not_now(job, why).await?;
                return Ok(None);
            }
        };
        let asked = self.clock.now();
        let ListExchange { exchange, large } = account.client.read_documents_about(profile_id, about).await;
        let now = self.clock.now();
        let outcome = outcome(&exchange, now);
        self.learn(account, slot, &exchange, &outcome, profile_id).await?;
        let attempt = attempt_of(&exchange, &outcome, None);
        if let Outcome::Done(Reply::Documents(list)) = outcome {
            return Ok(Some(Answered { list, _held: large, asked, took: exchange.took, attempt }));
        }
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
        let mut all: Vec<Failed> =
            before.into_iter().map(|attempt| Failed::of(failed.verdict.clone(), attempt)).collect();
        all.push(failed);
        self.act(account, job, all).await?;
        Ok(None)
    }

    /// Whether a list that shows nothing which the queue created on this profile is that of another one.
    async fn is_foreign(&self, job: &Job, known: &ProfileKnowledge, list: &DocumentList) -> Result<bool, QueueError> {
        let is_known = |id: &str| {
            let id = normal_id(id);
            known.created.iter().any(|created| normal_id(&created.id) == id)
        };
        if list.documents.iter().any(|document| is_known(&document.id)) {
            return Ok(false);
        }
        let mut strange = list.omitted.clone();
        strange.extend(list.documents.iter().map(|document| id_digest(&document.id)));
        if strange.is_empty() { Ok(false) } else { self.queue.is_of_another_profile(&job.profile_id, strange).await }
    }

    /// Records what a reading says of how late documents appear. A list that is not understood says nothing.
    async fn learn_from_reading(
        &self,
        job: &Job,
        known: &ProfileKnowledge,
        answered: &Answered,
        conclusion: &Conclusion,
        clock_ms: i64,
        (is_foreign, is_doubtful): (bool, bool),
    ) -> Result<(), QueueError> {
        let is_found = matches!(conclusion, Conclusion::Created(_));
        let is_understood = answered.list.doubts.iter().all(|doubt| *doubt == ListDoubt::Unreadable) && !is_foreign;
        let mut note = ReadingNote {
            asked: answered.asked,
            clock_ms,
            is_found,
            is_unseen: !is_found && is_understood,
            doubts: known.doubts.saturating_add(u32::from(is_doubtful)),
            ..ReadingNote::default()
        };
        // By one clock: what was created before this process, or before its clock was moved, is not measured.
        let since = self.clock.moved_to().map_or(self.started, |moved| moved.max(self.started));
        for created in known.created.iter().filter(|created| is_understood && created.created_at >= since) {
            let id = normal_id(&created.id);
            match answered.list.documents.iter().any(|document| normal_id(&document.id) == id) {
                true if created.unseen_at.is_some() => note.shown.push(created.job_id),
                false => note.missing.push(created.job_id),
                true => {}
            }
        }
        let teaches = note.is_unseen
            || is_found && known.unseen_at.is_some()
            || note.doubts != known.doubts
            || !note.missing.is_empty()
            || !note.shown.is_empty();
        if !teaches {
            return Ok(());
        }
        if let Some(observed) = self.queue.note_reading(job.id, note).await? {
            self.telemetry.observed(&observed, self.judge.absence());
            self.queue.note_bounds(*self.judge.absence(), self.clock.now()).await?;
            if let Some(broken) = self.judge.absence().broken_by(&observed) {
                tracing::error!(
                    job = job.id,
                    "{broken}: from now on documents whose answer is lost are held until api.request_lives or \
                     api.list_lag is above it"
                );
            }
        }
        Ok(())
    }
}

/// The documents that a list is read for: the one that may exist, and those that must be there.
fn sought_ids(known: &ProfileKnowledge) -> Vec<String> {
    let sought = known.sought.image_ids.iter().chain(&known.sought.answered_id);
    sought.chain(known.created.iter().map(|created| &created.id)).cloned().collect()
}

/// A document of the queue's that the list shows.
fn shown(known: &ProfileKnowledge, list: &DocumentList) -> Option<String> {
    let listed: HashSet<String> = list.documents.iter().map(|document| normal_id(&document.id)).collect();
    known.created.iter().map(|created| &created.id).find(|id| listed.contains(&normal_id(id))).cloned()
}
