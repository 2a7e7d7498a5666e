//! Wall-clock time as the queue stores it. The only file that asks the system for it.
//!
//! Waits are measured with tokio's monotonic clock; a [`Timestamp`] is only for what is written down or read by people,
//! and for due times, which a jump of the clock may move but never lose.

use std::{
    fmt,
    fs::File,
    os::unix::fs::FileExt,
    sync::{LazyLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

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

/// What this process believes of the clock, once somebody minds it.
static BELIEVED: RwLock<Option<Believed>> = RwLock::new(None);

#[derive(Debug, Clone, Copy)]
struct Believed {
    /// Where it stood …
    wall: Timestamp,
    /// … and when that was.
    at: Instant,
    /// By how much it was moved since the process began.
    moved_ms: i64,
    /// Where it was moved to, the last time.
    moved_to: Option<Timestamp>,
}

fn believed() -> Option<Believed> {
    *BELIEVED.read().unwrap_or_else(PoisonError::into_inner)
}

/// Clocks that are set right by less than this make no difference to anybody who waits.
const JUMP: Duration = Duration::from_secs(2);

/// By how many milliseconds the system's clock has jumped since it was last believed, if it did; a small change is
/// believed at once.
///
/// From the first call on, this process goes on from what it believed by the steady clock, so that no due time is
/// written by a clock that has jumped while those before were not moved along: that is for the caller, and [`moved`].
pub fn jumped() -> Option<i64> {
    let system = Timestamp::of_system();
    let since = believed().map(|believed| (system.0.saturating_sub(believed.wall.0), believed.at.elapsed()));
    let jump = since.and_then(|(wall_ms, steady)| jump(wall_ms, steady));
    if jump.is_none() {
        let (moved_ms, moved_to) = believed().map_or((0, None), |believed| (believed.moved_ms, believed.moved_to));
        let now = Believed { wall: system, at: Instant::now(), moved_ms, moved_to };
        *BELIEVED.write().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
    jump
}

/// Believes that the clock was moved by so many milliseconds in all; said again, it changes nothing.
pub fn moved(in_all_ms: i64) {
    if let Some(believed) = &mut *BELIEVED.write().unwrap_or_else(PoisonError::into_inner)
        && believed.moved_ms != in_all_ms
    {
        believed.wall.0 = believed.wall.0.saturating_add(in_all_ms.saturating_sub(believed.moved_ms));
        believed.moved_ms = in_all_ms;
        believed.moved_to = Some(believed.wall.after(believed.at.elapsed()));
    }
}

/// By how many milliseconds the clock was moved since the process began.
#[must_use]
pub fn moved_ms() -> i64 {
    believed().map_or(0, |believed| believed.moved_ms)
}

/// Where the clock was moved to, the last time; what was dated before by the system may be of another clock.
#[must_use]
pub fn moved_to() -> Option<Timestamp> {
    believed().and_then(|believed| believed.moved_to)
}

/// By how many milliseconds the wall clock jumped, if it did: forwards where more than nothing.
fn jump(wall_ms: i64, steady: Duration) -> Option<i64> {
    let steady_ms = i64::try_from(steady.as_millis()).unwrap_or(i64::MAX);
    let jump_ms = wall_ms.saturating_sub(steady_ms);
    (jump_ms.unsigned_abs() > JUMP.as_millis().try_into().unwrap_or(u64::MAX)).then_some(jump_ms)
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock, now, as this process believes it; see [`jumped`].
    #[must_use]
    pub fn now() -> Self {
        match believed() {
            Some(believed) => believed.wall.after(believed.at.elapsed()),
            None => Self::of_system(),
        }
    }

    /// The system's wall clock, now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn of_system() -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_told_from_one_that_goes_and_from_one_that_is_set_a_little() {
        let minute = Duration::from_secs(60);
        assert_eq!(jump(60_000, minute), None);
        assert_eq!(jump(62_000, minute), None);
        assert_eq!(jump(58_000, minute), None);
        assert_eq!(jump(62_001, minute), Some(2_001));
        assert_eq!(jump(57_999, minute), Some(-2_001));
        assert_eq!(jump(-3_540_000, minute), Some(-3_600_000), "an hour back");
        assert_eq!(jump(i64::MAX, Duration::MAX), None);
        assert_eq!(jump(i64::MIN, Duration::MAX), Some(i64::MIN));
    }
}
