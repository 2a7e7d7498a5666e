//! Decides how often the same trouble is said again: at once where it is new, then ever more seldom.
//!
//! No clock of its own and no output: callers give the time and write the line.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// The first pause after which the same is said again; each one after it is twice as long.
const FIRST: Duration = Duration::from_secs(60);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(3600);

/// What was said of what, and when it may be said again.
#[derive(Debug)]
pub struct Seldom<K> {
    said: HashMap<K, Said>,
}

#[derive(Debug)]
struct Said {
    text: String,
    next: Instant,
    pause: Duration,
}

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Self { said: HashMap::new() }
    }
}

impl<K: Eq + Hash> Seldom<K> {
    /// Whether this is to be said of `about` now.
    pub fn is_due(&mut self, about: K, text: &str, now: Instant) -> bool {
        match self.said.get_mut(&about) {
            Some(said) if said.text == text && now < said.next => false,
            Some(said) => {
                let pause = if said.text == text { (said.pause * 2).min(LONGEST) } else { FIRST };
                *said = Said { text: text.to_owned(), next: now + pause, pause };
                true
            }
            None => {
                self.said.insert(about, Said { text: text.to_owned(), next: now + FIRST, pause: FIRST });
                true
            }
        }
    }

    /// Forgets what is over; whatever comes next is new.
    pub fn over(&mut self, about: &K) {
        self.said.remove(about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_and_then_ever_more_seldom() {
        let start = Instant::now();
        let mut seldom = Seldom::default();
        let mut said = Vec::new();
        for second in 0..4 * 3600 {
            if seldom.is_due(7, "the disk is full", start + Duration::from_secs(second)) {
                said.push(second);
            }
        }
        assert_eq!(said, [0, 60, 180, 420, 900, 1860, 3780, 7380, 10980]);
    }

    #[test]
    fn what_is_new_is_said_at_once() {
        let now = Instant::now();
        let mut seldom = Seldom::default();
        assert!(seldom.is_due("a", "full", now));
        assert!(seldom.is_due("b", "full", now));
        assert!(seldom.is_due("a", "broken", now));
        assert!(!seldom.is_due("a", "broken", now));
        seldom.over(&"a");
        assert!(seldom.is_due("a", "broken", now));
    }
}
