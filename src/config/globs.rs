//! Lists of file name patterns, compiled, with their texts.
//!
//! A pattern without a slash is about a name in any folder, one with a slash about the complete path relative to the
//! drop; `*` and `?` never match a slash, and letter case does not count. Whether a folder that a pattern ignores is entered is the scanner's decision.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The longest pattern that is accepted, in bytes: the longest file name that Linux knows, four times over.
const MAX_PATTERN_BYTES: usize = 1024;

/// Patterns of which any may match.
#[derive(Debug, Clone)]
pub struct Globs {
    texts: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Compiles patterns such as `*.manifest.json`.
    ///
    /// # Errors
    ///
    /// The pattern that is faulty, and the reason as a lower-case fragment.
    pub fn compile<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, (String, String)> {
        let mut kept = Vec::new();
        let mut builder = GlobSetBuilder::new();
        for text in texts {
            let text = text.as_ref();
            let refused = |reason: &str| (text.to_owned(), reason.to_owned());
            if text.is_empty() {
                return Err(refused("the pattern is empty"));
            }
            if text.len() > MAX_PATTERN_BYTES {
                return Err(refused("the pattern is longer than 1,024 bytes"));
            }
            let anchored = match text.strip_prefix('/') {
                Some(rest) => rest.to_owned(),
                None if text.contains('/') => text.to_owned(),
                None => format!("**/{text}"),
            };
            let glob = GlobBuilder::new(&anchored)
                .literal_separator(true)
                .case_insensitive(true)
                .build()
                .map_err(|fault| refused(&format!("it is not a pattern: {}", fault.kind())))?;
            builder.add(glob);
            kept.push(text.to_owned());
        }
        let set = builder.build().map_err(|fault| (kept.join(", "), format!("too much to match: {}", fault.kind())))?;
        Ok(Self { texts: kept, set })
    }

    /// No pattern, which matches nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { texts: Vec::new(), set: GlobSet::empty() }
    }

    /// Whether any pattern matches this path, which is relative to the drop.
    #[must_use]
    pub fn matches(&self, relative: impl AsRef<Path>) -> bool {
        self.set.is_match(relative)
    }

    /// The patterns as they were written.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The compiled set, with patterns that have no slash already spread over all folders.
    #[must_use]
    pub fn set(&self) -> &GlobSet {
        &self.set
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_pattern_matches_in_every_folder() {
        let globs = Globs::compile(["*.manifest.json", ".*"]).unwrap();
        assert!(globs.matches("a.manifest.json"));
        assert!(globs.matches("deep/er/a.manifest.json"));
        assert!(globs.matches("deep/.hidden"));
        assert!(!globs.matches("deep/.hidden/scan.jpg"), "whether to enter is asked for the folder itself");
        assert!(!globs.matches("a.manifest.json.part"));
        assert!(globs.matches("A.MANIFEST.JSON"), "shares and scanners change the letter case");
    }

    #[test]
    fn a_pattern_with_a_slash_is_about_the_complete_path() {
        let globs = Globs::compile(["in/*.csv", "/top.csv"]).unwrap();
        assert!(globs.matches("in/a.csv"));
        assert!(!globs.matches("in/deep/a.csv"));
        assert!(!globs.matches("out/in/a.csv"));
        assert!(globs.matches("top.csv"));
        assert!(!globs.matches("in/top.csv.bak"));
    }

    #[test]
    fn a_faulty_pattern_is_named() {
        let (pattern, reason) = Globs::compile(["*.json", "a[b"]).unwrap_err();
        assert_eq!(pattern, "a[b");
        assert!(reason.contains("not a pattern"), "{reason}");
        assert!(Globs::compile([""]).is_err());
        assert!(Globs::compile(["a".repeat(2000)]).is_err());
        assert!(!Globs::none().matches("a"));
    }
}
