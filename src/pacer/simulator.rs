//! Servers with limits of several shapes, and workers that send to them as fast as the pacer lets, on a simulated clock.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use super::*;

pub(super) const MS: fn(u64) -> Duration = Duration::from_millis;
pub(super) const SECS: fn(u64) -> Duration = Duration::from_secs;

/// How a server limits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// GCRA: `count` calls in `seconds`, dripping, with a burst.
    Drip { count: u64, seconds: u64, burst: u64 },
    /// `count` calls in each fixed window of `seconds`.
    Window { count: u64, seconds: u64 },
    /// `count` calls within any `seconds`.
    Sliding { count: u64, seconds: u64 },
}

impl Shape {
    /// The least share of the quota that must be used, and the calls of which one may be refused: GCRA is what the API
    /// documents; other shapes only have to be tolerated.
    pub(super) const fn bounds(self) -> (f64, u64) {
        if self.is_gcra() { (0.95, 100) } else { (0.85, 50) }
    }

    pub(super) const fn is_gcra(self) -> bool {
        matches!(self, Self::Drip { .. })
    }

    /// Calls a second in the long run.
    pub(super) fn rate(self) -> f64 {
        let (Self::Drip { count, seconds, .. } | Self::Window { count, seconds } | Self::Sliding { count, seconds }) =
            self;
        count as f64 / seconds as f64
    }
}

/// What its answers say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Says {
    Everything,
    /// Everything, but refusals only how long to wait, as where something before the API refuses.
    RefusalsRetryAfter,
    RetryAfter,
    Nothing,
    /// That there is always room.
    Wrong,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) shape: Shape,
    says: Says,
    /// How long its windows had been counted when the simulation began.
    pub(super) phase: Duration,
    pub(super) full_at: Duration,
    pub(super) window: u128,
    used: u64,
    passed: VecDeque<Duration>,
}

fn ceil(wait: Duration) -> Duration {
    SECS(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

impl Server {
    pub(super) fn new(shape: Shape, says: Says) -> Self {
        let (full_at, phase) = (Duration::ZERO, Duration::ZERO);
        Self { shape, says, phase, full_at, window: 0, used: 0, passed: VecDeque::new() }
    }

    /// Whether the call is let through, its report, and the wait that it asks for.
    pub(super) fn call(&mut self, now: Duration) -> (bool, LimitReport, Option<Duration>) {
        let now = now + self.phase;
        let (passes, remaining, reset, retry) = match self.shape {
            Shape::Drip { count, seconds, burst } => {
                let interval = SECS(seconds) / u32::try_from(count).unwrap();
                let most = interval * u32::try_from(burst).unwrap();
                let then = self.full_at.max(now) + interval;
                if then > now + most {
                    (false, 0, self.full_at.saturating_sub(now), then - most - now)
                } else {
                    self.full_at = then;
                    let free = most - (then - now);
                    (true, u64::try_from(free.as_nanos() / interval.as_nanos()).unwrap(), then - now, Duration::ZERO)
                }
            }
            Shape::Window { count, seconds } => {
                let window = now.as_nanos() / SECS(seconds).as_nanos();
                if window != self.window {
                    (self.window, self.used) = (window, 0);
                }
                let end = SECS(seconds) * u32::try_from(window + 1).unwrap() - now;
                let passes = self.used < count;
                self.used += u64::from(passes);
                (passes, count - self.used, end, end)
            }
            Shape::Sliding { count, seconds } => {
                while self.passed.front().is_some_and(|first| *first + SECS(seconds) <= now) {
                    self.passed.pop_front();
                }
                let used = self.passed.len() as u64;
                let passes = used < count;
                if passes {
                    self.passed.push_back(now);
                }
                let until = |moment: Option<&Duration>| moment.map_or(Duration::ZERO, |at| *at + SECS(seconds) - now);
                (passes, count - used - u64::from(passes), until(self.passed.back()), until(self.passed.front()))
            }
        };
        let report = match self.says {
            Says::RefusalsRetryAfter if !passes => LimitReport::default(),
            Says::Everything | Says::RefusalsRetryAfter => {
                LimitReport { remaining: Some(remaining), reset: Some(ceil(reset)) }
            }
            Says::Wrong => LimitReport { remaining: Some(500), reset: Some(SECS(1)) },
            Says::RetryAfter | Says::Nothing => LimitReport::default(),
        };
        (passes, report, (self.says != Says::Nothing && !passes).then_some(ceil(retry)))
    }

    /// How many calls can pass within `span` at best.
    pub(super) fn quota(&self, span: Duration) -> f64 {
        let span = span.as_secs_f64();
        match self.shape {
            Shape::Drip { count, seconds, burst } => burst as f64 + span * count as f64 / seconds as f64,
            Shape::Window { count, seconds } | Shape::Sliding { count, seconds } => {
                count as f64 * (span / seconds as f64).ceil()
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Step {
    Returns,
    Asks,
    Sends,
    Arrives,
    Answered(bool),
}

/// A run: workers send as fast as they may.
pub(super) struct Run {
    pub(super) pacer: Pacer,
    pub(super) server: Server,
    pub(super) now: Duration,
    latency: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, usize, Step)>>,
    calls: Vec<Option<(Ticket, LimitReport, Option<Duration>)>>,
    number: u64,
    pub(super) passed: u64,
    pub(super) refused: u64,
    /// Stalls of the server: their length, and the period at whose end each one happens.
    pub(super) stalls: Option<(Duration, Duration)>,
    /// Where each way takes another time, what is left of the chance.
    pub(super) jitter: Option<Chance>,
    /// The number of calls to make.
    pub(super) most: u64,
    under_way: u32,
}

/// Numbers by chance, the same ones for the same seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `end`.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub(super) fn one_of<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[usize::try_from(self.below(N as u64)).unwrap()]
    }
}

impl Run {
    pub(super) fn new(shape: Shape, says: Says, workers: usize, latency: Duration) -> Self {
        let events = (0..workers).map(|worker| Reverse((Duration::ZERO, 0, worker, Step::Asks))).collect();
        Self {
            pacer: Pacer::new(&ConfiguredLimits::default(), &[]),
            server: Server::new(shape, says),
            now: Duration::ZERO,
            latency,
            events,
            calls: vec![None; workers],
            number: 0,
            passed: 0,
            refused: 0,
            stalls: None,
            jitter: None,
            most: u64::MAX,
            under_way: 0,
        }
    }

    /// How many calls a second the workers make at most, nearly.
    pub(super) fn speed(&self) -> f64 {
        self.calls.len() as f64 / (self.latency.as_secs_f64() * 0.9)
    }

    /// Starts the server's windows this long before the simulation.
    pub(super) fn begun(mut self, phase: Duration) -> Self {
        self.server.phase = phase;
        self
    }

    /// How long the current stall of the server still lasts.
    fn stalled(&self) -> Duration {
        let Some((every, span)) = self.stalls else { return Duration::ZERO };
        let into = Duration::from_nanos(u64::try_from(self.now.as_nanos() % every.as_nanos()).unwrap());
        if into + span >= every { every - into } else { Duration::ZERO }
    }

    /// How long a call is on one of its ways.
    fn way(&mut self, slow: bool) -> Duration {
        let way = self.latency * (1 + u32::from(slow)) / 4;
        let Some(chance) = &mut self.jitter else { return way };
        // Now and then one is held up.
        let share = if chance.below(50) == 0 { 200 + chance.below(800) } else { 50 + chance.below(100) };
        way * u32::try_from(share).unwrap() / 100
    }

    fn next(&mut self, after: Duration, worker: usize, step: Step) {
        self.number += 1;
        self.events.push(Reverse((self.now + after, self.number, worker, step)));
    }

    /// Advances by `span`; returns how many calls passed and how many were refused in it.
    pub(super) fn advance(&mut self, span: Duration) -> (u64, u64) {
        const KIND: Operation = Operation::CreateDocument;
        let (end, before) = (self.now + span, (self.passed, self.refused));
        while let Some(&Reverse((at, ..))) = self.events.peek()
            && at <= end
            && self.passed < self.most
        {
            let Reverse((at, _, worker, step)) = self.events.pop().unwrap();
            self.now = at;
            match step {
                // A postponed job is not claimed before there is room for it.
                Step::Returns => {
                    let room = self.pacer.room(at);
                    let again_in = room.again_in.clamp(MS(10), MS(200));
                    let (after, step) =
                        if room.jobs > 0 { (Duration::ZERO, Step::Asks) } else { (again_in, Step::Returns) };
                    self.next(after, worker, step);
                }
                // The others make the last calls.
                Step::Asks if self.passed + u64::from(self.under_way) >= self.most => {
                    self.next(MS(10), worker, Step::Asks)
                }
                Step::Asks => match self.pacer.reserve(KIND, 0, at) {
                    Reservation::Granted(wait, call) => {
                        self.calls[worker] = Some((call, LimitReport::default(), None));
                        self.next(wait, worker, Step::Sends);
                    }
                    // An answer would wake it; frequent polling has the same effect.
                    Reservation::AskAgain(wait) => self.next(wait.min(MS(10)), worker, Step::Asks),
                    Reservation::Later(wait) => self.next(wait, worker, Step::Returns),
                },
                Step::Sends if self.calls[worker].is_some_and(|(call, ..)| !self.pacer.is_valid(KIND, call, at)) => {
                    let (call, ..) = self.calls[worker].take().unwrap();
                    self.pacer.cancel(KIND, call, 0, at);
                    self.next(Duration::ZERO, worker, Step::Asks);
                }
                Step::Sends => {
                    self.under_way += 1;
                    let way = self.way(worker % 3 == 1);
                    self.next(way, worker, Step::Arrives);
                }
                Step::Arrives if !self.stalled().is_zero() => self.next(self.stalled(), worker, Step::Arrives),
                Step::Arrives => {
                    let (passes, report, retry_after) = self.server.call(at);
                    let (call, ..) = self.calls[worker].unwrap();
                    self.calls[worker] = Some((call, report, retry_after));
                    let way = self.way(worker % 2 == 1);
                    self.next(way, worker, Step::Answered(passes));
                }
                Step::Answered(passes) => {
                    self.under_way -= 1;
                    let (call, report, retry_after) = self.calls[worker].take().unwrap();
                    if passes {
                        self.passed += 1;
                        self.pacer.on_answer(KIND, call, report, true, at);
                    } else {
                        self.refused += 1;
                        self.pacer.on_refused(KIND, call, report, retry_after, at);
                    }
                    self.next(Duration::ZERO, worker, Step::Asks);
                }
            }
        }
        if self.passed < self.most {
            self.now = end;
        }
        (self.passed - before.0, self.refused - before.1)
    }
}
