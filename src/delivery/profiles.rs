//! A lock per profile with a fair queue: one job at a time creates a document on a profile.
//!
//! Waiting jobs hold no worker's place, so that many documents of one profile do not delay other profiles. When a line
//! is full, further jobs are sent back to the queue, each due when its turn may have come.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedMutexGuard},
    time::Instant,
};

/// At most this many wait in all lines together: more would be memory for nothing.
const MOST_IN_LINE: usize = 256;

/// The shortest and the longest delay of a job that is sent back.
const LONGEST: Duration = Duration::from_secs(600);
const SHORTEST: Duration = Duration::from_millis(200);

/// Lets one job at a time create a document on a profile.
#[derive(Default)]
pub struct Profiles {
    lines: Mutex<HashMap<String, ProfileQueue>>,
    in_line: AtomicUsize,
    /// Notified when a job that had a worker's place waits in line.
    pub stepped_aside: Notify,
}

#[derive(Default)]
struct ProfileQueue {
    turn: Arc<tokio::sync::Mutex<()>>,
    waiting: usize,
    /// How long a turn takes.
    each: Duration,
    /// The latest due time of the jobs that were sent back.
    booked: Option<Instant>,
}

/// A job's turn on its profile.
pub struct Turn<'a> {
    profiles: &'a Profiles,
    profile: String,
    since: Instant,
    _held: OwnedMutexGuard<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.profiles.lines().get_mut(&self.profile) {
            let took = self.since.elapsed();
            line.each = if line.each.is_zero() { took } else { (line.each * 7 + took) / 8 };
        }
    }
}

/// Counts a waiting job for as long as this lives.
struct Waiting<'a>(&'a Profiles, &'a str);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.in_line.fetch_sub(1, Ordering::Relaxed);
        if let Some(line) = self.0.lines().get_mut(self.1) {
            line.waiting = line.waiting.saturating_sub(1);
        }
    }
}

impl Profiles {
    fn lines(&self) -> MutexGuard<'_, HashMap<String, ProfileQueue>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn_of(&self, profile: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut lines = self.lines();
        // A migration has more profiles than memory should hold; those that nobody waits for are forgotten.
        if lines.len() >= 1024 {
            let now = Instant::now();
            lines.retain(|_, line| Arc::strong_count(&line.turn) > 1 || line.booked.is_some_and(|booked| booked > now));
        }
        Arc::clone(&lines.entry(profile.to_owned()).or_default().turn)
    }

    fn taken(&self, profile: &str, held: OwnedMutexGuard<()>) -> Turn<'_> {
        Turn { profiles: self, profile: profile.to_owned(), since: Instant::now(), _held: held }
    }

    /// The turn, if nobody has it.
    pub fn try_turn(&self, profile: &str) -> Option<Turn<'_>> {
        Some(self.taken(profile, self.turn_of(profile).try_lock_owned().ok()?))
    }

    /// Waits in line for the turn. Cancel safe.
    ///
    /// # Errors
    ///
    /// Where too many wait: when to come again.
    pub async fn turn(&self, profile: &str) -> Result<Turn<'_>, Duration> {
        if let Some(turn) = self.try_turn(profile) {
            return Ok(turn);
        }
        let turn = self.turn_of(profile);
        if self.in_line.load(Ordering::Relaxed) >= MOST_IN_LINE {
            return Err(self.book(profile, Instant::now()));
        }
        self.in_line.fetch_add(1, Ordering::Relaxed);
        if let Some(line) = self.lines().get_mut(profile) {
            line.waiting += 1;
        }
        let waiting = Waiting(self, profile);
        self.stepped_aside.notify_one();
        let held = turn.lock_owned().await;
        drop(waiting);
        Ok(self.taken(profile, held))
    }

    /// When one more that is sent back may have its turn: behind all that wait or were sent back before.
    fn book(&self, profile: &str, now: Instant) -> Duration {
        let mut lines = self.lines();
        let line = lines.entry(profile.to_owned()).or_default();
        let each = line.each.max(Duration::from_millis(1));
        let behind_line = each.saturating_mul(u32::try_from(line.waiting).unwrap_or(u32::MAX)) / 2;
        let at = line.booked.map_or(now, |booked| booked + each).max(now + behind_line).max(now + SHORTEST);
        let at = at.min(now + LONGEST);
        line.booked = Some(at);
        at.saturating_duration_since(now)
    }

    /// How many wait in line.
    pub fn in_line(&self) -> usize {
        self.in_line.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_at_a_time_and_those_who_wait_are_counted() {
        let profiles = Profiles::default();
        let first = profiles.try_turn("a").unwrap();
        assert!(profiles.try_turn("a").is_none());
        assert!(profiles.try_turn("b").is_some(), "another profile has a turn of its own");
        let mut second = Box::pin(profiles.turn("a"));
        assert!((&mut second).now_or_never().is_none());
        let mut third = Box::pin(profiles.turn("a"));
        assert!((&mut third).now_or_never().is_none());
        assert_eq!(profiles.in_line(), 2);
        // A waiter that gives up is no longer counted.
        drop(third);
        assert_eq!(profiles.in_line(), 1);
        drop(first);
        let second = second.now_or_never().expect("its turn").ok().unwrap();
        assert_eq!(profiles.in_line(), 0);
        drop(second);
        assert!(profiles.try_turn("a").is_some());
    }

    #[test]
    fn a_long_line_sends_the_others_back_one_after_the_other() {
        let profiles = Profiles::default();
        let first = profiles.try_turn("a").unwrap();
        let mut line: Vec<_> = (0..MOST_IN_LINE).map(|_| Box::pin(profiles.turn("a"))).collect();
        assert!(line.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        let times: Vec<Duration> =
            (0..100).map(|_| profiles.turn("a").now_or_never().expect("at once").err().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert!(times[0] >= SHORTEST && times[99] > times[0] && times[99] <= LONGEST, "{times:?}");
        assert!(profiles.turn("b").now_or_never().is_some(), "nobody is in line there");
        drop(line);
        assert_eq!(profiles.in_line(), 0);
        drop(first);
    }
}
