//! How far an import is, for its end and for people who watch it.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{super::drive::Remaining, admission::UnderAdmission};
use crate::{
    clock::Timestamp,
    finish,
    queue::{QueueError, Reader, views::progress::BatchProgress},
    reason::in_words,
};

/// Between two lines of progress where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// How often the end is estimated.
const ESTIMATE_INTERVAL: Duration = Duration::from_secs(2);

/// How far the batches of this command are.
#[derive(Debug, Default)]
pub(super) struct OwnBatches {
    /// How many have been read at all.
    known: usize,
    pub(super) open: Vec<i64>,
    /// Entries of closed batches.
    closed_entries: u64,
    entries: u64,
    /// Entries that have not ended.
    pub(super) unfinished: u64,
    /// The manifest that is being admitted, and how many entries it has, as far as that is known.
    arriving: Option<(BatchProgress, u64)>,
}

impl OwnBatches {
    /// Reads the batches that were not closed the last time, and new ones. Changes nothing where that fails.
    pub(super) fn look(
        &mut self,
        reader: &Reader,
        batches: &[i64],
        arriving: Option<&UnderAdmission>,
    ) -> Result<(), QueueError> {
        let mut seen = Self { known: batches.len(), closed_entries: self.closed_entries, ..Self::default() };
        for &id in self.open.iter().chain(batches.iter().skip(self.known)) {
            let progress = reader.batch_progress(id)?;
            if progress.closed {
                seen.closed_entries += progress.admitted;
            } else {
                seen.entries += progress.admitted;
                seen.unfinished += progress.under_way;
                seen.open.push(id);
            }
        }
        seen.entries += seen.closed_entries;
        // It may have been admitted since it was asked for.
        if let Some(arriving) = arriving.filter(|arriving| !batches.contains(&arriving.batch_id)) {
            let progress = reader.batch_progress(arriving.batch_id)?;
            let known = progress.admitted + arriving.rest.unwrap_or(0);
            seen.arriving = Some((progress, known));
        }
        *self = seen;
        Ok(())
    }

    /// All entries that are known of, those that have ended, and those whose jobs have not.
    fn so_far(&self) -> (u64, u64, u64) {
        let (arriving, known) = self.arriving.unwrap_or_default();
        let (entries, unfinished) = (self.entries + arriving.admitted, self.unfinished + arriving.under_way);
        (self.entries + known, entries.saturating_sub(unfinished), unfinished)
    }

    pub(super) fn remaining(&self, reader: &Reader, finished: bool) -> Result<Remaining, QueueError> {
        Ok(if !finished {
            Remaining::Work
        } else if self.open.is_empty() {
            Remaining::Nothing
        } else if self.unfinished > 0 && self.held(reader)? >= self.unfinished {
            Remaining::OnlyHeld
        } else {
            Remaining::Work
        })
    }

    /// Entries that have not ended and wait for a person.
    pub(super) fn held(&self, reader: &Reader) -> Result<u64, QueueError> {
        let held = reader.held_by_batch()?;
        Ok(held.iter().filter(|(batch, _)| self.open.contains(batch)).map(|(_, count)| count).sum())
    }
}

/// Progress for people: a bar on a terminal, else a line now and then.
pub(super) struct ProgressDisplay {
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// When the end was last estimated, and what is said of it.
    estimated: Option<(Instant, String)>,
}

impl ProgressDisplay {
    pub(super) fn new(terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self { bar, last_line: Instant::now(), estimated: None }
    }

    pub(super) fn show(&mut self, ours: &OwnBatches, finished: bool, reader: &Reader, drop: &str) {
        let (entries, ended, unfinished) = ours.so_far();
        let is_line_due = self.bar.is_none() && self.last_line.elapsed() >= LINE_INTERVAL;
        let end = if self.bar.is_some() || is_line_due {
            self.end_in_words(unfinished, finished, reader, drop).to_owned()
        } else {
            String::new()
        };
        if let Some(bar) = &self.bar {
            bar.set_length(entries);
            bar.set_position(ended);
            bar.set_message(format!("entries{}{end}", if finished { "" } else { ", still reading" }));
        } else if is_line_due {
            tracing::info!(ended, entries, reading = !finished, "under way{end}");
            self.last_line = Instant::now();
        }
    }

    /// When these entries will be done, and what decides it.
    fn end_in_words(&mut self, unfinished: u64, finished: bool, reader: &Reader, drop: &str) -> &str {
        let is_old = self.estimated.as_ref().is_none_or(|(at, _)| at.elapsed() >= ESTIMATE_INTERVAL);
        if is_old {
            let now = Timestamp::now();
            let finish = finish::of_jobs(reader, drop, unfinished, now).ok().flatten();
            let said = finish.map_or_else(String::new, |finish| {
                let more = if finished { "" } else { " at least" };
                let left = in_words(finish.done.since(now));
                format!(", {left} left{more}, limited by {}", finish.limit_in_words())
            });
            self.estimated = Some((Instant::now(), said));
        }
        self.estimated.as_ref().map_or("", |(_, said)| said)
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::Site;

    #[test]
    fn a_look_that_fails_forgets_nothing() {
        let site = Site::new();
        let batch = site.admit("a.manifest.json", &["one", "two"]);
        let reader = site.reader();
        let mut ours = OwnBatches::default();
        ours.look(&reader, &[batch], None).unwrap();
        let absent = 999;
        ours.look(&reader, &[batch, absent], None).unwrap_err();
        assert_eq!((&ours.open, ours.entries, ours.unfinished), (&vec![batch], 2, 2));
        assert_eq!(ours.remaining(&reader, true).unwrap(), Remaining::Work);
    }
}
