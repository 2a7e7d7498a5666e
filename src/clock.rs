//! Wall-clock time as the queue stores it. The only file that asks the system for it.
//!
//! Waits are measured with tokio's monotonic clock; a [`Timestamp`] is only for what is written down or read by people,
//! and for due times, which a jump of the clock may move but never lose.

use std::{fmt, fs::File, os::unix::fs::FileExt, sync::LazyLock, time::Duration};

use serde::{Deserialize, Serialize};

/// A testing aid: where this environment variable names a file when the process starts, the clock is ahead by as many
/// milliseconds as the file says at the moment of asking, so that a test can let it jump.
pub const OFFSET_VARIABLE: &str = "PASSFORT_INGEST_CLOCK_OFFSET";

static OFFSET: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = std::env::var_os(OFFSET_VARIABLE).filter(|path| !path.is_empty())?;
    File::open(path).ok()
});

/// How far the clock is ahead of the system's.
fn offset_ms() -> i64 {
    let Some(file) = &*OFFSET else { return 0 };
    let mut text = [0; 24];
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    let text = text.get(..read).and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The system's wall clock, now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond().saturating_add(offset_ms()))
    }

    /// This moment and so much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long from `earlier` to this moment; zero where the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The calendar date in UTC, as `2026-11-22`.
    #[must_use]
    pub fn date(self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with whole seconds, as receipts write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1000);
        match jiff::Timestamp::from_second(seconds) {
            Ok(moment) => write!(f, "{moment}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}
