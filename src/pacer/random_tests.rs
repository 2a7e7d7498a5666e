//! The pacer against random limits of all shapes, with random workers, latencies and phases, from fixed seeds.

use super::{simulator::*, *};

/// A run by chance against this shape.
fn run(chance: &mut Chance, shape: Shape, says: Says, latency: Duration, phase: Duration) -> Run {
    let workers = chance.one_of([2, 8, 16, 32]);
    let mut run = Run::new(shape, says, workers, latency).begun(phase);
    run.jitter = Some(*chance);
    run
}

const SHAPES: [Shape; 3] = [
    Shape::Drip { count: 10, seconds: 4, burst: 10 },
    Shape::Window { count: 10, seconds: 4 },
    Shape::Sliding { count: 10, seconds: 4 },
];

#[test]
fn forty_calls_of_ten_in_four_seconds_take_little_longer_than_they_must_whenever_they_begin() {
    let mut more_than_three = 0;
    for seed in 0..600 {
        let mut chance = Chance(seed);
        let shape = SHAPES[usize::try_from(seed).unwrap() % SHAPES.len()];
        let (latency, phase) = (MS(chance.one_of([1, 3, 10, 30])), MS(chance.below(4000)));
        let mut run = run(&mut chance, shape, Says::Everything, latency, phase);
        run.most = 40;
        run.advance(SECS(60));
        assert_eq!(run.passed, 40, "{seed}: {shape:?}");
        // The quota takes 12 seconds. Forty calls are too few to learn that reports do not describe a GCRA bucket.
        let (most, took) = if shape.is_gcra() { (5, MS(15_600)) } else { (12, SECS(20)) };
        assert!(run.refused <= most, "{seed}: {shape:?}: {} refused", run.refused);
        assert!(run.now <= took, "{seed}: {shape:?}: {:?}", run.now);
        // Calls in flight at the first refusal are refused with it.
        more_than_three += u32::from(shape.is_gcra() && run.refused > 3);
    }
    assert!(more_than_three <= 1, "{more_than_three} of 200 runs");
}

#[test]
fn whatever_the_reported_quota_is_most_of_it_is_used() {
    let mut failures = Vec::new();
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let (count, seconds) = chance.one_of([
            (5, 1),
            (10, 4),
            (3, 10),
            (100, 60),
            (50, 10),
            (50, 1),
            (1000, 600),
            (5, 5),
            (20, 1),
            (30, 60),
            (200, 20),
        ]);
        let shape = match chance.below(4) {
            0 => Shape::Drip { count, seconds, burst: count },
            1 => Shape::Drip { count, seconds, burst: (count * (1 + chance.below(40)) / 10).max(3) },
            2 => Shape::Window { count, seconds },
            _ => Shape::Sliding { count, seconds },
        };
        // A call comes back with its answer, so that the latency is lost of each window.
        let latency = MS(chance.one_of([1, 3, 10, 30, 100, 400]).min(seconds * 30));
        let phase = MS(chance.below(seconds * 1000));
        let mut run = run(&mut chance, shape, Says::Everything, latency, phase);
        let span = Duration::from_secs_f64(5000.0 / shape.rate()).min(SECS(1200)).max(SECS(seconds * 8));
        let learning = run.advance(span / 4);
        let (passed, refused) = run.advance(span);
        let used = passed as f64 / span.as_secs_f64() / shape.rate().min(run.speed());
        let what = format!("{seed}: {shape:?} {latency:?}: {learning:?}, then {passed} passed, {refused} refused");
        let (share, one_in) = shape.bounds();
        // A window ends for all calls in flight at once, of up to 32 workers.
        let at_once = if shape.is_gcra() { 8 } else { 32 };
        let learnt = learning.1 <= at_once + learning.0 / one_in;
        if !learnt || refused > 3 + passed / one_in || used < share {
            failures.push(format!("{what}, {used:.3}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_search_for_an_unreported_rate_never_gets_stuck() {
    let mut all = Vec::new();
    for seed in 0..160 {
        let mut chance = Chance(seed);
        let (count, seconds) =
            chance.one_of([(10, 4), (3, 10), (100, 60), (50, 10), (5, 5), (20, 1), (30, 60), (200, 20)]);
        let shape = match chance.below(4) {
            0 => Shape::Drip { count, seconds, burst: count },
            1 => Shape::Drip { count, seconds, burst: (count * (1 + chance.below(40)) / 10).max(2) },
            2 => Shape::Window { count, seconds },
            _ => Shape::Sliding { count, seconds },
        };
        let says = chance.one_of([Says::RetryAfter, Says::Nothing]);
        let latency = MS(chance.one_of([1, 3, 10, 30, 100]).min(seconds * 30));
        let phase = MS(chance.below(seconds * 1000));
        let mut run = run(&mut chance, shape, says, latency, phase);
        let learning = run.advance(SECS(1800));
        let (passed, refused) = run.advance(SECS(1200));
        let used = passed as f64 / 1200.0 / shape.rate().min(run.speed());
        let what =
            format!("{seed}: {shape:?} {says:?} {latency:?}: {learning:?}, then {passed} passed, {refused} refused");
        assert!(refused <= 4 + passed / 100, "{what}");
        assert!(used >= 0.85, "{what}, {used:.3}");
        all.push(used);
    }
    all.sort_by(f64::total_cmp);
    assert!(all[all.len() / 10] >= 0.95, "a tenth of them used no more than {:.3}", all[all.len() / 10]);
}
