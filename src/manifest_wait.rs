//! Why a manifest in a drop is not taken yet: in words for the operator, and in words for its sender.
//!
//! Both are exhaustive: a new reason does not compile before it has a sentence for each of the two.

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, near_path::but_there, problem::Problem, sender_cure::sender_cure};

/// What a sender does where only the operator can do something.
pub const NOTHING_TO_DO: &str = "nothing to do on your side; the receiver is informed";

/// So many missing files are named to a sender.
const NAMED: usize = 10;

/// Why a manifest is not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestWait {
    /// Its done marker, by this name, is not there.
    NoMarker(String),
    /// The list cannot be read by the drop's layout now, and why.
    Layout(String),
    /// The manifest itself cannot be read.
    Unreadable {
        why: String,
        cure: Option<String>,
        /// Whether its sender can do something about it.
        senders: bool,
    },
    /// Files that it names are not there, or are not its own.
    Files(MissingFiles),
    /// A file is open for writing, and by whom.
    OpenForWriting { file: String, who: String },
    /// It, or a file that it names, is not complete.
    NotWhole(Problem),
    /// The same where somebody has opened it for writing since it was found to be complete.
    WrittenSince(Problem),
    /// A file that it names cannot be read.
    FileUnreadable(Problem),
    /// A file that it names serves another manifest.
    InUse(Problem),
    /// Files cannot be put away in this drop, and why.
    BadGround(String),
    /// Its folders do not let its files go, and why.
    FilesStay(String),
    /// Its files could not be moved into the work folder.
    NotTaken {
        problem: Problem,
        /// Whether its sender can do something about it.
        senders: bool,
    },
    /// It replaced a manifest that is not settled yet.
    Behind,
    /// It is complete, and it, or one before it, is being checked.
    Checking,
}

/// A manifest that waits, of which only the scans of its drop know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanWait {
    pub manifest: String,
    pub wait: ManifestWait,
    pub since: Timestamp,
}

/// The files that a manifest waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingFiles {
    /// How many are not there.
    pub missing: u64,
    /// The first of them, as the manifest writes them.
    pub first: Vec<String>,
    /// The manifest that took the first of them.
    pub taken_by: Option<String>,
    /// Of the first that is not there while a file of a near name is: both.
    pub near: Option<(String, String)>,
    /// How many are there and serve other manifests.
    pub in_use: u64,
    /// What is wrong with the first of them.
    pub first_in_use: Option<Problem>,
}

/// What the text for a sender says of a manifest that waits: lower-case fragments without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderAdvice {
    /// What it waits for.
    pub waits_for: String,
    /// What its sender can do.
    pub cure: String,
    /// When it is taken without what it waits for, in milliseconds since 1970; absent: never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gives_up_at: Option<i64>,
}

impl SenderAdvice {
    /// Where nothing better is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { waits_for: "the receiver".into(), cure: NOTHING_TO_DO.into(), gives_up_at: None }
    }
}

impl ManifestWait {
    /// The reason for the operator, with the cure.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::NoMarker(marker) => format!("its done marker {marker} is not there"),
            Self::Layout(why) => format!("the list cannot be read by the drop's layout now: {why}"),
            Self::Unreadable { why, cure, .. } => {
                let cure = cure.as_ref().map(|cure| format!("; {cure}")).unwrap_or_default();
                format!("the manifest cannot be read: {why}{cure}")
            }
            Self::Files(files) => files.reason(),
            Self::OpenForWriting { file, who } => format!("{file} is still open for writing, by {who}"),
            Self::NotWhole(problem) | Self::WrittenSince(problem) => match &problem.path {
                Some(file) => format!("{file}: {}", problem.reason),
                None => format!("the manifest is {}", problem.reason),
            },
            Self::FileUnreadable(problem) => match &problem.path {
                Some(file) => format!("{file}: {}; {}", problem.reason, problem.cure),
                None => format!("the manifest is {}", problem.reason),
            },
            Self::InUse(problem) => in_use_reason(problem),
            Self::BadGround(why) => format!("the drop's ground is bad: {why}"),
            Self::FilesStay(why) => why.clone(),
            Self::NotTaken { problem, .. } => format!("it cannot be taken: {}; {}", placed(problem), problem.cure),
            Self::Behind => "the manifest that it replaced is not settled yet".to_owned(),
            Self::Checking => "its files are being checked".to_owned(),
        }
    }

    /// What it waits for and what can be done, for its sender.
    #[must_use]
    pub fn for_sender(&self) -> SenderAdvice {
        let advice =
            |waits_for: String, cure: &str| SenderAdvice { waits_for, cure: cure.to_owned(), gives_up_at: None };
        match self {
            Self::NoMarker(marker) => advice(
                format!("the done marker {marker}, which is missing"),
                &format!("put {marker} beside the manifest once all of its files are there"),
            ),
            Self::Layout(_) => advice("the receiver, who cannot read this list at present".into(), NOTHING_TO_DO),
            Self::Unreadable { why, cure, senders: true } => {
                let cure = cure.as_deref().unwrap_or("send the manifest again");
                advice(format!("a manifest that can be read: {why}"), cure)
            }
            Self::Unreadable { senders: false, .. } => {
                advice("the receiver, who cannot read the manifest at present".into(), NOTHING_TO_DO)
            }
            Self::Files(files) => files.for_sender(),
            Self::OpenForWriting { file, .. } => advice(
                format!("{file}, which is still being written"),
                "finish the upload and close the file; nothing else is needed",
            ),
            Self::WrittenSince(problem) => advice(
                format!("{}, which is still being written", subject(problem)),
                "finish the upload and close the file; nothing else is needed",
            ),
            Self::NotWhole(problem) => {
                advice(format!("the rest of {}: {}", subject(problem), problem.reason), &sender_cure(&problem.cure))
            }
            Self::FileUnreadable(problem) => {
                advice(format!("the receiver, who cannot read {} at present", subject(problem)), NOTHING_TO_DO)
            }
            Self::InUse(problem) => advice(in_use_words(problem), &sender_cure(&problem.cure)),
            Self::BadGround(_) => advice("the receiver, whose folders cannot be used at present".into(), NOTHING_TO_DO),
            Self::FilesStay(_) => {
                advice("the receiver, who may not move the files out of their folder at present".into(), NOTHING_TO_DO)
            }
            Self::NotTaken { problem, senders: true } => {
                advice(format!("files that can be taken: {}", placed(problem)), &sender_cure(&problem.cure))
            }
            Self::NotTaken { senders: false, .. } => {
                advice("the receiver, who cannot take the files at present".into(), NOTHING_TO_DO)
            }
            Self::Behind => advice(
                "the earlier manifest of this name, which is still being processed".into(),
                "nothing; it is taken after that by itself",
            ),
            Self::Checking => {
                advice("the check of its files, which takes a while".into(), "nothing; it goes on by itself")
            }
        }
    }
}

impl MissingFiles {
    fn reason(&self) -> String {
        let first = self.first.first().map_or("", String::as_str);
        let missing = match self.missing {
            0 => None,
            1 => Some(format!("it waits for {first}")),
            more => Some(format!("it waits for {more} files, the first is {first}")),
        };
        let missing = missing.map(|text| match &self.taken_by {
            Some(by) => format!("{text}, which went with {by}: send it again"),
            None => text,
        });
        let near = self.near.as_ref().map(|(written, there)| but_there(written, there));
        let in_use = self.first_in_use.as_ref().map(in_use_reason);
        let others = (self.in_use > 1).then(|| format!("{} such", self.in_use));
        missing.into_iter().chain(near).chain(in_use).chain(others).collect::<Vec<_>>().join("; ")
    }

    fn for_sender(&self) -> SenderAdvice {
        let (mut waits_for, mut cures) = (Vec::new(), Vec::new());
        let named = self.first.get(..NAMED).unwrap_or(&self.first);
        if let [only] = named
            && self.missing == 1
        {
            waits_for.push(format!("{only}, which has not arrived"));
            cures.push(format!("send {only}"));
        } else if self.missing > 0 {
            let more = self.missing.saturating_sub(named.len() as u64);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            waits_for.push(format!("{} files that have not arrived: {}{more}", self.missing, named.join(", ")));
            cures.push("send these files under exactly these names".to_owned());
        }
        if let Some(by) = self.taken_by.as_ref().filter(|_| self.missing > 0) {
            waits_for.push(format!(
                "{} went with {by}, and is needed once more",
                self.first.first().map_or("", |file| file)
            ));
        }
        if let Some((written, there)) = &self.near {
            waits_for.push(but_there(written, there));
            cures.push("send it under the name that the manifest has, or correct the manifest".to_owned());
        }
        if let Some(problem) = &self.first_in_use {
            let more = self.in_use.saturating_sub(1);
            let more = if more > 0 { format!(" ({more} more such)") } else { String::new() };
            waits_for.push(in_use_words(problem) + &more);
            cures.push(sender_cure(&problem.cure));
        }
        SenderAdvice { waits_for: waits_for.join("; "), cure: cures.join("; "), gives_up_at: None }
    }
}

fn in_use_reason(problem: &Problem) -> String {
    let reason = problem.reason.strip_prefix("the file ").unwrap_or(&problem.reason);
    format!("{} {reason}; {}", problem.path.as_deref().unwrap_or_default(), problem.cure)
}

fn in_use_words(problem: &Problem) -> String {
    format!("a file of its own as {}: {}", subject(problem), problem.reason)
}

fn subject(problem: &Problem) -> &str {
    problem.path.as_deref().unwrap_or("the manifest")
}

fn placed(problem: &Problem) -> String {
    match &problem.path {
        Some(path) => format!("{path}: {}", problem.reason),
        None => problem.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem::error("truncated: 2 of 3 bytes arrived", "send the file again").path("17/front.jpg")
    }

    fn one_file() -> MissingFiles {
        MissingFiles { missing: 1, first: vec!["17/front.jpg".into()], ..MissingFiles::default() }
    }

    fn every() -> Vec<(ManifestWait, &'static str, &'static str)> {
        let operators = |cause| (cause, "the receiver, ", NOTHING_TO_DO);
        vec![
            (
                ManifestWait::NoMarker("a.json.done".into()),
                "the done marker a.json.done, which is missing",
                "put a.json.done beside the manifest once all of its files are there",
            ),
            operators(ManifestWait::Layout("set new_references = true".into())),
            (
                ManifestWait::Unreadable {
                    why: "it is a link".into(),
                    cure: Some("put the file".into()),
                    senders: true,
                },
                "a manifest that can be read: it is a link",
                "put the file",
            ),
            operators(ManifestWait::Unreadable { why: "EACCES".into(), cure: Some("chmod".into()), senders: false }),
            (ManifestWait::Files(one_file()), "17/front.jpg, which has not arrived", "send 17/front.jpg"),
            (
                ManifestWait::OpenForWriting { file: "a.png".into(), who: "process 7".into() },
                "a.png, which is still being written",
                "finish the upload and close the file; nothing else is needed",
            ),
            (
                ManifestWait::NotWhole(problem()),
                "the rest of 17/front.jpg: truncated: 2 of 3 bytes arrived",
                "send the file again",
            ),
            (
                ManifestWait::WrittenSince(Problem::error("is open", "wait")),
                "the manifest, which is still being written",
                "finish the upload and close the file; nothing else is needed",
            ),
            operators(ManifestWait::FileUnreadable(problem())),
            (
                ManifestWait::InUse(Problem::error("the file is in use by b.json", "use own names").path("a.png")),
                "a file of its own as a.png: the file is in use by b.json",
                "use own names",
            ),
            operators(ManifestWait::BadGround("/srv/a: full (make room)".into())),
            operators(ManifestWait::FilesStay("/srv/a: sticky (chmod -t)".into())),
            (
                ManifestWait::NotTaken { problem: problem(), senders: true },
                "files that can be taken: 17/front.jpg: truncated: 2 of 3 bytes arrived",
                "send the file again",
            ),
            operators(ManifestWait::NotTaken { problem: problem(), senders: false }),
            (
                ManifestWait::Behind,
                "the earlier manifest of this name, which is still being processed",
                "nothing; it is taken after that by itself",
            ),
            (ManifestWait::Checking, "the check of its files, which takes a while", "nothing; it goes on by itself"),
        ]
    }

    /// Cures for operators named folders, modes and settings to partners, who can do nothing about them.
    #[test]
    fn each_wait_has_a_sentence_for_its_sender_and_one_for_the_operator() {
        for (wait, waits_for, cure) in every() {
            let advice = wait.for_sender();
            assert!(advice.waits_for.starts_with(waits_for), "{wait:?}: {advice:?}");
            assert_eq!(advice.cure, cure, "{wait:?}");
            assert!(!wait.reason().is_empty(), "{wait:?}");
            for text in [&advice.waits_for, &advice.cure, &wait.reason()] {
                assert!(!text.ends_with('.') && !text.contains('\n'), "{text:?}");
            }
            for operators in ["chmod", "/srv", "EACCES", "new_references"] {
                assert!(!advice.waits_for.contains(operators) && !advice.cure.contains(operators), "{advice:?}");
            }
        }
    }

    #[test]
    fn many_missing_files_are_counted_and_what_is_near_is_named() {
        let first = (0..20).map(|number| format!("{number}.png")).collect();
        let mut files = MissingFiles { missing: 25, first, ..MissingFiles::default() };
        let advice = ManifestWait::Files(files.clone()).for_sender();
        assert!(advice.waits_for.starts_with("25 files that have not arrived: 0.png, 1.png, "), "{advice:?}");
        assert!(advice.waits_for.ends_with("9.png, and 15 more"), "{advice:?}");
        files = MissingFiles { near: Some(("a.png".into(), "A.png".into())), ..one_file() };
        let advice = ManifestWait::Files(files.clone()).for_sender();
        assert!(advice.waits_for.contains("A.png is there"), "{advice:?}");
        assert!(advice.cure.contains("correct the manifest"), "{advice:?}");
        files.taken_by = Some("b.json".into());
        assert!(ManifestWait::Files(files).for_sender().waits_for.contains("went with b.json"));
        let in_use = MissingFiles {
            in_use: 3,
            first_in_use: Some(Problem::error("the file is in use", "use own names").path("a.png")),
            ..MissingFiles::default()
        };
        let advice = ManifestWait::Files(in_use).for_sender();
        assert_eq!(advice.waits_for, "a file of its own as a.png: the file is in use (2 more such)");
    }
}
