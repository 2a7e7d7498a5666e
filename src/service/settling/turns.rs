//! Which drops are settled at the same time, and which is next. Values and decisions only.

use std::collections::{HashSet, VecDeque};

/// Each drop is settled by one thread at a time, in turns where there are more drops than threads.
#[derive(Debug)]
pub(super) struct Turns {
    /// Threads at the same time. A folder that does not answer holds one.
    at_once: usize,
    line: VecDeque<i64>,
    running: HashSet<i64>,
    /// Those in the line whose pass goes on where it was left.
    unfinished: HashSet<i64>,
    /// Drops with something new since their pass began, which it may have passed by.
    again: HashSet<i64>,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            line: VecDeque::new(),
            running: HashSet::new(),
            unfinished: HashSet::new(),
            again: HashSet::new(),
        }
    }

    /// Something of this drop is to be settled.
    pub(super) fn is_due(&mut self, drop: i64) {
        if self.running.contains(&drop) || self.unfinished.contains(&drop) {
            self.again.insert(drop);
        } else if !self.line.contains(&drop) {
            self.line.push_back(drop);
        }
    }

    /// The drop that a thread begins with now.
    pub(super) fn begin(&mut self) -> Option<i64> {
        if self.running.len() >= self.at_once {
            return None;
        }
        let drop = self.line.pop_front()?;
        self.unfinished.remove(&drop);
        self.running.insert(drop);
        Some(drop)
    }

    /// A drop's pass is finished; or the thread's time is over, and the drop goes to the end of the line.
    pub(super) fn end(&mut self, drop: i64, is_finished: bool) {
        self.running.remove(&drop);
        if !is_finished {
            self.unfinished.insert(drop);
            self.line.push_back(drop);
        } else if self.again.remove(&drop) {
            self.line.push_back(drop);
        }
    }

    pub(super) fn are_over(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_has_one_thread_and_what_comes_meanwhile_is_not_lost() {
        let mut turns = Turns::new(2);
        turns.is_due(1);
        turns.is_due(1);
        assert_eq!((turns.begin(), turns.begin()), (Some(1), None));
        turns.is_due(1);
        assert_eq!(turns.begin(), None, "it is being settled");
        turns.end(1, true);
        assert_eq!(turns.begin(), Some(1));
        turns.end(1, true);
        assert!(turns.begin().is_none() && turns.are_over());
    }

    #[test]
    fn drops_take_turns_where_there_are_more_than_threads() {
        let mut turns = Turns::new(2);
        (1..=3).for_each(|drop| turns.is_due(drop));
        assert_eq!((turns.begin(), turns.begin(), turns.begin()), (Some(1), Some(2), None));
        turns.end(1, false);
        assert_eq!((turns.begin(), turns.begin()), (Some(3), None));
        turns.end(3, true);
        assert_eq!(turns.begin(), Some(1));
    }

    /// A batch that ended while its drop waited to go on behind it was never settled.
    #[test]
    fn what_an_unfinished_pass_may_have_passed_by_is_looked_for_again() {
        for meanwhile in ["running", "in the line"] {
            let mut turns = Turns::new(1);
            turns.is_due(1);
            assert_eq!(turns.begin(), Some(1));
            if meanwhile == "running" {
                turns.is_due(1);
            }
            turns.end(1, false);
            if meanwhile == "in the line" {
                turns.is_due(1);
            }
            assert_eq!(turns.begin(), Some(1), "the pass goes on");
            turns.end(1, true);
            assert_eq!(turns.begin(), Some(1), "{meanwhile}: another pass begins");
            turns.end(1, true);
            assert_eq!(turns.begin(), None);
        }
    }
}
