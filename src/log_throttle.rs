//! Limits how often the same log message is repeated: new messages pass at once, repeats at growing intervals.
//!
//! Holds no clock and writes nothing: callers pass the time and write the line.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The interval before the first repeat; each further interval is twice as long.
const FIRST_INTERVAL: Duration = Duration::from_secs(60);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// The last message for each subject, and when it may be logged again.
#[derive(Debug)]
pub struct LogThrottle<K> {
    last: HashMap<K, Logged>,
}

#[derive(Debug)]
struct Logged {
    message: String,
    next: Instant,
    interval: Duration,
    /// Repeats since then that were not logged.
    skipped: u64,
}

impl<K> Default for LogThrottle<K> {
    fn default() -> Self {
        Self { last: HashMap::new() }
    }
}

impl<K: Eq + Hash> LogThrottle<K> {
    /// Whether to log this message about `subject` now; counts it as logged if so.
    pub fn is_due(&mut self, subject: K, message: &str, now: Instant) -> bool {
        self.due(subject, message, now).is_some()
    }

    /// The same, with how often the message was not logged since the last time.
    pub fn due(&mut self, subject: K, message: &str, now: Instant) -> Option<u64> {
        let (interval, skipped) = match self.last.get_mut(&subject) {
            Some(last) if last.message == message && now < last.next => {
                last.skipped += 1;
                return None;
            }
            Some(last) if last.message == message => ((last.interval * 2).min(MAX_INTERVAL), last.skipped),
            _ => (FIRST_INTERVAL, 0),
        };
        self.last.insert(subject, Logged { message: message.to_owned(), next: now + interval, interval, skipped: 0 });
        Some(skipped)
    }

    /// Forgets a subject whose trouble is over: its next message is new.
    pub fn clear(&mut self, subject: &K) {
        self.last.remove(subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_message_is_logged_at_doubling_intervals() {
        let start = Instant::now();
        let mut throttle = LogThrottle::default();
        let logged: Vec<u64> = (0..4 * 3600)
            .filter(|second| throttle.is_due(7, "the disk is full", start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(logged, [0, 60, 180, 420, 900, 1860, 3780, 7380, 10980]);
    }

    #[test]
    fn what_was_left_out_is_counted() {
        let start = Instant::now();
        let mut throttle = LogThrottle::default();
        let logged: Vec<u64> =
            (0..200).filter_map(|second| throttle.due(7, "refused", start + Duration::from_secs(second))).collect();
        assert_eq!(logged, [0, 59, 119]);
    }

    #[test]
    fn a_new_message_is_logged_at_once() {
        let now = Instant::now();
        let mut throttle = LogThrottle::default();
        assert!(throttle.is_due("a", "full", now));
        assert!(throttle.is_due("b", "full", now));
        assert!(throttle.is_due("a", "broken", now));
        assert!(!throttle.is_due("a", "broken", now));
        throttle.clear(&"a");
        assert!(throttle.is_due("a", "broken", now));
    }
}
