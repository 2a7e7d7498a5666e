//! What is known of the API's limit on one kind of call, and when the next call fits.
//!
//! The answers tell how many calls remain and when the bucket is full again. From both follows how fast it fills, so
//! that calls slow down before the limit is reached. Where the answers tell nothing, or what they tell is not true, the
//! rate is measured between two refusals. Published limits are GCRA with bursts (API guide); other shapes are taken as
//! they come.
//!
//! Invariant: what is told is only ever taken for less than it may be while calls are under way, never for more by more
//! than one call an answer, or a quarter of what is amiss.

use std::time::Duration;

use super::{
    bucket::Bucket,
    refill::Refill,
    search::Search,
    windows::{Said, Windows},
};

/// A wait that is asked for is at least so long: some answers say zero and refuse the next call all the same.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// Where a refusal does not say how long to wait.
const UNSAID_WAIT: Duration = Duration::from_secs(1);
const LONGEST_UNSAID_WAIT: Duration = Duration::from_secs(60);

/// Nothing is known before the first answer, so that no more calls than these go out before it, for so long at most.
const FIRST_CALLS: u32 = 2;
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// What is left of the trust in an estimate after a refusal, and how much comes back with a call that worked: 200 calls
/// between two refusals are half a percent of refusals.
const CUT: f64 = 0.7;
const REGAIN: f64 = 0.0015;
const LEAST_TRUST: f64 = 0.02;

/// Numbers that promised too much so often are not believed, nor those that led to so many refusals within some hundred
/// calls: a window that slides tells other things than a bucket does.
const LIES: u32 = 2;
const MUCH_DOUBT: f64 = 5.0;

/// So much of a measured rate is used.
const MEASURED_SHARE: f64 = 0.97;
/// A measurement that rests on fewer calls goes on.
const ENOUGH_CALLS: u64 = 30;

/// A measured rate grows after so many calls and so long.
const FEW_CALLS: u64 = 10;
const GROWTH_TIME: Duration = Duration::from_secs(20);
/// Close below a rate that was refused it grows so seldom that refusals are rare.
const NEAR_CALLS: u64 = 200;
/// It grows after so long, however few calls there were.
const LONGEST_GROWTH: Duration = Duration::from_secs(120);
const LONGEST_NEAR: Duration = Duration::from_secs(600);
/// More calls than these in a row are not waited for.
const LONGEST_RUN: u64 = 1_000;

/// What the headers of an answer say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Told {
    /// Calls that fit now.
    pub remaining: Option<u64>,
    /// How long until the bucket is full.
    pub reset: Option<Duration>,
}

/// When the next call fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// After so long; whoever comes next is counted behind.
    After(Duration),
    /// It cannot be said: ask again after an answer, or after so long.
    Ask(Duration),
}

/// A call that was let out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    number: u64,
    /// When it was let out.
    at: Duration,
    /// When it goes out, at the soonest.
    goes: Duration,
}

/// The limit on one kind of call.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    under_way: u32,
    /// Those under way.
    flying: Vec<Call>,
    calls: u64,
    not_before: Duration,
    first_at: Option<Duration>,
    answered: bool,
    told: Option<Level>,
    refill: Refill,
    /// How many fit at most is to be told anew.
    renew: bool,
    windows: Windows,
    /// When it was found that there are windows.
    windowed_at: Option<Duration>,
    /// After a refusal in a window one call goes first, and tells how things stand.
    trial: Option<Trial>,
    trust: f64,
    /// How often a call was refused although the answers had said that it fits.
    lies: u32,
    /// How many refusals there were lately.
    doubt: f64,
    measured: Option<Bucket>,
    search: Search,
    /// After a refusal without any number, so many calls go out at once until the rate is measured.
    careful: Option<u32>,
    refused_at: Option<Duration>,
    /// Since when the rate is measured, and the calls that passed from then to the latest refusal.
    measured_from: Option<(Duration, u64)>,
    done_since: u64,
    grown_at: (u64, Duration),
    in_a_row: u32,
    /// How many calls in a row the latest refusals cost before one passed again.
    cost: u64,
    /// How many calls passed before them, since those before.
    run: u64,
}

/// A call that goes before all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    Due,
    /// By its number.
    UnderWay(u64),
}

/// How full the bucket was when the API last told.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Level {
    calls: f64,
    at: Duration,
    full_at: Option<Duration>,
    burst: f64,
    newest: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            under_way: 0,
            flying: Vec::new(),
            calls: 0,
            not_before: Duration::ZERO,
            first_at: None,
            answered: false,
            told: None,
            refill: Refill::default(),
            renew: false,
            windows: Windows::default(),
            windowed_at: None,
            trial: None,
            trust: 1.0,
            lies: 0,
            doubt: 0.0,
            measured: None,
            search: Search::default(),
            careful: None,
            refused_at: None,
            measured_from: None,
            done_since: 0,
            grown_at: (0, Duration::ZERO),
            in_a_row: 0,
            cost: 1,
            run: 0,
        }
    }
}

impl Quota {
    /// How long the API asked to wait with calls of this kind.
    pub(super) fn asked(&self, now: Duration) -> Duration {
        self.not_before.saturating_sub(now)
    }

    /// Whether a call that was let out may still go, after it waited: no other was turned away meanwhile.
    pub(super) fn stands(&self, call: Call, now: Duration) -> bool {
        self.asked(now).is_zero() && self.is_firm(call)
    }

    /// Whether nothing was learnt since a call got its place by which it would not have got it.
    fn is_firm(&self, call: Call) -> bool {
        let since = |moment: Option<Duration>| moment.is_some_and(|moment| call.at <= moment);
        let amiss = since(self.refused_at) && (self.measured.is_some() || self.windows.is_one());
        let early = since(self.windowed_at) && call.goes > call.at;
        !(amiss || early)
    }

    /// When the next call fits.
    pub(super) fn fit(&self, now: Duration) -> Fit {
        if let Some(careful) = self.careful
            && self.under_way >= careful
        {
            return Fit::Ask(UNSAID_WAIT);
        }
        if !self.answered && self.under_way >= FIRST_CALLS {
            let caution_ends = self.first_at.unwrap_or(now).saturating_add(FIRST_ANSWER);
            if now < caution_ends {
                return Fit::Ask(caution_ends.saturating_sub(now));
            }
        }
        let paced = self.measured.as_ref().map_or(Duration::ZERO, |bucket| bucket.wait(1.0, now));
        let wait = paced.max(self.asked(now));
        let Some(level) = self.told.filter(|_| self.is_believed()) else { return Fit::After(wait) };
        if self.windows.is_one() {
            if matches!(self.trial, Some(Trial::UnderWay(_))) {
                return Fit::Ask(UNSAID_WAIT);
            }
            if self.trial.is_some() {
                return Fit::After(wait);
            }
            return match self.windows.fits_at(self.promised(now), now) {
                Some(at) => Fit::After(wait.max(at.saturating_sub(now))),
                // What comes back is promised to others already.
                None => {
                    let next = self.windows.next_back(now).map_or(UNSAID_WAIT, |at| at.saturating_sub(now));
                    Fit::Ask(wait.max(next).max(SHORTEST_WAIT))
                }
            };
        }
        let reserve = self.reserve(&level);
        let short = 1.0 + reserve - (self.level_at(&level, now) - f64::from(self.under_way));
        if short <= 0.0 {
            return Fit::After(wait);
        }
        let until_full = level.full_at.map(|full| full.saturating_sub(now));
        let full_suffices = level.burst - f64::from(self.under_way) >= 1.0;
        match (self.rate(), until_full) {
            (Some(rate), until_full) => {
                let by_rate = Duration::try_from_secs_f64(short / rate).unwrap_or(Duration::MAX);
                let soonest = until_full.filter(|_| full_suffices).map_or(by_rate, |full| by_rate.min(full));
                Fit::After(wait.max(soonest))
            }
            // How fast it fills is not known. One call tries after a second; a refusal says more.
            (None, full) if self.under_way == 0 => {
                Fit::After(wait.max(full.map_or(UNSAID_WAIT, |full| full.min(UNSAID_WAIT))))
            }
            (None, _) => Fit::Ask(UNSAID_WAIT),
        }
    }

    /// How many more calls fit within so long; `None` where no limit is known.
    pub(super) fn room(&self, within: Duration, now: Duration) -> Option<f64> {
        if self.asked(now) > within {
            return Some(0.0);
        }
        let left = within.saturating_sub(self.asked(now)).as_secs_f64();
        let under_way = f64::from(self.under_way);
        let measured = self.measured.as_ref().map(|bucket| bucket.level_at(now) + bucket.rate() * left);
        let told = self.told.filter(|_| self.is_believed()).map(|level| {
            if self.windows.is_one() {
                return self.windows.free(self.promised(now), now + within);
            }
            let full = level.full_at.is_some_and(|full| full <= now + within);
            let calls = self.level_at(&level, now) + self.rate().unwrap_or(0.0) * left;
            (if full { calls.max(level.burst) } else { calls }) - self.reserve(&level) - under_way
        });
        match (measured, told) {
            (Some(measured), Some(told)) => Some(measured.min(told)),
            (measured, told) => measured.or(told),
        }
    }

    /// Calls a second, where that is known.
    pub(super) fn rate(&self) -> Option<f64> {
        let measured = self.measured.as_ref().map(Bucket::rate);
        let told = self.told_rate().map(|rate| rate * self.trust);
        told.or(measured).filter(|rate| *rate > 0.0)
    }

    /// Calls a second at best: as [`Self::rate`], whatever was misjudged.
    pub(super) fn best_rate(&self) -> Option<f64> {
        self.told_rate().or(self.rate())
    }

    fn told_rate(&self) -> Option<f64> {
        self.refill.rate().filter(|_| self.is_believed() && !self.windows.is_one())
    }

    /// Lets a call out, which goes after so long.
    pub(super) fn begin(&mut self, wait: Duration, now: Duration) -> Call {
        let goes = now.saturating_add(wait);

        self.first_at.get_or_insert(now);
        self.under_way = self.under_way.saturating_add(1);
        self.calls += 1;
        if self.trial.is_some() {
            self.trial = Some(Trial::UnderWay(self.calls));
        }
        if let Some(measured) = &mut self.measured {
            measured.take(1.0, now);
        }
        let call = Call { number: self.calls, at: now, goes };
        self.flying.push(call);
        call
    }

    fn ended(&mut self, call: Call) {
        if self.trial == Some(Trial::UnderWay(call.number)) {
            self.trial = Some(Trial::Due);
        }
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(at) = self.flying.iter().position(|other| other.number == call.number) {
            self.flying.swap_remove(at);
        }
    }

    /// Takes back a call that was never sent.
    pub(super) fn unused(&mut self, call: Call, now: Duration) {
        self.ended(call);
        // A measurement since then began with a bucket that this call was never taken out of.
        if let Some(measured) = &mut self.measured
            && self.refused_at.is_none_or(|refused_at| call.at > refused_at)
        {
            measured.take(-1.0, now);
        }
    }

    /// Learns from a call that the API did not turn away for its limit; `counted` says whether it may have counted it.
    pub(super) fn answered(&mut self, call: Call, told: Told, counted: bool, now: Duration) {
        self.ended(call);
        if !counted {
            return;
        }
        self.answered = true;
        self.trial = self.trial.filter(|_| self.refused_at.is_some_and(|refused_at| call.goes <= refused_at));
        self.in_a_row = 0;
        self.done_since += 1;
        self.trust = (self.trust + REGAIN).min(1.0);
        self.doubt = (self.doubt - 0.01).max(0.0);
        self.careful = self.careful.map(|careful| careful.saturating_add(u32::from(self.done_since.is_multiple_of(8))));
        if self.done_since > 2_000 {
            self.lies = 0;
        }
        self.grow(now);
        match told.remaining {
            Some(remaining) => {
                self.refill.counted();
                self.learn(call, remaining, told.reset, true, now);
            }
            None => {
                let level = self.told.map(|level| Level { calls: self.level_at(&level, now) - 1.0, at: now, ..level });
                self.told = level;
            }
        }
    }

    /// Learns from a call that the API turned away; `asked` is the wait that it asks for.
    pub(super) fn refused(&mut self, call: Call, told: Told, asked: Option<Duration>, now: Duration) {
        self.ended(call);
        self.answered = true;
        let same = self.refused_at.is_some_and(|refused_at| call.at <= refused_at);
        if !same {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        let doubled = 2_u32.saturating_pow(self.in_a_row.saturating_sub(1).min(5));
        let wait = asked.map_or_else(|| self.unsaid_wait() * doubled, |asked| asked.max(SHORTEST_WAIT * doubled));
        self.not_before = self.not_before.max(now.saturating_add(wait));
        if same {
            return;
        }
        if let Some(level) = self.told.filter(|_| told.remaining.is_some()) {
            // Three more than it takes, so that calls which overtook each other are not held against it.
            let promised = self.level_at(&level, now) - f64::from(self.under_way);
            self.lies = self.lies.saturating_add(u32::from(promised >= 3.0 + level.burst / 4.0));
        }
        self.trust = (self.trust * CUT).max(LEAST_TRUST);
        self.doubt += 1.0;
        if self.doubt >= MUCH_DOUBT {
            // Whatever these numbers mean, it is not what they are taken for.
            self.lies = LIES;
        }
        match told.remaining {
            Some(_) => {
                if let Some((reset, asked)) = told.reset.zip(asked) {
                    self.windows.refused(call.goes, reset, asked, self.flying(now), now);
                }
                self.learn(call, 0, told.reset, false, now);
                self.refill.refused(asked, told.reset);
                self.renew = true;
            }
            // Without numbers the level is what the refusal says: none.
            None => self.told = self.told.map(|level| Level { calls: 0.0, at: now, full_at: None, ..level }),
        }
        if told.remaining.is_none() || !self.is_believed() {
            self.measure(wait, now);
        }
        self.trial = self.windows.is_one().then_some(Trial::Due);
        self.refused_at = Some(now);
        self.cost = u64::from(self.in_a_row.max(1));
        if self.done_since > 0 {
            self.run = self.done_since;
        }
        self.done_since = 0;
        self.grown_at = (0, now);
    }

    /// How long to wait where a refusal does not say it: until one more call has flowed in, if it is known how fast.
    fn unsaid_wait(&self) -> Duration {
        let one = self.measured.as_ref().and_then(|bucket| Duration::try_from_secs_f64(1.0 / bucket.rate()).ok());
        one.map_or(UNSAID_WAIT, |one| one.clamp(UNSAID_WAIT, LONGEST_UNSAID_WAIT))
    }

    /// Between two refusals the bucket went from empty to empty, so that what it let through is what flowed in.
    fn measure(&mut self, wait: Duration, now: Duration) {
        let (from, mut done) = *self.measured_from.get_or_insert((now, 0));
        done += self.done_since;
        self.measured_from = Some((from, done));
        let span = now.saturating_sub(from);
        if self.refused_at.is_none() || done < 1 || span.is_zero() {
            // Where none passed in between it is as empty as before: what flows in is counted from the first refusal.
            self.careful.get_or_insert(1);
            return;
        }
        if self.done_since == 0
            && let Some(measured) = &mut self.measured
        {
            // The wait was too short, which says nothing of the rate.
            measured.take(1.0 + measured.rate() * wait.as_secs_f64() + measured.level_at(now).max(0.0), now);
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
        let flowed_in = done as f64 / span.as_secs_f64() * MEASURED_SHARE;
        let rate = self.search.refused(self.measured.as_ref().map(Bucket::rate), flowed_in);
        if done >= ENOUGH_CALLS {
            self.measured_from = Some((now, 0));
        }
        // Nothing is saved up while it waits, so that those who waited do not all go out at its end.
        let mut bucket = Bucket::new(rate, 1.0);
        bucket.take(1.0 + rate * wait.as_secs_f64(), now);
        self.measured = Some(bucket);
        self.careful = None;
    }

    fn grow(&mut self, now: Duration) {
        let (calls, at) = self.grown_at;
        let Some(measured) = &mut self.measured else { return };
        let rate = measured.rate();
        let (after, at_last) = if self.search.is_near(rate) {
            (NEAR_CALLS * self.cost, LONGEST_NEAR)
        } else {
            // What had been saved up lets as many pass again at any rate.
            (FEW_CALLS.max(self.run.min(LONGEST_RUN) * 6 / 5), LONGEST_GROWTH)
        };
        // A rate that is far too low lets so few pass that their number would never show it.
        let enough = self.done_since >= calls + after || now >= at + at_last;
        if enough && now >= at + GROWTH_TIME {
            measured.set_rate(self.search.passed(rate), now);
            self.grown_at = (self.done_since, now);
        }
    }

    fn learn(&mut self, call: Call, remaining: u64, reset: Option<Duration>, passed: bool, now: Duration) {
        let number = call.number;
        #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
        let remaining = remaining as f64;
        if let Some(reset) = reset.filter(|_| passed) {
            let was_one = self.windows.is_one();
            self.windows.told(Said { number, sent: call.goes, remaining, reset }, self.flying(now), now);
            if !was_one && self.windows.is_one() {
                self.windowed_at = Some(now);
            }
        }
        let full_at = reset.map(|reset| now.saturating_add(reset));
        // Only one that went out after a refusal tells how many fit since.
        let anew = self.renew && self.refused_at.is_none_or(|refused_at| call.goes > refused_at);
        self.renew &= !anew;
        self.refill.told(remaining, reset, now);
        let Some(level) = self.told else {
            self.told = Some(Level { calls: remaining, at: now, full_at, burst: remaining + 1.0, newest: number });
            return;
        };
        let expected = self.level_at(&level, now);
        let newer = number >= level.newest;
        let amiss = remaining - expected;
        let calls = if amiss <= 0.0 || (newer && self.under_way == 0) {
            remaining
        } else if newer {
            // An answer that was overtaken says too much, so that more is believed step by step only.
            expected + amiss.min(1.0).max(amiss / 4.0)
        } else {
            expected
        };
        self.told = Some(Level {
            calls,
            at: now,
            full_at: if newer { full_at } else { level.full_at.max(full_at) },
            burst: if anew { remaining + 1.0 } else { level.burst.max(remaining + 1.0) },
            newest: level.newest.max(number),
        });
    }

    /// How many calls fit at the API, those under way not counted.
    fn level_at(&self, level: &Level, now: Duration) -> f64 {
        if level.full_at.is_some_and(|full| full <= now) {
            return level.burst;
        }
        let rate = self.refill.rate().unwrap_or(0.0) * self.trust;
        (level.calls + rate * now.saturating_sub(level.at).as_secs_f64()).min(level.burst)
    }

    /// How many calls are on their way, or will go: not those whose places do not stand any more.
    fn promised(&self, now: Duration) -> usize {
        self.flying.iter().filter(|call| call.goes <= now || self.is_firm(**call)).count()
    }

    /// How many calls are on their way now.
    fn flying(&self, now: Duration) -> usize {
        self.flying.iter().filter(|call| call.goes <= now).count()
    }

    const fn is_believed(&self) -> bool {
        self.lies < LIES
    }

    /// How many calls are left unused, for what was misjudged. A window loses what it does not use.
    fn reserve(&self, level: &Level) -> f64 {
        if self.windows.is_one() || level.burst < 3.0 {
            return 0.0;
        }
        // A window that slides never gives back what is left unused, so that of a small one hardly any may be.
        (level.burst / 10.0).min(1.0 + level.burst / 50.0).min(4.0)
    }
}
