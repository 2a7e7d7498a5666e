//! Wall-clock time as the queue stores it. The only file that asks the system for it.
//!
//! Waits are measured with tokio's monotonic clock; a [`Timestamp`] is only for what is written down or read by people,
//! and for due times, which a jump of the clock may move but never lose.

use std::{
    fmt,
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, LazyLock, Mutex, PoisonError, RwLock},
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

/// The wall clock, as a value: cheap to clone, and either the process's or one that a test sets.
///
/// # Jumps
///
/// From the first call of [`Clock::jumped`] on, a clock advances by the monotonic clock, so that no due time is written
/// by a clock that has jumped while earlier due times were not shifted yet. After shifting them, the caller calls
/// [`Clock::accept`]. All clones share this state, and all clones of the process's clock are one.
#[derive(Debug, Clone)]
pub struct Clock(Arc<ClockState>);

#[derive(Debug)]
struct ClockState {
    source: ClockSource,
    believed: RwLock<Option<Believed>>,
}

#[derive(Debug)]
enum ClockSource {
    System { started: Instant },
    Manual(Mutex<ClockReading>),
}

/// A reading of the system's clocks.
#[derive(Debug, Clone, Copy)]
struct ClockReading {
    wall: Timestamp,
    steady: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Believed {
    at: ClockReading,
    /// The clock's offset since the process began.
    moved_ms: i64,
    /// Where it was moved to, the last time.
    moved_to: Option<Timestamp>,
}

impl Believed {
    fn now(&self, steady: Duration) -> Timestamp {
        self.at.wall.after(steady.saturating_sub(self.at.steady))
    }
}

static PROCESS: LazyLock<Clock> = LazyLock::new(|| Clock::from(ClockSource::System { started: Instant::now() }));

impl Clock {
    fn from(source: ClockSource) -> Self {
        Self(Arc::new(ClockState { source, believed: RwLock::new(None) }))
    }

    /// The process's clock.
    #[must_use]
    pub fn system() -> Self {
        PROCESS.clone()
    }

    /// A clock that does not move until [`Clock::advance`] or [`Clock::jump`] moves it.
    #[must_use]
    pub fn manual(wall: Timestamp) -> Self {
        Self::from(ClockSource::Manual(Mutex::new(ClockReading { wall, steady: Duration::ZERO })))
    }

    /// Lets time pass on a manual clock.
    pub fn advance(&self, passed: Duration) {
        self.set(|reading| {
            reading.wall = reading.wall.after(passed);
            reading.steady = reading.steady.saturating_add(passed);
        });
    }

    /// Lets the wall clock of a manual clock jump; positive is forwards.
    pub fn jump(&self, by_ms: i64) {
        self.set(|reading| reading.wall.0 = reading.wall.0.saturating_add(by_ms));
    }

    fn set(&self, change: impl FnOnce(&mut ClockReading)) {
        if let ClockSource::Manual(reading) = &self.0.source {
            change(&mut reading.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn read(&self) -> ClockReading {
        match &self.0.source {
            ClockSource::System { started } => {
                // Both at one moment: where the process had to wait in between, once more.
                let mut reading = ClockReading { wall: of_system(), steady: started.elapsed() };
                for _ in 0..5 {
                    let before = reading.steady;
                    reading = ClockReading { wall: of_system(), steady: started.elapsed() };
                    if reading.steady.saturating_sub(before) < JUMP / 4 {
                        break;
                    }
                }
                reading
            }
            ClockSource::Manual(reading) => *reading.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn steady(&self) -> Duration {
        match &self.0.source {
            ClockSource::System { started } => started.elapsed(),
            ClockSource::Manual(_) => self.read().steady,
        }
    }

    fn believed(&self) -> Option<Believed> {
        *self.0.believed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time now, without jumps that were not accepted.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self.believed() {
            Some(believed) => believed.now(self.steady()),
            None => self.system_now(),
        }
    }

    /// The system's wall clock, with jumps that were not accepted: the kernel dates files by it.
    #[must_use]
    pub fn system_now(&self) -> Timestamp {
        self.read().wall
    }

    /// By how many milliseconds the system's clock has jumped since the last accepted time, if it did; a small change
    /// is accepted at once.
    #[must_use]
    pub fn jumped(&self) -> Option<i64> {
        let reading = self.read();
        let believed = self.believed();
        let jump = believed.and_then(|believed| {
            let wall_ms = reading.wall.0.saturating_sub(believed.at.wall.0);
            jump(wall_ms, reading.steady.saturating_sub(believed.at.steady))
        });
        if jump.is_none() {
            let (moved_ms, moved_to) = believed.map_or((0, None), |believed| (believed.moved_ms, believed.moved_to));
            let now = Believed { at: reading, moved_ms, moved_to };
            *self.0.believed.write().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        jump
    }

    /// Accepts that the clock was moved by this many milliseconds in all. Idempotent.
    pub fn accept(&self, in_all_ms: i64) {
        let steady = self.steady();
        if let Some(believed) = &mut *self.0.believed.write().unwrap_or_else(PoisonError::into_inner)
            && believed.moved_ms != in_all_ms
        {
            let by_ms = in_all_ms.saturating_sub(believed.moved_ms);
            believed.at.wall.0 = believed.at.wall.0.saturating_add(by_ms);
            believed.moved_ms = in_all_ms;
            believed.moved_to = Some(believed.now(steady));
        }
    }

    /// By how many milliseconds the clock was moved since the process began.
    #[must_use]
    pub fn moved_ms(&self) -> i64 {
        self.believed().map_or(0, |believed| believed.moved_ms)
    }

    /// Where the clock was moved to, the last time; earlier dates of the system may be of another clock.
    #[must_use]
    pub fn moved_to(&self) -> Option<Timestamp> {
        self.believed().and_then(|believed| believed.moved_to)
    }
}

/// [`Clock::moved_ms`] of the process's clock.
#[must_use]
pub fn moved_ms() -> i64 {
    PROCESS.moved_ms()
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn of_system() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond().saturating_add(offset_ms()))
}

/// Both clocks are read at one moment within this. A larger difference is a step, which no wait may count as time that
/// passed: several of two seconds each would let an absence count far too early. A clock that is slewed shows none.
const JUMP: Duration = Duration::from_millis(100);

/// By how many milliseconds the wall clock jumped, if it did; positive is forwards.
fn jump(wall_ms: i64, steady: Duration) -> Option<i64> {
    let steady_ms = i64::try_from(steady.as_millis()).unwrap_or(i64::MAX);
    let jump_ms = wall_ms.saturating_sub(steady_ms);
    (jump_ms.unsigned_abs() > JUMP.as_millis().try_into().unwrap_or(u64::MAX)).then_some(jump_ms)
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// Writes a moment as RFC 3339 where its number would be: in receipts, reports and JSON.
///
/// # Errors
///
/// Those of the serializer.
pub fn moment<S: serde::Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

/// The same of one that may be missing.
///
/// # Errors
///
/// Those of the serializer.
pub fn optional_moment<S: serde::Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => serializer.collect_str(moment),
        None => serializer.serialize_none(),
    }
}

impl Timestamp {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|moment| Self(moment.as_millisecond()))
    }

    /// The process's clock, now.
    #[must_use]
    pub fn now() -> Self {
        PROCESS.now()
    }

    /// This moment plus a duration.
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
    /// RFC 3339 in UTC without fractions of a second, as receipts write it.
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
    fn a_jump_is_distinguished_from_elapsed_time_and_from_a_small_correction() {
        let minute = Duration::from_secs(60);
        assert_eq!(jump(60_000, minute), None);
        assert_eq!(jump(60_100, minute), None);
        assert_eq!(jump(59_900, minute), None);
        assert_eq!(jump(60_101, minute), Some(101));
        assert_eq!(jump(59_899, minute), Some(-101));
        assert_eq!(jump(-3_540_000, minute), Some(-3_600_000), "an hour back");
        assert_eq!(jump(i64::MAX, Duration::MAX), None);
        assert_eq!(jump(i64::MIN, Duration::MAX), Some(i64::MIN));
    }

    #[test]
    fn a_jump_counts_only_once_it_is_accepted() {
        let clock = Clock::manual(Timestamp(1_000_000));
        assert_eq!(clock.jumped(), None, "the first call begins to believe");
        clock.advance(Duration::from_secs(10));
        assert_eq!((clock.now(), clock.jumped()), (Timestamp(1_010_000), None));

        clock.jump(3_600_000);
        assert_eq!((clock.now(), clock.system_now()), (Timestamp(1_010_000), Timestamp(4_610_000)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.jumped(), Some(3_600_000));
        assert_eq!((clock.now(), clock.moved_ms(), clock.moved_to()), (Timestamp(1_011_000), 0, None));

        let (other, now) = (clock.clone(), Timestamp(4_611_000));
        for _ in 0..2 {
            other.accept(3_600_000);
            assert_eq!((clock.now(), clock.moved_ms(), clock.moved_to()), (now, 3_600_000, Some(now)));
            assert_eq!(clock.jumped(), None);
        }
        clock.jump(-3_600_000);
        assert_eq!(clock.jumped(), Some(-3_600_000));
        clock.accept(0);
        assert_eq!(
            (clock.now(), clock.moved_ms(), clock.moved_to()),
            (Timestamp(1_011_000), 0, Some(Timestamp(1_011_000)))
        );
    }

    #[test]
    fn small_steps_do_not_add_up_to_time_that_passed() {
        let clock = Clock::manual(Timestamp(0));
        assert_eq!(clock.jumped(), None);
        for _ in 0..30 {
            clock.jump(1_500);
            if let Some(jump_ms) = clock.jumped() {
                clock.accept(clock.moved_ms() + jump_ms);
            }
        }
        assert_eq!((clock.now(), clock.moved_ms()), (Timestamp(45_000), 45_000), "all of it is known to be no time");
    }

    #[test]
    fn a_clock_that_is_not_watched_and_a_small_correction_follow_the_system() {
        let clock = Clock::manual(Timestamp(0));
        clock.jump(3_600_000);
        assert_eq!(clock.now(), Timestamp(3_600_000));
        assert_eq!(clock.jumped(), None);
        clock.jump(75);
        assert_eq!((clock.now(), clock.jumped()), (Timestamp(3_600_000), None));
        assert_eq!((clock.now(), clock.moved_ms()), (Timestamp(3_600_075), 0));
    }
}
