//! What a drop's owner decides: the words that the configuration, the queue and the judgement of calls share.

/// What happens to the good entries of a manifest that has bad ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// Good entries continue, bad ones are reported.
    Skip,
    /// The manifest is refused.
    Reject,
}

impl OnInvalid {
    /// Every word that the configuration knows.
    pub const WORDS: [(&'static str, Self); 2] = [("skip", Self::Skip), ("reject", Self::Reject)];
}

/// What happens to the files of a manifest when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSuccess {
    /// They are moved to the done folder.
    Archive,
    /// They are deleted, once the receipt is on disk.
    Delete,
    /// They stay where they are.
    Keep,
}

impl AfterSuccess {
    /// Every word that the configuration knows.
    pub const WORDS: [(&'static str, Self); 3] =
        [("archive", Self::Archive), ("delete", Self::Delete), ("keep", Self::Keep)];

    /// The word in the configuration and in the queue.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Delete => "delete",
            Self::Keep => "keep",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, after)| after)
    }
}

/// What happens to a file whose upload was handed over but never answered. Files cannot be listed (guide, spec), so
/// nobody can ask the API whether it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostFile {
    /// It is sent again, and the possible leftover is counted.
    Send,
    /// It is held until a person decides.
    Hold,
}

impl LostFile {
    /// Every word that the configuration knows.
    pub const WORDS: [(&'static str, Self); 2] = [("send", Self::Send), ("hold", Self::Hold)];
}
