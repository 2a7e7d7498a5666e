//! Warnings: something that can be sent, and yet is probably not meant; and which of them are refused.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{nearest::nearest, problem::Problem, warning_kind::WarningKind};

/// The word for all kinds.
const ALL: &str = "all";

/// Which kinds of warnings are errors; none unless said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RefusedWarnings(Vec<WarningKind>);

impl RefusedWarnings {
    /// Reads one name of the list: that of a kind, or `all`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and the cure.
    pub fn parse(name: &str) -> Result<Self, (String, String)> {
        if name == ALL {
            return Ok(Self(WarningKind::all().collect()));
        }
        let unknown = || {
            let names = || WarningKind::all().map(WarningKind::as_str).chain([ALL]);
            let cure = nearest(name, names()).map_or_else(
                || format!("the known ones are {}", names().collect::<Vec<_>>().join(", ")),
                |near| format!("{near} is the nearest"),
            );
            ("it is no kind of warning".to_owned(), cure)
        };
        WarningKind::parse(name).map(|kind| Self(vec![kind])).ok_or_else(unknown)
    }

    /// The kinds of both.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        self.0.extend(&others.0);
        self.0.sort_unstable();
        self.0.dedup();
        self
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|kind| kind.as_str()).collect()
    }

    /// Whether warnings of this kind are errors.
    #[must_use]
    pub fn contain(&self, kind: WarningKind) -> bool {
        self.0.contains(&kind)
    }

    /// Whether entries have to be compared with one another before the first is sent.
    #[must_use]
    pub fn need_all_entries(&self) -> bool {
        self.contain(WarningKind::SharedImage) || self.contain(WarningKind::LookalikeReference)
    }

    /// Makes errors of those that are refused, and gives these and the others.
    #[must_use]
    pub fn divide(&self, warnings: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
        let (refused, others): (Vec<_>, Vec<_>) =
            warnings.into_iter().partition(|warning| warning.kind.is_some_and(|kind| self.contain(kind)));
        (refused.into_iter().map(Problem::refused).collect(), others)
    }
}

/// A warning as receipts, `show` and the queue have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Warning {
    pub kind: WarningKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub reason: String,
    pub cure: String,
}

impl Warning {
    /// Of a problem that is a warning with a kind.
    #[must_use]
    pub fn of(problem: &Problem) -> Option<Self> {
        let kind = problem.kind.filter(|_| !problem.is_error())?;
        let Problem { field, path, reason, cure, .. } = problem.clone();
        Some(Self { kind, field, path, reason, cure })
    }
}

/// A warning about one entry of a manifest, or about the manifest itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryWarning {
    /// The entry's place in the manifest.
    pub index: Option<u64>,
    pub warning: Warning,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_unknown_ones_have_the_nearest() {
        for kind in WarningKind::all() {
            assert_eq!(WarningKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(RefusedWarnings::parse("all").unwrap().names().len(), WarningKind::all().count());
        let two = RefusedWarnings::parse("unknown-type").unwrap();
        let two = two.clone().and(&RefusedWarnings::parse("shared-image").unwrap()).and(&two);
        assert_eq!(two.names(), ["unknown-type", "shared-image"]);
        assert!(RefusedWarnings::parse("shared-images").unwrap_err().1.contains("shared-image is the nearest"));
        assert!(RefusedWarnings::parse("").unwrap_err().1.contains("back-without-front"));
    }

    #[test]
    fn refused_warnings_are_errors_and_keep_their_kind() {
        let warning = |kind| Problem::warning_of(kind, "odd", "look at it");
        let refused = RefusedWarnings::parse("unknown-type").unwrap();
        let plain = Problem::warning("odd", "look at it");
        let (errors, others) =
            refused.divide(vec![warning(WarningKind::UnknownType), warning(WarningKind::UnknownCategory), plain]);
        assert_eq!((errors.len(), others.len()), (1, 2));
        assert!(errors[0].is_error() && errors[0].cure.contains("refuse_warnings"), "{errors:?}");
        assert_eq!(errors[0].kind, Some(WarningKind::UnknownType));
        assert_eq!(Warning::of(&errors[0]), None);
        assert_eq!(Warning::of(&others[0]).unwrap().kind, WarningKind::UnknownCategory);
    }

    #[test]
    fn every_kind_is_documented() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in ["README.md", "config/passfort-ingest.toml"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            for kind in WarningKind::all() {
                assert!(text.contains(kind.as_str()), "{file} does not say what {} is", kind.as_str());
            }
        }
    }
}
