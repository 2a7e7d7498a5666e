//! What is wrong with a configuration, with the cure.
//!
//! Reading continues after a [`ConfigFinding`], so that one run reports all of them. A value is quoted only where it
//! could not contain a secret.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// The most findings that are printed: more of them have one cause.
const MAX_PRINTED: usize = 50;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This line of the file, from 1.
    Line(usize),
    /// This variable of the environment.
    Variable(String),
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFinding {
    /// The key it is about, e.g. `api.base_url` or `drop[0].path`; empty where the file could not be understood.
    pub key: String,
    /// Where its value is; absent where the key is missing.
    pub origin: Option<Origin>,
    /// What is wrong: a lower-case fragment.
    pub reason: String,
    /// What to do about it.
    pub cure: String,
}

impl ConfigFinding {
    /// Where it is and what is wrong, without the cure.
    #[must_use]
    pub fn place_and_reason(&self, file: &Path) -> String {
        let place = match &self.origin {
            Some(Origin::Line(line)) => format!("{}:{line}", file.display()),
            Some(Origin::Variable(name)) => format!("${name}"),
            None => file.display().to_string(),
        };
        if self.key.is_empty() {
            format!("{place}: {}", self.reason)
        } else {
            format!("{place}: {}: {}", self.key, self.reason)
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, file: &Path) -> fmt::Result {
        write!(f, "{} ({})", self.place_and_reason(file), self.cure)
    }
}

/// Why there is no configuration, or no key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there.
    #[error(
        "there is no configuration at {} (write one there, name another with --config FILE, or set \
         PASSFORT_INGEST_CONFIG)",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is no configuration: it is too large, or not UTF-8.
    #[error("{} is no configuration: {reason}", path.display())]
    Unusable { path: PathBuf, reason: &'static str },
    /// The configuration says something that is not understood or cannot work.
    #[error("{}", Listed { path, findings })]
    Invalid {
        /// The file; it may be absent where only the environment says anything.
        path: PathBuf,
        /// All that is wrong; never empty.
        findings: Vec<ConfigFinding>,
    },
    /// The key's file cannot be read.
    #[error("the key file {} cannot be read (it must be readable for the user that runs this)", path.display())]
    KeyUnreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What was found is no key.
    #[error("{origin} holds no usable key: {reason} (it must hold the key from PassFort and nothing else)")]
    KeyUnusable {
        /// The file or variable.
        origin: String,
        reason: &'static str,
    },
    /// No key is configured.
    #[error(
        "no API key is configured (set api.api_key_file, $PASSFORT_API_KEY, or the systemd credential \"api-key\")"
    )]
    NoKey,
}

impl ConfigError {
    /// All that is wrong with the configuration, where that is what this error is about.
    #[must_use]
    pub fn findings(&self) -> &[ConfigFinding] {
        match self {
            Self::Invalid { findings, .. } => findings,
            Self::Missing { .. }
            | Self::Unreadable { .. }
            | Self::Unusable { .. }
            | Self::KeyUnreadable { .. }
            | Self::KeyUnusable { .. }
            | Self::NoKey => &[],
        }
    }
}

struct Listed<'a> {
    path: &'a Path,
    findings: &'a [ConfigFinding],
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.findings {
            [only] => {
                f.write_str("the configuration cannot be used: ")?;
                only.write(f, self.path)
            }
            all => {
                write!(f, "the configuration cannot be used, for {} reasons:", all.len())?;
                for finding in all.iter().take(MAX_PRINTED) {
                    f.write_str("\n  ")?;
                    finding.write(f, self.path)?;
                }
                match all.len().checked_sub(MAX_PRINTED) {
                    None | Some(0) => Ok(()),
                    Some(more) => write!(f, "\n  and {more} more"),
                }
            }
        }
    }
}
