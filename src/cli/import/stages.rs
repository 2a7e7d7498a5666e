//! `--stages` and `--stop-if`: an import goes out in parts, each larger than the one before, and ends by itself where a
//! part did not go well. Nothing can be deleted at the API, so a mistake in a list must not reach all of it.
//!
//! [`Stages`] decides, from counts alone; [`StageRun`] makes the counts and begins the stages.

use std::{fmt, str::FromStr, sync::atomic::Ordering};

use tokio_util::sync::CancellationToken;

use super::{
    super::{Exit, verify},
    ImportArgs,
    admission::Intake,
    progress::OwnBatches,
};
use crate::{
    clock::Timestamp,
    config::Config,
    queue::{Queue, QueueError, Reader, stages::StageCounts, views::Filter},
    verify::compare::VerifyTotals,
};

/// How far a stage goes, counted from the first entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StageEnd {
    Entries(u64),
    /// Of a hundred.
    Share(f64),
}

impl StageEnd {
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Entries(entries) => entries.min(total),
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a count is between 0 and the count"
            )]
            Self::Share(share) => ((total as f64 * share / 100.0).ceil() as u64).min(total),
        }
    }
}

impl FromStr for StageEnd {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a stage is a number of entries or a share of them, e.g. --stages 20,1%,100%";
        match text.trim().strip_suffix('%') {
            Some(share) => {
                share.trim().parse().ok().filter(|share| *share > 0.0 && *share <= 100.0).map(Self::Share).ok_or(WHAT)
            }
            None => text.trim().parse().ok().filter(|entries| *entries > 0).map(Self::Entries).ok_or(WHAT),
        }
    }
}

/// What is counted after each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amiss {
    /// Refused by the API, or given up.
    Refused,
    /// A person must decide.
    Held,
    /// Documents that `verify` finds missing, changed or doubled, or whose profile cannot be read.
    Missing,
}

impl Amiss {
    const ALL: [Self; 3] = [Self::Refused, Self::Held, Self::Missing];

    const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Held => "held",
            Self::Missing => "missing",
        }
    }
}

/// More than this ends the import.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopRule {
    what: Amiss,
    most: f64,
    /// Of a hundred of the entries that were sent so far.
    is_share: bool,
}

impl FromStr for StopRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a rule is refused, held or missing, and a bound, e.g. --stop-if 'refused>2%' or 'held>0'";
        let (name, bound) = text.split_once('>').ok_or(WHAT)?;
        let what = Amiss::ALL.into_iter().find(|what| what.word() == name.trim()).ok_or(WHAT)?;
        let (bound, is_share) = match bound.trim().strip_suffix('%') {
            Some(share) => (share, true),
            None => (bound, false),
        };
        let most = bound.trim().parse().ok().filter(|most: &f64| *most >= 0.0 && most.is_finite()).ok_or(WHAT)?;
        Ok(Self { what, most, is_share })
    }
}

impl fmt::Display for StopRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}{}", self.what.word(), self.most, if self.is_share { "%" } else { "" })
    }
}

/// What the entries that were sent so far have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StageOutcome {
    sent: u64,
    refused: u64,
    held: u64,
    missing: u64,
}

impl StageOutcome {
    const fn count(&self, what: Amiss) -> u64 {
        match what {
            Amiss::Refused => self.refused,
            Amiss::Held => self.held,
            Amiss::Missing => self.missing,
        }
    }
}

/// The stages of an import, and when it ends before the last.
#[derive(Debug, Clone)]
pub(super) struct Stages {
    ends: Vec<StageEnd>,
    rules: Vec<StopRule>,
}

impl Stages {
    /// Without a rule for something of its own: more than 2 % refused, or anything held or missing, ends the import.
    pub(super) fn new(ends: &[StageEnd], rules: &[StopRule]) -> Option<Self> {
        let usual = Amiss::ALL.map(|what| match what {
            Amiss::Refused => StopRule { what, most: 2.0, is_share: true },
            Amiss::Held | Amiss::Missing => StopRule { what, most: 0.0, is_share: false },
        });
        let usual = usual.into_iter().filter(|usual| rules.iter().all(|rule| rule.what != usual.what));
        let rules = usual.chain(rules.iter().copied()).collect();
        (!ends.is_empty()).then(|| Self { ends: ends.to_vec(), rules })
    }

    /// The next stage, and how far it goes, after so many of all entries were sent.
    fn next(&self, sent: u64, total: u64) -> Option<(usize, u64)> {
        self.ends.iter().map(|end| end.of(total)).enumerate().find(|(_, end)| *end > sent)
    }

    /// The rule that is broken, if one is.
    fn broken(&self, outcome: &StageOutcome) -> Option<StopRule> {
        #[expect(clippy::cast_precision_loss, reason = "counts of entries are far below 2^53")]
        let is_broken = |rule: &&StopRule| {
            let count = outcome.count(rule.what) as f64;
            let most = if rule.is_share { outcome.sent as f64 * rule.most / 100.0 } else { rule.most };
            count > most
        };
        self.rules.iter().find(is_broken).copied()
    }
}

/// What a look at the stages led to.
#[derive(Debug)]
pub(super) enum StageStep {
    Wait,
    /// Entries were sent on.
    Begun,
    /// The command ends here.
    End(Exit),
}

/// An import that goes out in stages.
pub(super) struct StageRun {
    stages: Stages,
    /// Entries that do not end before the next stage begins; `None` until that is counted.
    rest: Option<u64>,
    /// Entries that a person must decide, as of the same count.
    held: u64,
    /// After how many sent entries the outcome was last judged.
    judged: u64,
    began: Option<Timestamp>,
}

impl StageRun {
    pub(super) const fn new(stages: Stages) -> Self {
        Self { stages, rest: None, held: 0, judged: 0, began: None }
    }

    /// Judges the stage that is over, if one is, and begins the next.
    ///
    /// # Errors
    ///
    /// Those of the queue, and of asking the API.
    pub(super) async fn step(
        &mut self,
        args: &ImportArgs,
        config: &Config,
        queue: &Queue,
        intake: &Intake,
        ours: &OwnBatches,
        stop: &CancellationToken,
    ) -> anyhow::Result<StageStep> {
        if self.rest.is_some_and(|rest| ours.unfinished > rest.saturating_add(self.held)) {
            return Ok(StageStep::Wait);
        }
        let counts = on_reader(queue, intake, |reader, _, batches| reader.stage_counts(batches)).await?;
        self.rest = Some(counts.held_back + counts.followers);
        self.held = counts.held;
        if counts.under_way > counts.held {
            return Ok(StageStep::Wait);
        }
        let (sent, total) = (counts.begun(), counts.begun() + counts.held_back);
        if sent > self.judged {
            if let Some(exit) = self.judge(args, config, queue, &counts, stop).await? {
                return Ok(StageStep::End(exit));
            }
            self.judged = sent;
        }
        if counts.held_back == 0 {
            return Ok(StageStep::Wait);
        }
        let Some((at, end)) = self.stages.next(sent, total) else {
            tracing::info!(
                sent,
                rest = counts.held_back,
                "the last of --stages is over: run it again with more of them, or without, for the rest"
            );
            return Ok(StageStep::End(Exit::WorkLeft));
        };
        self.began.get_or_insert_with(Timestamp::now);
        on_reader(queue, intake, move |reader, queue, batches| {
            if end >= total {
                return queue.begin_last_stage(reader, batches);
            }
            queue.begin_stage(&reader.sample_of_held_back(batches, end - sent)?)
        })
        .await?;
        self.rest = None;
        tracing::info!(
            stage = at + 1,
            of = self.stages.ends.len(),
            entries = end - sent,
            sent,
            total,
            "a stage begins"
        );
        Ok(StageStep::Begun)
    }

    async fn judge(
        &self,
        args: &ImportArgs,
        config: &Config,
        queue: &Queue,
        counts: &StageCounts,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<Exit>> {
        let filter = Filter { drop: Some(args.drop.clone()), since: self.began, ..Filter::default() };
        let (sum, ended) = verify::totals(config, queue, filter, args.give_up_after, stop).await?;
        if stop.is_cancelled() {
            return Ok(Some(Exit::WorkLeft));
        }
        let VerifyTotals { missing, changed, doubled, unreadable_profiles, standing, .. } = sum;
        let outcome = StageOutcome {
            sent: counts.begun(),
            refused: counts.refused,
            held: counts.held,
            missing: missing + changed + doubled + unreadable_profiles,
        };
        tracing::info!(
            sent = outcome.sent,
            created = counts.created,
            refused = outcome.refused,
            held = outcome.held,
            exist = standing,
            missing = outcome.missing,
            rest = counts.held_back,
            "a stage is over"
        );
        if let Some(why) = ended {
            tracing::error!(%why, "the stage could not be verified, so the next does not begin: run the command again");
            return Ok(Some(Exit::Unreachable));
        }
        let Some(rule) = self.stages.broken(&outcome) else { return Ok(None) };
        tracing::error!(
            sent = outcome.sent,
            refused = outcome.refused,
            held = outcome.held,
            missing = outcome.missing,
            untouched = counts.held_back,
            "stopped by {rule} of --stop-if: see `jobs --state failed,held` and `verify`, mend the cause, `retry`, run it again"
        );
        Ok(Some(if counts.held_back > 0 { Exit::WorkLeft } else { Exit::Refused }))
    }
}

/// Without stages: sends on what an earlier call with stages has held back.
///
/// # Errors
///
/// Those of the queue.
pub(super) async fn begin_all(queue: &Queue, intake: &Intake) -> anyhow::Result<StageStep> {
    if !intake.continued.swap(false, Ordering::Relaxed) {
        return Ok(StageStep::Wait);
    }
    on_reader(queue, intake, |reader, queue, batches| queue.begin_last_stage(reader, batches)).await?;
    Ok(StageStep::Begun)
}

/// Reads all jobs of the import on a thread that may block.
async fn on_reader<T: Send + 'static>(
    queue: &Queue,
    intake: &Intake,
    read: impl FnOnce(&Reader, &Queue, &[i64]) -> Result<T, QueueError> + Send + 'static,
) -> anyhow::Result<T> {
    let (queue, batches) = (queue.clone(), intake.batches());
    let read = move || read(&Reader::open(queue.path())?, &queue, &batches);
    Ok(tokio::task::spawn_blocking(read).await??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(ends: &str, rules: &str) -> Stages {
        let ends: Vec<StageEnd> = ends.split(',').map(|end| end.parse().unwrap()).collect();
        let rules: Vec<StopRule> =
            rules.split(',').filter(|rule| !rule.is_empty()).map(|rule| rule.parse().unwrap()).collect();
        Stages::new(&ends, &rules).unwrap()
    }

    #[test]
    fn stages_are_counted_from_the_first_entry() {
        let stages = stages("20, 1%, 100%", "");
        for (sent, total, next) in [
            (0, 10_000, Some((0, 20))),
            (20, 10_000, Some((1, 100))),
            // A stage that an interruption cut is filled up.
            (7, 10_000, Some((0, 20))),
            (100, 10_000, Some((2, 10_000))),
            // One per cent is less than the first stage.
            (20, 500, Some((2, 500))),
            (0, 5, Some((0, 5))),
            (10_000, 10_000, None),
        ] {
            assert_eq!(stages.next(sent, total), next, "{sent} of {total}");
        }
    }

    #[test]
    fn the_first_broken_rule_ends_the_import() {
        let outcome = |sent, refused, held, missing| StageOutcome { sent, refused, held, missing };
        for (rules, outcome, broken) in [
            ("", outcome(100, 2, 0, 0), None),
            ("", outcome(100, 3, 0, 0), Some("refused>2%")),
            ("", outcome(100, 0, 1, 0), Some("held>0")),
            ("", outcome(100, 0, 0, 1), Some("missing>0")),
            ("refused>5", outcome(10, 5, 0, 0), None),
            ("refused>5", outcome(10, 6, 0, 0), Some("refused>5")),
            ("held>50%", outcome(10, 0, 5, 0), None),
            ("held > 50 %", outcome(10, 0, 6, 0), Some("held>50%")),
        ] {
            assert_eq!(stages("1", rules).broken(&outcome).map(|rule| rule.to_string()).as_deref(), broken, "{rules}");
        }
    }

    #[test]
    fn what_is_no_stage_or_rule_is_refused_with_an_example() {
        for text in ["0", "0%", "101%", "x", "", "-1", "1.5"] {
            assert!(text.parse::<StageEnd>().unwrap_err().contains("--stages 20,1%,100%"), "{text}");
        }
        for text in ["refused", "refused>", "failed>1", "refused>-1", "refused<2%", "held>x%"] {
            assert!(text.parse::<StopRule>().unwrap_err().contains("--stop-if"), "{text}");
        }
    }
}
