//! The one more reading of a profile whose document was sent a second time: what nobody can prevent is noticed.

use std::{collections::BTreeSet, time::Duration};

use super::{Delivery, judge::attempt_of};
use crate::{
    account::{Account, SendBlocked},
    api::ListExchange,
    entry::ProfileId,
    operation::Operation,
    outcome::{Outcome, Reply, StandingDocument, normal_id, outcome},
    queue::{QueueError, recheck::Recheck},
};

/// The wait after the first reading that failed; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(3600);

/// After so many failed readings, three days, it is given up.
const MOST_FAILED: u32 = 78;

impl Delivery {
    /// Reads a profile once more, for all of its documents that are due.
    ///
    /// # Errors
    ///
    /// Those of the queue.
    pub async fn recheck(&self, account: &Account, due: &[Recheck]) -> Result<(), QueueError> {
        let Some(first) = due.first() else { return Ok(()) };
        let jobs: Vec<i64> = due.iter().map(|recheck| recheck.job).collect();
        let Some(profile) = ProfileId::parse(&first.profile) else { return self.queue.recheck_later(jobs, None).await };
        let slot = match account.slot(Operation::ReadDocuments, 0).await {
            Ok(slot) => (slot, self.telemetry.begin_call()),
            // It stays due.
            Err(SendBlocked::Paused(_)) => return Ok(()),
            Err(SendBlocked::Later(wait)) => {
                return self.queue.recheck_later(jobs, Some(self.clock.now().after(wait))).await;
            }
        };
        let ids: Vec<String> = due.iter().flat_map(|recheck| recheck.image_ids.iter().cloned()).collect();
        let ListExchange { exchange, large: _held } = account.client.read_documents_about(&profile, &ids).await;
        let now = self.clock.now();
        let outcome = outcome(&exchange, now);
        self.learn(account, slot, &exchange, &outcome, &profile).await?;
        let list = match &outcome {
            Outcome::Done(Reply::Documents(list)) if list.doubts.is_empty() => list,
            _ => {
                let again = next_reading(first.failed.saturating_add(1)).map(|wait| now.after(wait));
                if again.is_none() {
                    tracing::warn!(?jobs, "their profile could not be read once more: see `verify`");
                }
                return self.queue.recheck_later(jobs, again).await;
            }
        };
        let several = |recheck: &Recheck| Some((recheck.job, doubles(&list.documents, recheck)?));
        let doubled: Vec<_> = due.iter().filter_map(several).collect();
        for (job, documents) in &doubled {
            tracing::error!(job, documents = documents.len(), "its document was created more than once: see `show`");
        }
        let mut attempt = attempt_of(&exchange, &outcome, None);
        attempt.outcome = "rechecked";
        self.queue.rechecked(jobs, doubled, attempt, now).await
    }
}

/// How long to wait after so many failed readings; nothing where it is given up.
fn next_reading(failed: u32) -> Option<Duration> {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
    (failed < MOST_FAILED).then(|| doubled.min(LONGEST))
}

/// All documents that have exactly the job's images and belong to no other job, the job's own first; nothing where there is
/// no more than one.
fn doubles(listed: &[StandingDocument], recheck: &Recheck) -> Option<Vec<String>> {
    let set = |ids: &[String]| ids.iter().map(|id| normal_id(id)).collect::<BTreeSet<_>>();
    let images = set(&recheck.image_ids);
    if images.is_empty() {
        return None;
    }
    let (taken, own) = (set(&recheck.taken), recheck.document_id.as_deref().map(normal_id));
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for document in listed.iter().filter(|document| set(&document.image_ids) == images) {
        let id = normal_id(&document.id);
        if !taken.contains(&id) && seen.insert(id.clone()) {
            found.push((own.as_ref() != Some(&id), document.id.clone()));
        }
    }
    found.sort_by_key(|(is_other, _)| *is_other);
    (found.len() > 1).then(|| found.into_iter().map(|(_, id)| id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, images: &[&str]) -> StandingDocument {
        StandingDocument {
            id: id.into(),
            image_ids: images.iter().map(|&id| id.to_owned()).collect(),
            ..StandingDocument::default()
        }
    }

    #[test]
    fn several_documents_with_our_images_that_belong_to_nobody_else_are_doubled() {
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        let recheck = |own: Option<&str>, images: &[&str], taken: &[&str]| Recheck {
            job: 1,
            drop: String::new(),
            profile: String::new(),
            document_id: own.map(str::to_owned),
            image_ids: ids(images),
            taken: ids(taken),
            failed: 0,
        };
        let list = [listed("x", &["B", "a"]), listed("d", &["a", "b"]), listed("D", &["b", "a"]), listed("y", &["a"])];
        let found = |recheck: &Recheck| doubles(&list, recheck);
        assert_eq!(found(&recheck(Some("D"), &["a", "b"], &[])), Some(ids(&["d", "x"])), "the job's own first");
        assert_eq!(found(&recheck(None, &["a", "b"], &[])), Some(ids(&["x", "d"])), "its job failed");
        assert_eq!(found(&recheck(Some("d"), &["a", "b"], &["X"])), None, "an API whose equal images have equal IDs");
        assert_eq!(found(&recheck(Some("y"), &["a"], &[])), None);
        assert_eq!(found(&recheck(Some("z"), &[], &[])), None);
    }

    #[test]
    fn an_id_is_the_same_in_each_of_its_spellings() {
        let id = |number: u32| format!("a2c4393a-e219-67a4-5ab4-{number:012}");
        let urn = |number: u32| format!("urn:uuid:{}", id(number));
        let recheck = |taken: Vec<String>| Recheck {
            job: 1,
            drop: String::new(),
            profile: String::new(),
            document_id: Some(id(1)),
            image_ids: vec![id(7)],
            taken,
            failed: 0,
        };
        let bare = id(7).replace('-', "");
        let list = [listed(&urn(2), &[&urn(7)]), listed(&urn(1), &[&bare]), listed(&id(1), &[&id(7)])];
        assert_eq!(doubles(&list, &recheck(Vec::new())), Some(vec![urn(1), urn(2)]));
        assert_eq!(doubles(&list, &recheck(vec![id(2)])), None);
    }

    #[test]
    fn a_reading_that_fails_is_tried_again_for_three_days() {
        assert_eq!(next_reading(1), Some(Duration::from_secs(30)));
        assert_eq!(next_reading(3), Some(Duration::from_secs(120)));
        let all: Duration = (1..).map_while(next_reading).sum();
        assert!((Duration::from_secs(70 * 3600)..Duration::from_secs(74 * 3600)).contains(&all), "{all:?}");
    }
}
