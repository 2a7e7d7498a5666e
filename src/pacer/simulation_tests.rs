//! The pacer against limits of several shapes, on a simulated clock: how many calls are turned away, and how much of the
//! quota is used.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECS: fn(u64) -> Duration = Duration::from_secs;

/// How a server counts.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// So many calls in so many seconds, dripping, with this burst.
    Drip { count: u64, seconds: u64, burst: u64 },
    /// So many calls in each window of so many seconds.
    Window { count: u64, seconds: u64 },
    /// So many calls within any so many seconds.
    Sliding { count: u64, seconds: u64 },
}

/// What its answers say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Everything,
    RetryAfter,
    Nothing,
    /// That there is always room.
    Lies,
}

#[derive(Debug)]
struct Server {
    shape: Shape,
    says: Says,
    full_at: Duration,
    window: u128,
    used: u64,
    passed: VecDeque<Duration>,
}

fn ceil(wait: Duration) -> Duration {
    SECS(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

impl Server {
    fn new(shape: Shape, says: Says) -> Self {
        Self { shape, says, full_at: Duration::ZERO, window: 0, used: 0, passed: VecDeque::new() }
    }

    /// Whether the call is let through, what is told, and the wait that is asked for.
    fn call(&mut self, now: Duration) -> (bool, Told, Option<Duration>) {
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
        let told = match self.says {
            Says::Everything => Told { remaining: Some(remaining), reset: Some(ceil(reset)) },
            Says::Lies => Told { remaining: Some(500), reset: Some(SECS(1)) },
            Says::RetryAfter | Says::Nothing => Told::default(),
        };
        (passes, told, (self.says != Says::Nothing && !passes).then_some(ceil(retry)))
    }

    /// How many calls pass at best in so long.
    fn quota(&self, span: Duration) -> f64 {
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
struct Run {
    pacer: Pacer,
    server: Server,
    now: Duration,
    latency: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, usize, Step)>>,
    calls: Vec<Option<(Call, Told, Option<Duration>)>>,
    number: u64,
    passed: u64,
    refused: u64,
    /// The server stands still for so long at the end of each of so long.
    stalls: Option<(Duration, Duration)>,
}

impl Run {
    fn new(shape: Shape, says: Says, workers: usize, latency: Duration) -> Self {
        let events = (0..workers).map(|worker| Reverse((Duration::ZERO, 0, worker, Step::Asks))).collect();
        Self {
            pacer: Pacer::new(&Allowance::default(), &[]),
            server: Server::new(shape, says),
            now: Duration::ZERO,
            latency,
            events,
            calls: vec![None; workers],
            number: 0,
            passed: 0,
            refused: 0,
            stalls: None,
        }
    }

    /// How long the server still stands still.
    fn stalled(&self) -> Duration {
        let Some((every, span)) = self.stalls else { return Duration::ZERO };
        let into = Duration::from_nanos(u64::try_from(self.now.as_nanos() % every.as_nanos()).unwrap());
        if into + span >= every { every - into } else { Duration::ZERO }
    }

    fn next(&mut self, after: Duration, worker: usize, step: Step) {
        self.number += 1;
        self.events.push(Reverse((self.now + after, self.number, worker, step)));
    }

    /// Goes on for so long; returns how many calls passed and how many were turned away in it.
    fn go_on(&mut self, span: Duration) -> (u64, u64) {
        const KIND: Operation = Operation::CreateDocument;
        let (end, before) = (self.now + span, (self.passed, self.refused));
        while let Some(&Reverse((at, ..))) = self.events.peek()
            && at <= end
        {
            let Reverse((at, _, worker, step)) = self.events.pop().unwrap();
            self.now = at;
            match step {
                // A job that comes back is not taken up before there is room for it.
                Step::Returns => {
                    let room = self.pacer.room(at);
                    let again_in = room.again_in.clamp(MS(10), MS(200));
                    let (after, step) =
                        if room.jobs > 0 { (Duration::ZERO, Step::Asks) } else { (again_in, Step::Returns) };
                    self.next(after, worker, step);
                }
                Step::Asks => match self.pacer.place(KIND, 0, at) {
                    Place::After(wait, call) => {
                        self.calls[worker] = Some((call, Told::default(), None));
                        self.next(wait, worker, Step::Sends);
                    }
                    // An answer would wake it; looking often comes to the same.
                    Place::Ask(wait) => self.next(wait.min(MS(10)), worker, Step::Asks),
                    Place::Later(wait) => self.next(wait, worker, Step::Returns),
                },
                Step::Sends if self.calls[worker].is_some_and(|(call, ..)| !self.pacer.stands(KIND, call, at)) => {
                    let (call, ..) = self.calls[worker].take().unwrap();
                    self.pacer.unused(KIND, call, 0, at);
                    self.next(Duration::ZERO, worker, Step::Asks);
                }
                Step::Sends => self.next(self.latency * (1 + u32::from(worker % 3 == 1)) / 4, worker, Step::Arrives),
                Step::Arrives if !self.stalled().is_zero() => self.next(self.stalled(), worker, Step::Arrives),
                Step::Arrives => {
                    let (passes, told, asked) = self.server.call(at);
                    let (call, ..) = self.calls[worker].unwrap();
                    self.calls[worker] = Some((call, told, asked));
                    self.next(self.latency * (1 + u32::from(worker % 2 == 1)) / 4, worker, Step::Answered(passes));
                }
                Step::Answered(passes) => {
                    let (call, told, asked) = self.calls[worker].take().unwrap();
                    if passes {
                        self.passed += 1;
                        self.pacer.answered(KIND, call, told, true, at);
                    } else {
                        self.refused += 1;
                        self.pacer.refused(KIND, call, told, asked, at);
                    }
                    self.next(Duration::ZERO, worker, Step::Asks);
                }
            }
        }
        self.now = end;
        (self.passed - before.0, self.refused - before.1)
    }
}

/// Asserts that from the start at most so many calls are turned away beside one in a hundred, and that so much of the
/// quota is used.
#[track_caller]
fn keeps(shape: Shape, says: Says, latency: Duration, span: Duration, first: u64, share: f64) {
    let mut run = Run::new(shape, says, 16, latency);
    let (passed, refused) = run.go_on(span);
    let used = passed as f64 / run.server.quota(span);
    println!("{shape:?} {says:?} {latency:?}: {passed} passed, {refused} refused, {:.1} % used", used * 100.0);
    assert!(refused <= first + passed / 100, "{refused} of {passed} were turned away");
    assert!(used >= share, "only {:.1} % of the quota were used", used * 100.0);
}

const PUBLISHED: Shape = Shape::Drip { count: 10_000, seconds: 3600, burst: 10_000 };

#[test]
fn a_dripping_bucket_with_a_burst() {
    for latency in [MS(1), MS(100), MS(1500)] {
        keeps(Shape::Drip { count: 10, seconds: 4, burst: 10 }, Says::Everything, latency, SECS(300), 3, 0.95);
        keeps(Shape::Drip { count: 50, seconds: 10, burst: 200 }, Says::Everything, latency, SECS(600), 3, 0.95);
    }
    keeps(PUBLISHED, Says::Everything, MS(80), SECS(4 * 3600), 3, 0.95);
}

#[test]
fn forty_calls_of_ten_in_four_seconds_take_little_longer_than_they_must() {
    let mut run = Run::new(Shape::Drip { count: 10, seconds: 4, burst: 10 }, Says::Everything, 16, MS(2));
    // The first ten are the burst; thirty take twelve seconds.
    run.go_on(MS(13_000));
    assert!(run.passed >= 40, "{}", run.passed);
    assert!(run.refused <= 3, "{}", run.refused);
}

#[test]
fn a_server_that_stands_still_now_and_then_is_caught_up_with() {
    for stalls in [(MS(3000), MS(1000)), (MS(1000), MS(500)), (SECS(20), SECS(3))] {
        let mut run = Run::new(Shape::Drip { count: 10, seconds: 4, burst: 10 }, Says::Everything, 16, MS(5));
        run.stalls = Some(stalls);
        let (passed, refused) = run.go_on(SECS(120));
        assert!(passed as f64 >= 0.95 * run.server.quota(SECS(120)), "{stalls:?}: {passed}");
        assert!(refused <= 3, "{stalls:?}: {refused}");
    }
}

#[test]
fn a_window_that_fills_at_one_blow() {
    for latency in [MS(1), MS(100)] {
        keeps(Shape::Window { count: 100, seconds: 60 }, Says::Everything, latency, SECS(1200), 5, 0.95);
        keeps(Shape::Window { count: 1000, seconds: 3600 }, Says::Everything, latency, SECS(8 * 3600), 5, 0.95);
    }
}

#[test]
fn a_window_that_slides_is_learnt() {
    for latency in [MS(1), MS(100)] {
        for (count, seconds) in
            [(100, 60), (50, 20), (10, 10), (1000, 600), (10, 4), (10, 5), (5, 5), (20, 4), (10, 1), (30, 10)]
        {
            let mut run = Run::new(Shape::Sliding { count, seconds }, Says::Everything, 16, latency);
            let learning = run.go_on(SECS(600));
            let (passed, refused) = run.go_on(SECS(2400));
            let used = passed as f64 / run.server.quota(SECS(2400));
            println!("{count}/{seconds} {latency:?}: {learning:?}, then {passed} passed, {refused} refused, {used:.3}");
            assert!(refused <= 3 + passed / 100, "{count}/{seconds} {latency:?}: {passed} passed, {refused} refused");
            assert!(used >= 0.95, "{count}/{seconds} {latency:?}: {used}");
        }
    }
}

#[test]
fn a_tiny_and_a_huge_quota() {
    keeps(Shape::Drip { count: 1, seconds: 10, burst: 1 }, Says::Everything, MS(50), SECS(3600), 3, 0.90);
    keeps(Shape::Drip { count: 2, seconds: 20, burst: 2 }, Says::Everything, MS(50), SECS(3600), 3, 0.90);
    let huge = Shape::Drip { count: 100_000, seconds: 1, burst: 100_000 };
    let mut run = Run::new(huge, Says::Everything, 16, MS(16));
    let (passed, refused) = run.go_on(SECS(10));
    // Nothing but the workers and the latency bounds it: about two calls in three quarters of 16 ms each.
    assert!(passed > 9_000 && refused == 0, "{passed} {refused}");
}

#[test]
fn a_quota_that_changes_midway_is_learnt_anew() {
    for (first, then) in [
        (Shape::Drip { count: 100, seconds: 10, burst: 100 }, Shape::Drip { count: 10, seconds: 10, burst: 10 }),
        (Shape::Drip { count: 10, seconds: 10, burst: 10 }, Shape::Drip { count: 100, seconds: 10, burst: 100 }),
        (Shape::Drip { count: 100, seconds: 10, burst: 100 }, Shape::Window { count: 100, seconds: 60 }),
        (Shape::Window { count: 100, seconds: 60 }, Shape::Drip { count: 10, seconds: 4, burst: 10 }),
    ] {
        let mut run = Run::new(first, Says::Everything, 16, MS(50));
        run.go_on(SECS(300));
        let now = run.now;
        run.server = Server::new(then, Says::Everything);
        run.server.full_at = now;
        run.server.window = now.as_nanos() / SECS(60).as_nanos();
        let learning = run.go_on(SECS(60));
        assert!(learning.1 <= 12, "{first:?} to {then:?}: {learning:?} while it is learnt");
        let (passed, refused) = run.go_on(SECS(1200));
        let quota =
            run.server.quota(SECS(1200)) - if let Shape::Drip { burst, .. } = then { burst as f64 } else { 0.0 };
        let used = passed as f64 / quota;
        println!("{first:?} to {then:?}: {learning:?}, then {passed} passed, {refused} refused, {used:.3}");
        assert!(refused <= 2 + passed / 100 && used >= 0.95, "{first:?} to {then:?}: {passed} {refused} {used}");
    }
}

#[test]
fn without_numbers_the_rate_is_measured_between_refusals() {
    for says in [Says::RetryAfter, Says::Nothing] {
        for shape in [
            Shape::Drip { count: 10, seconds: 4, burst: 10 },
            Shape::Drip { count: 50, seconds: 1, burst: 50 },
            Shape::Drip { count: 1, seconds: 10, burst: 1 },
            Shape::Drip { count: 5, seconds: 1, burst: 1 },
            Shape::Drip { count: 30, seconds: 60, burst: 3 },
            Shape::Window { count: 100, seconds: 60 },
            Shape::Window { count: 10, seconds: 1 },
            Shape::Sliding { count: 100, seconds: 60 },
        ] {
            let mut run = Run::new(shape, says, 16, MS(20));
            let learning = run.go_on(SECS(300));
            let (passed, refused) = run.go_on(SECS(3600));
            let quota =
                run.server.quota(SECS(3600)) - if let Shape::Drip { burst, .. } = shape { burst as f64 } else { 0.0 };
            let used = passed as f64 / quota;
            println!("{shape:?} {says:?}: {learning:?}, then {passed} passed, {refused} refused, {used:.3}");
            assert!(refused <= 3 + passed / 100, "{shape:?} {says:?}: {passed} passed, {refused} refused");
            assert!(used >= 0.95, "{shape:?} {says:?}: {used}");
        }
    }
}

#[test]
fn numbers_that_lie_are_not_believed_for_long() {
    let mut run = Run::new(Shape::Drip { count: 10, seconds: 4, burst: 10 }, Says::Lies, 16, MS(20));
    run.go_on(SECS(300));
    let (passed, refused) = run.go_on(SECS(3600));
    assert!(refused <= 3 + passed / 100, "{passed} passed, {refused} refused");
    assert!(passed as f64 >= 0.85 * 9000.0, "{passed}");
}

#[test]
fn nothing_is_slowed_down_where_there_is_no_limit() {
    let mut pacer = Pacer::new(&Allowance::default(), &[]);
    let Place::After(Duration::ZERO, call) = pacer.place(Operation::UploadImage, 1, MS(1)) else { panic!("it waits") };
    assert!(matches!(pacer.place(Operation::UploadImage, 1, MS(1)), Place::After(Duration::ZERO, _)));
    // Nothing is known before the first answer.
    assert!(matches!(pacer.place(Operation::UploadImage, 1, MS(1)), Place::Ask(_)));
    pacer.answered(Operation::UploadImage, call, Told::default(), true, MS(2));
    for _ in 0..1000 {
        assert!(matches!(pacer.place(Operation::UploadImage, 1, MS(2)), Place::After(Duration::ZERO, _)));
    }
    // An answer that never comes does not keep others waiting for ever.
    let mut pacer = Pacer::new(&Allowance::default(), &[]);
    assert!((0..2).all(|_| matches!(pacer.place(Operation::UploadImage, 1, MS(1)), Place::After(..))));
    assert!(matches!(pacer.place(Operation::UploadImage, 1, MS(3000)), Place::After(..)));
}

#[test]
fn other_kinds_of_calls_go_on() {
    let mut run = Run::new(Shape::Drip { count: 1, seconds: 3600, burst: 1 }, Says::Everything, 4, MS(10));
    run.go_on(SECS(60));
    let now = run.now;
    assert!(matches!(run.pacer.place(Operation::CreateDocument, 1, now), Place::Later(_) | Place::Ask(_)));
    assert!(matches!(run.pacer.place(Operation::ReadDocuments, 1, now), Place::After(Duration::ZERO, _)));
}
