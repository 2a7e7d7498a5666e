//! Texts for the people who send files: what a manifest waits for, that it is taken, and what came of it.
//!
//! Plain text in short lines. Names are the sender's own, and are escaped: what a manifest names may be hostile.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use crate::{
    clock::Timestamp,
    manifest_wait::SenderAdvice,
    printable::escape,
    problem::Problem,
    receipt::{BatchStatus, Counts, EntryResult, EntryStatus, failed},
    relative_path,
    sender_cure::sender_cure,
};

/// The last line of a text that goes away by itself. Whose file it is is known by it.
pub const OWN_LINE: &str = "This file was written by passfort-ingest. It changes and goes away by itself.\n";

/// Entries that are listed in a receipt.
pub const LISTED: usize = 100;

/// What is wrong with one entry or manifest, of which the rest is only counted.
const PROBLEMS: usize = 5;

/// A moment, as people read it.
fn moment(at: Timestamp) -> String {
    at.to_string().replacen('T', " ", 1).replace('Z', " UTC")
}

/// `<manifest>.waiting.txt`
#[must_use]
pub fn waiting(manifest: &str, since: Timestamp, advice: &SenderAdvice) -> String {
    let SenderAdvice { waits_for, cure, gives_up_at } = advice;
    let name = escape(relative_path::name(manifest));
    let until = gives_up_at
        .map(|at| format!("Until:      {}; after that it is taken without what is missing.\n", moment(Timestamp(at))));
    format!(
        "{name} is waiting. Nothing of it has been processed yet.\n\nWaits for:  {}.\nSince:      {}\nWhat to do: {}.\n{}\n{OWN_LINE}",
        escape(waits_for),
        moment(since),
        escape(cure),
        until.unwrap_or_default()
    )
}

/// `<manifest>.taken.txt`
#[must_use]
pub fn taken(manifest: &str, received_at: Timestamp, entries: Option<u64>) -> String {
    let name = escape(relative_path::name(manifest));
    let entries = match entries {
        Some(1) => " It has 1 entry.".to_owned(),
        Some(entries) => format!(" It has {entries} entries."),
        None => String::new(),
    };
    format!(
        "{name} was taken and is being processed.{entries}\n\nSince:      {}\nWhat to do: nothing. What came of it will be in \
         {name}.receipt.txt.\n\n{OWN_LINE}",
        moment(received_at)
    )
}

/// Where the files of a manifest are once its receipt is there; of one that is rejected, where itself is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesAre {
    /// In a folder of the drop.
    In(String),
    /// Put away where the sender does not see them.
    Kept,
    /// Removed.
    Removed,
    /// Where they were.
    InPlace,
}

/// What a text about the end of a manifest says.
#[derive(Debug)]
pub struct EndedManifest<'a> {
    pub manifest: &'a str,
    pub status: BatchStatus,
    pub counts: Counts,
    pub received_at: Timestamp,
    pub finished_at: Timestamp,
    /// Why the manifest itself is unusable.
    pub problems: &'a [Problem],
    /// The first of the entries that did not make it, at most one more than [`LISTED`].
    pub unwell: &'a [EntryResult],
    pub files: FilesAre,
    /// The name of the receipt for programs.
    pub receipt: &'a str,
    /// The name of the list of failed entries, where there is one.
    pub list: Option<&'a str>,
}

impl EndedManifest<'_> {
    /// Writes `<manifest>.receipt.txt`.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}\n", self.verdict())?;
        writeln!(out, "Taken:    {}", moment(self.received_at))?;
        writeln!(out, "Finished: {}\n", moment(self.finished_at))?;
        let Counts { entries, created, duplicate, failed, cancelled, invalid } = self.counts;
        for (what, count) in [
            ("Entries:           ", entries),
            ("Created:           ", created),
            ("Existed before:    ", duplicate),
            ("Failed:            ", failed),
            ("Cancelled:         ", cancelled),
            ("Not accepted:      ", invalid),
        ] {
            if count > 0 || what.starts_with("Entries") {
                writeln!(out, "{what}{count}")?;
            }
        }
        self.problems(out, self.problems, "")?;
        if !self.unwell.is_empty() {
            writeln!(out, "\nWhat was not created:")?;
        }
        for entry in self.unwell.iter().take(LISTED) {
            self.entry(out, entry)?;
        }
        let unwell = failed.saturating_add(cancelled).saturating_add(invalid);
        let listed = self.unwell.len().min(LISTED) as u64;
        if unwell > listed && !self.unwell.is_empty() {
            let where_else = self.list.unwrap_or(self.receipt);
            writeln!(out, "\n... and {} more: see {}", unwell - listed, escape(where_else))?;
        }
        let (what, rest) = match self.status {
            BatchStatus::Rejected => ("manifest", " The files that it names stay where they are."),
            BatchStatus::Done | BatchStatus::Partial | BatchStatus::Failed => ("files", ""),
        };
        writeln!(out, "\nThe {what}: {}{rest}", self.files())?;
        if let Some(what) = self.what_to_do() {
            writeln!(out, "What to do: {what}")?;
        }
        writeln!(out, "For programs, and with all IDs: {}", escape(self.receipt))
    }

    fn verdict(&self) -> String {
        let name = escape(relative_path::name(self.manifest));
        let Counts { entries, created, duplicate, .. } = self.counts;
        let well = created.saturating_add(duplicate);
        match self.status {
            BatchStatus::Done if entries == 1 => format!("{name}: all is well, its one entry exists."),
            BatchStatus::Done => format!("{name}: all is well, all of its {entries} entries exist."),
            BatchStatus::Partial => {
                format!("{name}: {well} of its {entries} entries exist, {} do not.", entries.saturating_sub(well))
            }
            BatchStatus::Failed => format!("{name}: nothing was created, none of its entries made it ({entries})."),
            BatchStatus::Rejected => format!("{name}: the manifest cannot be used, and nothing of it was created."),
        }
    }

    fn problems(&self, out: &mut dyn Write, problems: &[Problem], indent: &str) -> io::Result<()> {
        let errors = || problems.iter().filter(|problem| problem.is_error());
        for problem in errors().take(PROBLEMS) {
            if indent.is_empty() {
                writeln!(out)?;
            }
            let place = problem.path.as_ref().or(problem.field.as_ref());
            let place = place.filter(|place| !problem.reason.starts_with(place.as_str()));
            let place = place.map(|place| format!("{}: ", escape(place))).unwrap_or_default();
            writeln!(out, "{indent}Reason:   {place}{}", escape(&problem.reason))?;
            writeln!(out, "{indent}To do:    {}", escape(&sender_cure(&problem.cure)))?;
        }
        match errors().count().saturating_sub(PROBLEMS) {
            0 => Ok(()),
            more => writeln!(out, "{indent}... and {more} more: see {}", escape(self.receipt)),
        }
    }

    fn entry(&self, out: &mut dyn Write, entry: &EntryResult) -> io::Result<()> {
        write!(out, "\n  Entry {}", entry.index.saturating_add(1))?;
        if let Some(source) = &entry.source {
            write!(out, " ({}", escape(&source.file))?;
            source.row.map_or(Ok(()), |row| write!(out, ", row {row}"))?;
            write!(out, ")")?;
        }
        for (what, text) in [("reference", &entry.reference), ("profile", &entry.profile_id)] {
            if let Some(text) = text {
                write!(out, ", {what} {}", escape(text))?;
            }
        }
        let status = EntryStatus::of(entry.state);
        let what = if status == EntryStatus::Invalid { "not accepted" } else { status.as_str() };
        writeln!(out, ": {what}")?;
        self.problems(out, &failed::problems_of(entry), "    ")
    }

    fn files(&self) -> Cow<'_, str> {
        match &self.files {
            FilesAre::In(folder) => format!("moved to {}.", escape(folder)).into(),
            FilesAre::Kept => "kept by the receiver.".into(),
            FilesAre::Removed => "removed.".into(),
            FilesAre::InPlace => "where they were.".into(),
        }
    }

    fn what_to_do(&self) -> Option<String> {
        if self.status == BatchStatus::Done {
            return None;
        }
        let again = "what was created is not created a second time";
        Some(match self.list {
            Some(list) => {
                format!("correct {} and drop it as a manifest, with the files that it asks for; {again}.", escape(list))
            }
            None => format!("correct the manifest and drop it again, with its files; {again}."),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{EntryKind, EntrySource},
        job::JobState,
    };

    const AT: Timestamp = Timestamp(1_795_378_504_000);

    fn text(ended: &EndedManifest<'_>) -> String {
        let mut out = Vec::new();
        ended.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn entry(index: u64, state: Option<JobState>, problems: Vec<Problem>) -> EntryResult {
        EntryResult {
            index,
            kind: EntryKind::Document,
            reference: Some(format!("customer-{index}")),
            profile_id: None,
            category: None,
            document_type: None,
            content: None,
            name: None,
            state,
            remote_id: None,
            problems,
            warnings: Vec::new(),
            reason: Some("HTTP 422".into()),
            source: None,
            uploads: Vec::new(),
        }
    }

    fn ended<'a>(status: BatchStatus, counts: Counts, unwell: &'a [EntryResult]) -> EndedManifest<'a> {
        EndedManifest {
            manifest: "in/b.manifest.json",
            status,
            counts,
            received_at: AT,
            finished_at: Timestamp(AT.0 + 5_000),
            problems: &[],
            unwell,
            files: FilesAre::In("failed/2026-11-22".into()),
            receipt: "b.manifest.json.receipt.json",
            list: None,
        }
    }

    #[test]
    fn a_wait_says_what_for_since_when_and_what_helps() {
        let advice = SenderAdvice {
            waits_for: "17/front.jpg, which has not arrived".into(),
            cure: "send 17/front.jpg".into(),
            gives_up_at: Some(AT.0 + 86_400_000),
        };
        assert_eq!(
            waiting("in/b.manifest.json", AT, &advice),
            "b.manifest.json is waiting. Nothing of it has been processed yet.\n\n\
             Waits for:  17/front.jpg, which has not arrived.\n\
             Since:      2026-11-22 20:15:04 UTC\n\
             What to do: send 17/front.jpg.\n\
             Until:      2026-11-23 20:15:04 UTC; after that it is taken without what is missing.\n\n\
             This file was written by passfort-ingest. It changes and goes away by itself.\n"
        );
        let forever = SenderAdvice { gives_up_at: None, waits_for: "a\n\u{202e}b".into(), ..advice };
        let hostile = waiting("b\u{1b}.json", AT, &forever);
        assert!(!hostile.contains("Until") && hostile.contains("b\\u{1b}.json") && hostile.contains("a\\n\\u{202e}b"));
    }

    #[test]
    fn what_is_taken_names_the_receipt() {
        let text = taken("in/b.manifest.json", AT, Some(2));
        assert!(text.starts_with("b.manifest.json was taken and is being processed. It has 2 entries.\n"), "{text}");
        assert!(text.contains("2026-11-22 20:15:04 UTC") && text.contains("b.manifest.json.receipt.txt"), "{text}");
        assert!(text.ends_with(OWN_LINE));
        assert!(taken("b.json", AT, Some(1)).contains("It has 1 entry."));
    }

    #[test]
    fn a_receipt_begins_with_the_verdict() {
        let counts = |created, failed| Counts { entries: created + failed, created, failed, ..Counts::default() };
        for (status, counts, expected) in [
            (BatchStatus::Done, counts(2, 0), "b.manifest.json: all is well, all of its 2 entries exist."),
            (BatchStatus::Done, counts(1, 0), "b.manifest.json: all is well, its one entry exists."),
            (BatchStatus::Partial, counts(2, 1), "b.manifest.json: 2 of its 3 entries exist, 1 do not."),
            (
                BatchStatus::Failed,
                counts(0, 3),
                "b.manifest.json: nothing was created, none of its entries made it (3).",
            ),
            (
                BatchStatus::Rejected,
                counts(0, 0),
                "b.manifest.json: the manifest cannot be used, and nothing of it was created.",
            ),
        ] {
            let text = text(&ended(status, counts, &[]));
            assert_eq!(text.lines().next(), Some(expected));
            assert_eq!(text.contains("What to do"), status != BatchStatus::Done, "{text}");
            assert!(text.ends_with("b.manifest.json.receipt.json\n"), "{text}");
            let stays = text
                .contains("\nThe manifest: moved to failed/2026-11-22. The files that it names stay where they are.\n");
            assert_eq!(stays, status == BatchStatus::Rejected, "{text}");
        }
    }

    #[test]
    fn each_entry_that_is_not_well_has_its_reason_and_a_cure_for_its_sender() {
        let truncated = Problem::error("truncated: 2 of 3 bytes arrived", "send the file again").path("17/front.jpg");
        let invalid = EntryResult {
            source: Some(EntrySource { file: "list.csv".into(), row: Some(7), is_file: false }),
            ..entry(1, None, vec![truncated, Problem::warning("odd", "look")])
        };
        let refused = Problem::error(
            "the API refused it: no such type",
            "mend what the API names, then drop the entry again or use retry",
        );
        let unwell = [
            invalid,
            entry(2, Some(JobState::Failed), vec![refused]),
            entry(3, Some(JobState::Cancelled), Vec::new()),
            entry(4, Some(JobState::Failed), vec![Problem::error("gave up", "once the API works again, use retry")]),
        ];
        let counts = Counts { entries: 5, created: 1, failed: 2, cancelled: 1, invalid: 1, ..Counts::default() };
        let mut ended = ended(BatchStatus::Partial, counts, &unwell);
        ended.list = Some("b.failed.manifest.jsonl");
        let text = text(&ended);
        for part in [
            "Not accepted:      1\n",
            "  Entry 2 (list.csv, row 7), reference customer-1: not accepted\n    Reason:   17/front.jpg: truncated: 2 of 3 bytes \
             arrived\n    To do:    send the file again\n",
            "  Entry 3, reference customer-2: failed\n    Reason:   the API refused it: no such type\n    To do:    mend what the \
             API names, then drop the entry again\n",
            "Entry 4, reference customer-3: cancelled\n",
            "    To do:    the receiver is informed; drop it again, with its files, when they say so\n",
            "The files: moved to failed/2026-11-22.\n",
            "What to do: correct b.failed.manifest.jsonl and drop it as a manifest",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("retry") && !text.contains("odd"), "{text}");
    }

    #[test]
    fn of_many_entries_the_rest_is_in_the_list() {
        let unwell: Vec<EntryResult> =
            (0..=LISTED as u64).map(|index| entry(index, None, vec![Problem::error("bad", "mend it")])).collect();
        let counts = Counts { entries: 5_000, invalid: 5_000, ..Counts::default() };
        let text = text(&ended(BatchStatus::Failed, counts, &unwell));
        assert!(text.contains("Entry 100,") && !text.contains("Entry 101"), "{text}");
        assert!(text.contains("... and 4900 more: see b.manifest.json.receipt.json\n"), "{text}");
    }
}
