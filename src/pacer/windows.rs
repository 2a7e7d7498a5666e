//! Limits that are counted in windows: what tells them from a bucket that drips, and when a call that was made fits again.
//!
//! A bucket that drips is full the later the more was taken out of it, and always fills. A window that begins anew ends
//! when it ends, whatever was taken; one that slides is empty again after the same time with each call that passes. Both
//! give nothing back meanwhile. So each call fits again, at the latest, after the time that was told with its answer:
//! that holds for both kinds of windows, before it is known which of them it is.
//!
//! The API rounds times up to whole seconds (sandbox; the guide shows whole numbers). Only what follows from the numbers
//! whatever was rounded away is taken for a proof.

use std::{collections::VecDeque, time::Duration};

/// What is known of how a limit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    /// As far as is known, it drips.
    #[default]
    Drips,
    /// In some window.
    Window,
    /// In windows that begin anew.
    Begins,
    /// In a window that slides.
    Slides,
}

/// What an answer said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    /// The number of its call, and when that went out.
    pub(super) number: u64,
    pub(super) sent: Duration,
    pub(super) remaining: f64,
    pub(super) reset: Duration,
}

/// A call that passed.
#[derive(Debug, Clone, Copy)]
struct Passed {
    /// When its answer came.
    answered: Duration,
    /// When it fits again, between these.
    soonest: Duration,
    latest: Duration,
}

/// What was seen of the windows of a limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Windows {
    kind: Kind,
    /// What later answers are compared with, and when it came.
    from: Option<(Said, Duration)>,
    /// When calls that passed were answered, since the one that later answers are compared with went out.
    answers: VecDeque<Duration>,
    newest: u64,
    /// Calls that passed, in the order in which they fit again at the latest.
    passed: VecDeque<Passed>,
    /// How many calls fit into a window.
    most: f64,
    /// The most calls that were left since one was turned away, with the one that was told so.
    fullest: f64,
    /// How long a window lasts, as far as is known.
    span: Duration,
    /// When the window that begins anew does so, at the latest.
    end: Option<Duration>,
    /// The quickest answer lately, in seconds, and how much of that time is saved: a call is counted sooner than it is
    /// answered, and the next is on its way for a while.
    quickest: Option<f64>,
    saved: f64,
}

/// Times are rounded up by less than this.
const ROUNDED: Duration = Duration::from_secs(1);

/// With each call that passes so much more of the time of the quickest is saved, up to so much; with each that is turned
/// away so much less.
const SAVE: f64 = 0.002;
const MOST_SAVED: f64 = 0.8;
const UNSAVE: f64 = 0.3;

/// More calls than these are not remembered. What is told then says that fewer fit than do.
const MOST_CALLS: usize = 20_000;

impl Windows {
    /// Whether calls do not come back drop by drop.
    pub(super) fn is_one(&self) -> bool {
        self.kind != Kind::Drips
    }

    /// How many calls passed that fit again later than this.
    fn still_out(&self, at: Duration) -> usize {
        self.passed.len() - self.passed.partition_point(|passed| passed.latest <= at)
    }

    /// How many calls fit at a moment, beside so many that are under way.
    pub(super) fn free(&self, under_way: usize, at: Duration) -> f64 {
        self.most - count(under_way + self.still_out(at))
    }

    /// When one more fits, beside so many that are under way; nothing where that depends on them.
    pub(super) fn fits_at(&self, under_way: usize, now: Duration) -> Option<Duration> {
        let short = 1.0 - self.free(under_way, now);
        if short <= 0.0 {
            return Some(now);
        }
        let back = self.passed.partition_point(|passed| passed.latest <= now);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count of calls")]
        let nth = back + short.ceil() as usize - 1;
        self.passed.get(nth).map(|passed| passed.latest)
    }

    /// When a call comes back on whose way nothing depends.
    pub(super) fn next_back(&self, now: Duration) -> Option<Duration> {
        self.passed.get(self.passed.partition_point(|passed| passed.latest <= now)).map(|passed| passed.latest)
    }

    /// A call passed, and the answer said when it fits again, or did not. So many others were on their way.
    pub(super) fn told(&mut self, said: Said, flying: usize, now: Duration) {
        self.answers.push_back(now);
        self.span = self.span.max(said.reset);
        self.fullest = self.fullest.max(said.remaining + 1.0);
        if said.number >= self.newest {
            self.newest = said.number;
            let stands =
                |(from, at): &(Said, Duration)| now < at.saturating_add(from.reset) && said.remaining < from.remaining;
            let before = self.kind;
            if let Some((from, at)) = self.from.filter(stands) {
                self.kind = self.compare(&from, at, &said, flying, now);
            } else {
                self.from = Some((said, now));
            }
            if before == Kind::Drips {
                self.most = self.fullest;
            }
            if self.kind == Kind::Begins {
                self.find_end(&said, now);
            }
        }
        let told = now.saturating_add(said.reset);
        let end = self.end.filter(|end| self.kind == Kind::Begins && *end > now && *end <= told);
        let took = now.saturating_sub(said.sent).as_secs_f64();
        let quickest = *self.quickest.insert(self.quickest.map_or(took, |quickest| took.min(quickest * 1.001)));
        self.saved = (self.saved + SAVE).min(MOST_SAVED);
        let saved = Duration::try_from_secs_f64(quickest * self.saved).unwrap_or_default();
        let latest = end.unwrap_or_else(|| told.saturating_sub(saved));
        let soonest = said.sent.saturating_add(said.reset).saturating_sub(ROUNDED);
        let place = self.passed.partition_point(|other| other.latest <= latest);
        self.passed.insert(place, Passed { answered: now, soonest, latest });
        if self.is_one() {
            self.count(said.sent, said.remaining, flying, now);
        }
        if self.answers.len() > MOST_CALLS {
            self.from = None;
        }
        let needed = self.from.map_or(now, |(from, _)| from.sent);
        while self.answers.front().is_some_and(|answered| *answered <= needed) {
            self.answers.pop_front();
        }
        while self.passed.front().is_some_and(|passed| passed.latest + KEPT <= now) || self.passed.len() > MOST_CALLS {
            self.passed.pop_front();
        }
    }

    /// So many calls were left when a call that went out at a moment was counted: together with those that were out for
    /// certain they are no more than fit, and together with those that may have been no fewer.
    fn count(&mut self, sent: Duration, remaining: f64, flying: usize, now: Duration) {
        let back = self.passed.partition_point(|passed| passed.latest <= now);
        let is_certain = |passed: &&Passed| passed.answered <= sent && passed.soonest > now || passed.answered == now;
        let certain = self.passed.range(back..).filter(is_certain).count();
        let certain = remaining + count(certain);
        let possible = remaining + count(self.still_out(sent) + flying);
        self.most = self.most.max(certain).min(possible);
    }

    /// What kind it is, by an answer and one before it.
    fn compare(&self, from: &Said, at: Duration, said: &Said, flying: usize, now: Duration) -> Kind {
        let taken = from.remaining - said.remaining;
        let later = said.reset.as_secs_f64() - from.reset.as_secs_f64();
        let is_same = now.saturating_add(ROUNDED) < from.sent.saturating_add(from.reset);
        let span = said.sent.saturating_sub(at);
        if taken >= 1.0 && later <= -1.0 {
            // A bucket that drips is never full sooner with fewer calls left, nor is a window that slides.
            return Kind::Begins;
        }
        if taken >= 2.0 && later >= 2.0 && is_same || self.kind == Kind::Slides && said.reset < self.span {
            return Kind::Drips;
        }
        let drips = || {
            // Those that were answered since it went out may have been counted after it, and those on their way now too.
            let since = self.answers.len() - self.answers.partition_point(|answered| *answered <= from.sent);
            let grown = count(since + flying) - 1.0 - taken;
            longest(from, said.remaining, said.reset)
                .is_none_or(|longest| span.as_secs_f64() <= longest * (grown + 1.0))
        };
        match self.kind {
            Kind::Drips if drips() => Kind::Drips,
            Kind::Drips | Kind::Window if taken >= 1.0 && later == 0.0 && span > ROUNDED && is_same => Kind::Slides,
            Kind::Drips => Kind::Window,
            kind => kind,
        }
    }

    /// The end of a window is before what any answer of it says, and after it without what may be rounded away.
    fn find_end(&mut self, said: &Said, now: Duration) {
        let latest = now.saturating_add(said.reset);
        let soonest = said.sent.saturating_add(said.reset).saturating_sub(ROUNDED);
        let span = self.span.as_secs().max(1);
        let end = self.end.map_or(latest, |end| {
            // Windows follow each other without a gap.
            let over = soonest.max(now).saturating_sub(end).as_secs_f64() / self.span.as_secs_f64().max(1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count of windows")]
            let many = if end > soonest && end > now { 0 } else { (over as u64).saturating_add(1) };
            end.saturating_add(Duration::from_secs(span.saturating_mul(many)))
        });
        let end = end.max(soonest).min(latest);
        self.end = Some(end);
        for passed in self.passed.iter_mut().rev().take_while(|passed| passed.latest > end) {
            if passed.latest < end.saturating_add(ROUNDED) {
                passed.latest = end;
            }
        }
    }

    /// A call that went out at a moment was turned away, and the next fits after so long; so many others were on their
    /// way.
    pub(super) fn refused(&mut self, sent: Duration, reset: Duration, asked: Duration, flying: usize, now: Duration) {
        let from = self.from.take().filter(|(from, at)| now < at.saturating_add(from.reset));
        if let Some((from, _)) = from
            && self.kind == Kind::Drips
            && asked.saturating_mul(2) >= reset
            && reset > ROUNDED * 2
            && longest(&from, 0.0, reset).is_some_and(|longest| asked.saturating_sub(ROUNDED).as_secs_f64() > longest)
        {
            self.kind = Kind::Window;
            self.most = self.fullest;
        }
        let possible = count(self.still_out(sent) + flying);
        if self.is_one() && possible + (self.most / 4.0).max(2.0) < self.most {
            // So few were out that it has become another limit: everything is found out anew.
            *self = Self { quickest: self.quickest, newest: self.newest, ..Self::default() };
        }
        self.fullest = 0.0;
        self.end = None;
        self.saved = (self.saved - UNSAVE).max(0.0);
        if self.is_one() {
            self.count(sent, 0.0, flying, now);
            self.most = self.most.max(1.0);
        }
    }
}

/// Calls are remembered for a while after they fit again, since answers tell of times past.
const KEPT: Duration = Duration::from_secs(10);

#[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
const fn count(calls: usize) -> f64 {
    calls as f64
}

/// How long one call takes at most to come back, if it drips, by how little those between two answers moved the moment
/// when everything has.
fn longest(from: &Said, remaining: f64, reset: Duration) -> Option<f64> {
    let taken = from.remaining - remaining;
    let later = reset.as_secs_f64() - from.reset.as_secs_f64();
    (taken >= 2.0).then(|| (later + 1.0).max(0.0) / (taken - 1.0))
}
