//! How many entries of a manifest are bad, and when that is too many.
//!
//! A file of 1.5 MB that was no manifest at all, half a million times `{}`, became 570 MB of findings and receipt. Such a
//! manifest is refused as a whole, and reading stops.

use crate::{problem::Problem, queue::admission::Admission};

/// The reasons that a refusal names.
const FIRST: usize = 10;

/// Why a drop that takes all or nothing refuses a manifest of which so many entries are bad.
pub(crate) fn all_or_nothing(bad: u64, entries: u64) -> Problem {
    let reason = format!("{bad} of its {entries} entries are invalid, and this drop takes all or nothing");
    let cure = "mend the entries that are listed, then drop the manifest again; or set on_invalid = \"skip\"";
    Problem::error(reason, cure).code("all-or-nothing")
}

/// Counts the entries of one manifest while it is read.
#[derive(Debug)]
pub(crate) struct BadEntries {
    max: u64,
    read: u64,
    bad: u64,
    first: Vec<Problem>,
}

impl BadEntries {
    pub(crate) const fn new(max: u64) -> Self {
        Self { max, read: 0, bad: 0, first: Vec::new() }
    }

    /// How many entries were read.
    pub(crate) const fn read(&self) -> u64 {
        self.read
    }

    /// Whether more are bad than may be, and more than half of those read.
    pub(crate) const fn are_too_many(&self) -> bool {
        self.bad > self.max && self.bad > self.read / 2
    }

    /// How many of them are bad.
    pub(crate) const fn bad_ones(&self) -> u64 {
        self.bad
    }

    /// Counts a good one; returns whether too many are bad.
    pub(crate) const fn good(&mut self) -> bool {
        self.read += 1;
        self.are_too_many()
    }

    /// Counts a bad one; returns whether too many are.
    pub(crate) fn bad(&mut self, problems: &[Problem], line: Option<u64>) -> bool {
        self.read += 1;
        self.bad += 1;
        if self.first.len() < FIRST
            && let Some(problem) = problems.iter().find(|problem| problem.is_error())
        {
            let mut problem = problem.clone();
            if let Some(line) = line.filter(|_| !problem.reason.starts_with("line ")) {
                problem.reason = format!("line {line}: {}", problem.reason);
            }
            self.first.push(problem);
        }
        self.are_too_many()
    }

    /// The same of an entry that was examined.
    pub(crate) fn count(&mut self, admission: &Admission, line: Option<u64>) -> bool {
        match admission {
            Admission::Take { .. } | Admission::Known { .. } | Admission::Unchanged { .. } => self.good(),
            Admission::Invalid { problems, .. } => self.bad(problems, line),
        }
    }

    /// Why the manifest is refused, with the first reasons.
    pub(crate) fn refusal(self) -> Vec<Problem> {
        let mut problems = vec![self.problem("so it is refused as a whole")];
        problems.extend(self.first);
        problems
    }

    /// Why no more of it is read, where some of it is being sent.
    pub(crate) fn rest_unread(&self) -> Problem {
        self.problem("so the rest is not read")
    }

    fn problem(&self, so: &str) -> Problem {
        Problem::error(
            format!("{} of the {} entries read are bad, {so}", self.bad, self.read),
            "correct what is named and drop the manifest again; or raise max_invalid",
        )
        .code("too-many-invalid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_more_than_may_be_and_more_than_half() {
        for (max, pattern, expected) in [
            (2, "bb", false),
            (2, "bbb", true),
            (2, "gggbbb", false),
            (2, "gggbbbb", true),
            (2, "gbgbgb", false),
            (0, "b", true),
            (0, "g", false),
            (0, "gb", false),
        ] {
            let mut entries = BadEntries::new(max);
            for letter in pattern.chars() {
                if letter == 'b' {
                    entries.bad(&[], None)
                } else {
                    entries.good()
                };
            }
            assert_eq!(entries.are_too_many(), expected, "{pattern} where {max} may be");
        }
    }

    #[test]
    fn a_refusal_has_how_many_were_read_and_the_first_reasons() {
        let mut entries = BadEntries::new(20);
        let mut line = 0;
        while !entries.bad(&[Problem::error("no profile_id", "add it")], Some(line)) {
            line += 1;
        }
        let refusal = entries.refusal();
        assert_eq!(refusal.len(), 1 + FIRST);
        assert_eq!(refusal[0].reason, "21 of the 21 entries read are bad, so it is refused as a whole");
        assert_eq!(refusal[2].reason, "line 1: no profile_id");
    }
}
