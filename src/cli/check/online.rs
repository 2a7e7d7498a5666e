//! `check --online`: does the key work, does each profile exist, and does it have such a document already.
//!
//! By one read of each profile that good entries are for, at the account's pace; reads leave no trace at the API.

use std::{io, ops::ControlFlow, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::report::Subject;
use crate::{
    cli::{Exit, start},
    config::Config,
    entry::{Content, Entry, EntrySource, ProfileId},
    manifest::Scratch as _,
    outcome::StandingDocument,
    problem::Problem,
    queue::scratch::TemporaryStore,
    retry::RetryPolicy,
    service::Accounts,
    verify::{Asking, NoAnswer},
};

/// How many profiles are read before what was found is printed.
const PAGE: usize = 256;

/// How long no call may work before it gives up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// No delay between two tries is longer: a person waits.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What is to be asked of the API, by profile; on disk where it is much.
#[derive(Debug, Default)]
pub(super) struct OnlineQuestions {
    store: TemporaryStore,
}

/// What of an entry is compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AskedEntry {
    manifest: usize,
    index: u64,
    line: Option<u64>,
    /// The record of an archive that a layout made it of.
    source: Option<EntrySource>,
    reference: Option<String>,
    /// Category and type of a document.
    document: Option<(String, String)>,
}

/// What was asked, and why no more was, if so.
#[derive(Debug, Default)]
pub(super) struct OnlineEnd {
    pub(super) profiles: u64,
    pub(super) ended: Option<NoAnswer>,
}

impl OnlineQuestions {
    /// Notes a good entry.
    pub(super) fn add(
        &mut self,
        entry: &Entry,
        manifest: usize,
        line: Option<u64>,
        source: Option<EntrySource>,
    ) -> io::Result<()> {
        let document = match &entry.content {
            Content::Document { category, document_type, .. } => Some((category.clone(), document_type.clone())),
            Content::File { .. } => None,
        };
        let (index, reference) = (entry.index, entry.reference.clone());
        let asked = AskedEntry { manifest, index, line, source, reference, document };
        let number = u64::try_from(manifest).unwrap_or(u64::MAX).to_be_bytes();
        let key = [entry.profile_id.as_str().as_bytes(), &number, &index.to_be_bytes()].concat();
        self.store.put(&key, &serde_json::to_vec(&asked)?)
    }

    /// The entries of the next profiles after this one.
    fn page(&self, after: &str) -> io::Result<Vec<(ProfileId, Vec<AskedEntry>)>> {
        let mut page: Vec<(ProfileId, Vec<AskedEntry>)> = Vec::new();
        // Beyond every key of that profile, and before those of the next.
        let from = if after.is_empty() { Vec::new() } else { [after.as_bytes(), &[0xFF; 17]].concat() };
        self.store.scan(&from, &mut |key, value| {
            let profile = key.get(..36).and_then(|id| ProfileId::parse(str::from_utf8(id).ok()?));
            let (Some(profile), Ok(asked)) = (profile, serde_json::from_slice(value)) else {
                return ControlFlow::Continue(());
            };
            let is_full = page.len() >= PAGE;
            match page.last_mut() {
                Some((last, entries)) if *last == profile => entries.push(asked),
                _ if is_full => return ControlFlow::Break(()),
                _ => page.push((profile, vec![asked])),
            }
            ControlFlow::Continue(())
        })?;
        Ok(page)
    }

    /// Asks, and hands out what is found with the number of its manifest.
    ///
    /// # Errors
    ///
    /// Where the key cannot be used, or what is found cannot be printed.
    pub(super) fn ask(
        &self,
        config: &Config,
        drop: &str,
        found: &mut dyn FnMut(usize, (Subject, Option<EntrySource>), Problem) -> io::Result<()>,
    ) -> anyhow::Result<OnlineEnd> {
        start::block_on(async {
            let accounts = Accounts::new(config)?;
            let Some(account) = accounts.of(drop) else { anyhow::bail!("there is no key for {drop}") };
            let stop = CancellationToken::new();
            let (stopping, signalled) = (stop.clone(), start::signalled());
            let (waits, mut waited_for) = mpsc::channel(1);
            let asking = Asking {
                queue: None,
                retry: RetryPolicy {
                    initial: config.retry.initial,
                    max: config.retry.max.min(LONGEST_DELAY),
                    give_up_after: GIVE_UP_AFTER,
                },
                stop,
                list_lag: config.api.list_lag,
                waits,
            };
            let mut end = OnlineEnd::default();
            let work = async {
                let mut after = String::new();
                loop {
                    let page = self.page(&after)?;
                    let Some((last, _)) = page.last() else { return anyhow::Ok(()) };
                    after = last.as_str().to_owned();
                    let answers = stream::iter(page)
                        .map(|(profile, entries)| {
                            let asking = &asking;
                            async move { (asking.documents(account, &profile).await, entries) }
                        })
                        .buffered(config.workers.max_in_flight.max(1));
                    let mut answers = std::pin::pin!(answers);
                    while let Some((answer, entries)) = answers.next().await {
                        let answer = match answer {
                            Ok(answer) => answer,
                            Err(ended) => {
                                end.ended = Some(ended);
                                return Ok(());
                            }
                        };
                        end.profiles += 1;
                        for entry in entries {
                            let standing = answer.as_ref().map(|read| read.list.documents.as_slice());
                            if let Some(problem) = compare(&entry, standing) {
                                let AskedEntry { manifest, index, line, source, reference, .. } = entry;
                                let subject = Subject { index: Some(index), line, reference };
                                found(manifest, (subject, source), problem)?;
                            }
                        }
                    }
                }
            };
            let say = async {
                if let Some(why) = waited_for.recv().await {
                    tracing::warn!(why, "waits");
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                done = work => done?,
                () = say => {}
                () = async { signalled.await; stopping.cancel(); } => end.ended = Some(NoAnswer::Stopped),
            }
            Ok(end)
        })
    }
}

/// What is to be said of an entry, by what its profile has, or why that is not given.
fn compare(entry: &AskedEntry, standing: Result<&[StandingDocument], &String>) -> Option<Problem> {
    let standing = match standing {
        Ok(standing) => standing,
        Err(why) => {
            let cure = "correct the profile's ID, or make the profile first";
            let problem = Problem::error(format!("the API does not give this profile: {why}"), cure);
            return Some(problem.field("profile_id").code("profile-not-given"));
        }
    };
    let (category, document_type) = entry.document.as_ref()?;
    let same =
        |document: &&StandingDocument| document.category == *category && document.document_type == *document_type;
    let there = standing.iter().find(same)?;
    let reason = format!("the profile already has a document {document_type} of {category}: {}", there.id);
    let cure = "see whether it is the same one: it would be created beside it";
    Some(Problem::warning(reason, cure).field("profile_id").code("document-exists"))
}

impl OnlineEnd {
    /// The exit code, as far as the API decides it.
    pub(super) const fn exit(&self) -> Exit {
        match &self.ended {
            None => Exit::Well,
            Some(NoAnswer::Key(_) | NoAnswer::Unreachable(_)) => Exit::Unreachable,
            Some(NoAnswer::Limit(_) | NoAnswer::Stopped) => Exit::WorkLeft,
        }
    }
}

/// A short account of what was asked.
pub(super) fn in_words(end: &OnlineEnd) -> String {
    match &end.ended {
        None => format!("Online: the key works; {} profiles were read\n", end.profiles),
        Some(why) => format!("Online: {} profiles were read, then it ended: {why}\n", end.profiles),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_come_page_by_page_with_all_their_entries() {
        let mut questions = OnlineQuestions::default();
        for number in 0..1000_u64 {
            let profile = format!("00000000-0000-4000-8000-{:012x}", number % 600);
            let asked =
                AskedEntry { manifest: 0, index: number, line: None, source: None, reference: None, document: None };
            let key = [profile.as_bytes(), &0_u64.to_be_bytes(), &number.to_be_bytes()].concat();
            questions.store.put(&key, &serde_json::to_vec(&asked).unwrap()).unwrap();
        }
        let (mut after, mut seen, mut profiles) = (String::new(), 0, 0);
        loop {
            let page = questions.page(&after).unwrap();
            let Some((last, _)) = page.last() else { break };
            after = last.as_str().to_owned();
            profiles += page.len();
            seen += page.iter().map(|(_, entries)| entries.len()).sum::<usize>();
        }
        assert_eq!((profiles, seen), (600, 1000));
    }
}
