//! What came of an import: its numbers, and what did not make it, by cause, with the commands that go on.
//!
//! For people it has numbers, codes, and this program's own words, since a timer's output ends in a log too; `--json` also
//! has names, references and the API's words.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    super::{
        Exit,
        check::causes::{ProblemCause, ProblemCauses},
        output::{Output, escape},
    },
    ImportEnd,
};
use crate::{
    closing::failed_list_beside,
    job::JobState,
    printable::shell_word,
    problem::Problem,
    queue::{QueueError, Reader, identity::OTHER_CONTENT, views::receipt::UnwellEntry},
    receipt::{Counts, EntryStatus},
};

/// Manifests whose lists of failed entries are named.
const NAMED: usize = 20;

/// How an import ended.
#[derive(Debug, Default, Serialize)]
pub(super) struct ImportSummary {
    /// How its entries ended; those that have not are no part of it, except in `entries`.
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// What a list that was taken in before has come to, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<ListDelta>,
    /// Entries that have not ended.
    pub(super) left: u64,
    /// Of these, entries that a person must decide.
    pub(super) held: u64,
    /// Entries that are not taken in, as far as their manifests were read.
    pub(super) unread: u64,
    /// Manifests that were refused as a whole.
    pub(super) unusable_manifests: u64,
    /// Manifests that could not be taken in.
    pub(super) not_taken_in: u64,
    exit: u8,
    pub(super) manifests: Vec<ManifestEnd>,
    causes: Vec<EndCause>,
}

/// What differs in lists that were taken in before.
#[derive(Debug, Default, Serialize)]
struct ListDelta {
    /// Entries that were not created before.
    new: u64,
    /// Entries that contradict what was created under their references.
    changed: u64,
    /// Entries that are there already.
    unchanged: u64,
    /// Entries that the list had when it was last taken in.
    gone: u64,
    /// The jobs that created the first of them.
    gone_jobs: Vec<i64>,
}

/// How one of its manifests ended.
#[derive(Debug, Serialize)]
pub(super) struct ManifestEnd {
    pub(super) batch: i64,
    manifest: PathBuf,
    status: &'static str,
    pub(super) receipt: Option<PathBuf>,
    /// The list of the entries that did not make it, to be mended and imported.
    failed_entries: Option<PathBuf>,
}

/// Entries that ended, or are held, for one cause.
#[derive(Debug, Serialize)]
struct EndCause {
    status: &'static str,
    #[serde(flatten)]
    cause: ProblemCause<Example>,
    /// What shows all of them, and what goes on with them.
    commands: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Example {
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<i64>,
    batch: i64,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    reason: String,
}

/// How entries may end that are listed by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unwell {
    Failed,
    Held,
    Invalid,
    Cancelled,
    Rejected,
}

impl Unwell {
    const ALL: [Self; 5] = [Self::Failed, Self::Held, Self::Invalid, Self::Cancelled, Self::Rejected];

    const fn of(state: Option<JobState>) -> Self {
        match state {
            None => Self::Invalid,
            Some(JobState::Cancelled) => Self::Cancelled,
            Some(JobState::Held) => Self::Held,
            Some(_) => Self::Failed,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Invalid => "invalid",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }

    /// What shows all entries of a cause, and what goes on with them. `words`: what each of them says.
    fn commands(self, words: Option<&str>, example: Option<&Example>) -> Vec<String> {
        let error = words.map_or_else(String::new, |words| format!(" --error {}", shell_word(words)));
        let command = |text: String| format!("passfort-ingest {text}");
        match (self, example) {
            (Self::Failed, _) => {
                vec![command(format!("jobs --state failed{error}")), command(format!("retry --state failed{error}"))]
            }
            (Self::Held, Some(Example { job: Some(job), .. })) => {
                vec![
                    command(format!("jobs --state held{error}")),
                    command(format!("show {job}")),
                    command("release --help".into()),
                ]
            }
            (Self::Held, _) => vec![command(format!("jobs --state held{error}"))],
            (Self::Invalid, _) => vec![command(format!("jobs --invalid{error}"))],
            (Self::Cancelled, _) => vec![command("jobs --state cancelled".into())],
            (Self::Rejected, Some(example)) => vec![command(format!("show batch {}", example.batch))],
            (Self::Rejected, None) => Vec::new(),
        }
    }
}

impl ImportSummary {
    /// Reads how the batches of an import ended, however far it came.
    pub(super) fn of(reader: &Reader, ended: &ImportEnd) -> Result<Self, QueueError> {
        let mut sum = Self { unread: ended.unread, not_taken_in: ended.trouble, ..Self::default() };
        let mut causes = Unwell::ALL.map(|_| ProblemCauses::default());
        for (batch, manifest) in &ended.batches {
            sum.add(reader, *batch, manifest, &mut causes)?;
        }
        let exit = if sum.is_well() { ended.exit } else { ended.exit.max(Exit::Refused) };
        sum.exit = exit.code();
        for (end, causes) in Unwell::ALL.into_iter().zip(causes) {
            sum.causes.extend(causes.into_sorted().into_iter().map(|cause| {
                let commands = end.commands(cause.code.as_deref(), cause.examples.first());
                EndCause { status: end.word(), commands, cause }
            }));
        }
        Ok(sum)
    }

    fn add(
        &mut self,
        reader: &Reader,
        batch: i64,
        manifest: &Path,
        causes: &mut [ProblemCauses<Example>; Unwell::ALL.len()],
    ) -> Result<(), QueueError> {
        let mut end = reader.batch_end(batch)?;
        let left = reader.batch_progress(batch)?.under_way;
        let Counts { entries, duplicate, .. } = end.counts;
        let mut changed = 0;
        let status = if left > 0 { "open" } else { end.counts.status(end.problems.is_some()).as_str() };
        // Jobs that have not ended are counted as failed until they have.
        end.counts.failed = end.counts.failed.saturating_sub(left);
        self.counts.sum(&end.counts);
        self.left += left;
        let mut add = |end: Unwell, problem: &Problem, example| {
            if let Some(causes) = causes.get_mut(end as usize) {
                causes.add(problem, || example);
            }
        };
        let Counts { failed, cancelled, invalid, .. } = end.counts;
        if failed + cancelled + invalid + left > 0 {
            let mut held = 0;
            reader.unwell_entries(batch, |entry| {
                let end = Unwell::of(entry.state);
                held += u64::from(end == Unwell::Held);
                let problem = cause_of(&entry);
                changed += u64::from(problem.code.as_deref() == Some(OTHER_CONTENT));
                let UnwellEntry { job, index, reference, .. } = entry;
                let reason = problem.reason.clone();
                add(end, &problem, Example { job, batch, index, reference, reason });
            })?;
            self.held += held;
        }
        if let Some((gone, jobs)) = end.gone {
            let list = self.list.get_or_insert_default();
            list.new += entries.saturating_sub(duplicate + invalid + changed);
            list.changed += changed;
            list.unchanged += duplicate;
            list.gone += gone;
            list.gone_jobs.extend(jobs);
        }
        if let Some(problem) = end.problems.as_ref().and_then(|problems| problems.first()) {
            self.unusable_manifests += 1;
            let reason = problem.reason.clone();
            add(Unwell::Rejected, problem, Example { job: None, batch, index: 0, reference: None, reason });
        }
        self.manifests.push(ManifestEnd {
            batch,
            manifest: manifest.to_owned(),
            status,
            failed_entries: end.receipt.as_deref().and_then(|receipt| failed_list_beside(receipt, manifest, entries)),
            receipt: end.receipt,
        });
        Ok(())
    }

    const fn is_well(&self) -> bool {
        let Counts { failed, cancelled, invalid, .. } = self.counts;
        failed + cancelled + invalid + self.unusable_manifests + self.not_taken_in == 0
    }

    /// What to end with.
    pub(super) fn exit(&self, ended: Exit) -> Exit {
        if self.is_well() { ended } else { ended.max(Exit::Refused) }
    }

    /// Writes it for people.
    pub(super) fn write(&self, output: &mut Output<'_>) -> io::Result<()> {
        let Counts { entries, created, duplicate, failed, cancelled, invalid } = self.counts;
        let mut parts = vec![format!("{created} created"), format!("{duplicate} there already")];
        for (number, what) in [
            (failed, "failed"),
            (invalid, "invalid"),
            (cancelled, "cancelled"),
            (self.left.saturating_sub(self.held), "left to do"),
            (self.held, "held until a person decides"),
        ] {
            if number > 0 {
                parts.push(format!("{number} {what}"));
            }
        }
        writeln!(output.out, "{}: {}", plural(entries, "entry", "entries"), parts.join(", "))?;
        if let Some(ListDelta { new, changed, unchanged, gone, gone_jobs }) = &self.list {
            let jobs = gone_jobs.first().map_or_else(String::new, |job| format!(" (e.g. that of job {job})"));
            let gone = format!("{gone} gone{jobs}");
            let delta = format!("{new} new, {changed} changed, {unchanged} unchanged, {gone}");
            writeln!(output.out, "since the list was last taken in: {delta}")?;
        }
        for (number, what) in [
            (self.unread, "entries not read yet"),
            (self.unusable_manifests, "manifests refused as a whole"),
            (self.not_taken_in, "manifests that could not be taken in"),
        ] {
            if number > 0 {
                writeln!(output.out, "{number} {what}")?;
            }
        }
        for EndCause { status, cause, commands } in &self.causes {
            let what = cause.code.as_deref().unwrap_or(&cause.reason);
            let example = cause.examples.first().map_or_else(String::new, |example| match example.job {
                Some(job) => format!("; e.g. job {job}"),
                None => format!("; e.g. index {} of batch {}", example.index, example.batch),
            });
            writeln!(output.out, "\n{} {status}: {}{example}", cause.count, escape(what))?;
            if !cause.cure.is_empty() {
                writeln!(output.out, "  cure: {}", escape(&cause.cure))?;
            }
            for command in commands {
                writeln!(output.out, "  {}", escape(command))?;
            }
        }
        let lists = || self.manifests.iter().filter_map(|manifest| manifest.failed_entries.as_deref());
        if lists().next().is_some() {
            writeln!(output.out, "\nThe rows that did not make it, to be mended and imported:")?;
            for list in lists().take(NAMED) {
                writeln!(output.out, "  {}", escape(&list.to_string_lossy()))?;
            }
            let more = lists().count().saturating_sub(NAMED);
            if more > 0 {
                writeln!(output.out, "  and {more} more, beside their receipts")?;
            }
        }
        if self.left > self.held || self.unread > 0 {
            writeln!(output.out, "\nRun the same command again to go on.")?;
        }
        Ok(())
    }
}

/// Why an entry did not make it: its first problem, with the API's numbers as its code where it has none.
fn cause_of(entry: &UnwellEntry) -> Problem {
    let first = entry.problems.iter().find(|problem| problem.is_error()).cloned();
    let reason = || entry.reason.clone().unwrap_or_default();
    let mut problem = match EntryStatus::of(entry.state) {
        EntryStatus::Cancelled => {
            Problem::error("cancelled by a person", "import it again, if it is to be created after all")
        }
        _ => first.unwrap_or_else(|| Problem::error(reason(), "")),
    };
    if problem.code.is_none() {
        problem.code = api_numbers(&problem.reason).map(Into::into);
    }
    problem
}

/// The numbers of an answer, as `HTTP 422, code 201`, in the words about it.
fn api_numbers(words: &str) -> Option<&str> {
    let from = words.find("HTTP ")?;
    let rest = words.get(from..)?;
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let status = "HTTP ".len() + digits(rest.get("HTTP ".len()..)?);
    if status == "HTTP ".len() {
        return None;
    }
    let code = rest.get(status..).and_then(|rest| rest.strip_prefix(", code ")).map_or(0, |code| match digits(code) {
        0 => 0,
        digits => ", code ".len() + digits,
    });
    rest.get(..status + code)
}

fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_an_answer_are_found_in_its_words() {
        for (words, expected) in [
            ("upload_image: HTTP 422, code 201: bad category", Some("HTTP 422, code 201")),
            ("HTTP 403", Some("HTTP 403")),
            ("HTTP 403, code x", Some("HTTP 403")),
            ("HTTP is spoken", None),
            ("the file has changed", None),
        ] {
            assert_eq!(api_numbers(words), expected, "{words}");
        }
    }
}
