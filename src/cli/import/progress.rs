//! How far an import is, for its end and for people who watch it.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::drive::Remaining;
use crate::{
    config::duration_text,
    queue::{QueueError, Reader},
};

/// Between two lines of progress where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

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
    unfinished: u64,
}

impl OwnBatches {
    /// Reads the batches that were not closed the last time, and new ones. Changes nothing where that fails.
    pub(super) fn look(&mut self, reader: &Reader, batches: &[i64]) -> Result<(), QueueError> {
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
        *self = seen;
        Ok(())
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
    fn held(&self, reader: &Reader) -> Result<u64, QueueError> {
        let held = reader.held_by_batch()?;
        Ok(held.iter().filter(|(batch, _)| self.open.contains(batch)).map(|(_, count)| count).sum())
    }
}

/// Progress for people: a bar on a terminal, else a line now and then.
pub(super) struct ProgressDisplay {
    bar: Option<ProgressBar>,
    last_line: Instant,
    started: Instant,
}

impl ProgressDisplay {
    pub(super) fn new(terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Self { bar, last_line: Instant::now(), started: Instant::now() }
    }

    pub(super) fn show(&mut self, ours: &OwnBatches, finished: bool) {
        let ended = ours.entries.saturating_sub(ours.unfinished);
        let rate = self.rate(ended, ours.entries, finished);
        if let Some(bar) = &self.bar {
            bar.set_length(ours.entries);
            bar.set_position(ended);
            bar.set_message(format!("entries{}{rate}", if finished { "" } else { ", still reading" }));
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            tracing::info!(ended, entries = ours.entries, reading = !finished, "under way{rate}");
        }
    }

    fn rate(&self, ended: u64, entries: u64, finished: bool) -> String {
        let seconds = self.started.elapsed().as_secs();
        if ended == 0 || seconds < 5 {
            return String::new();
        }
        let left = entries.saturating_sub(ended).saturating_mul(seconds) / ended;
        let rate = ended * 60 / seconds;
        let more = if finished { "" } else { " at least" };
        format!(", {rate} a minute, {} left{more}", duration_text(Duration::from_secs(left)))
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
        ours.look(&reader, &[batch]).unwrap();
        let absent = 999;
        ours.look(&reader, &[batch, absent]).unwrap_err();
        assert_eq!((&ours.open, ours.entries, ours.unfinished), (&vec![batch], 2, 2));
        assert_eq!(ours.remaining(&reader, true).unwrap(), Remaining::Work);
    }
}
