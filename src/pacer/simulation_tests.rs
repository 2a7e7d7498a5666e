//! The pacer against limits of several shapes, on a simulated clock: how many calls are refused, and how much of the
//! quota is used.

use super::{simulator::*, *};

/// Asserts that at most `first` calls plus one in a hundred are refused, and that at least `share` of the quota is
/// used.
#[track_caller]
fn keeps(shape: Shape, says: Says, latency: Duration, span: Duration, first: u64, share: f64) {
    let mut run = Run::new(shape, says, 16, latency);
    let (passed, refused) = run.advance(span);
    let used = passed as f64 / run.server.quota(span);
    println!("{shape:?} {says:?} {latency:?}: {passed} passed, {refused} refused, {:.1} % used", used * 100.0);
    assert!(refused <= first + passed / shape.bounds().1, "{refused} of {passed} were turned away");
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
    run.advance(MS(13_000));
    assert!(run.passed >= 40, "{}", run.passed);
    assert!(run.refused <= 3, "{}", run.refused);
}

#[test]
fn after_a_server_stalls_the_rate_catches_up() {
    for stalls in [(MS(3000), MS(1000)), (MS(1000), MS(500)), (SECS(20), SECS(3))] {
        let mut run = Run::new(Shape::Drip { count: 10, seconds: 4, burst: 10 }, Says::Everything, 16, MS(5));
        run.stalls = Some(stalls);
        let (passed, refused) = run.advance(SECS(120));
        assert!(passed as f64 >= 0.95 * run.server.quota(SECS(120)), "{stalls:?}: {passed}");
        assert!(refused <= 3, "{stalls:?}: {refused}");
    }
}

#[test]
fn a_window_that_fills_at_one_blow() {
    for latency in [MS(1), MS(100)] {
        keeps(Shape::Window { count: 100, seconds: 60 }, Says::Everything, latency, SECS(1200), 5, 0.85);
        keeps(Shape::Window { count: 1000, seconds: 3600 }, Says::Everything, latency, SECS(8 * 3600), 5, 0.85);
    }
}

#[test]
fn a_window_that_slides_is_learnt() {
    for latency in [MS(1), MS(100)] {
        for (count, seconds) in
            [(100, 60), (50, 20), (10, 10), (1000, 600), (10, 4), (10, 5), (5, 5), (20, 4), (10, 1), (30, 10)]
        {
            let mut run = Run::new(Shape::Sliding { count, seconds }, Says::Everything, 16, latency);
            let learning = run.advance(SECS(600));
            let (passed, refused) = run.advance(SECS(2400));
            let used = passed as f64 / run.server.quota(SECS(2400));
            println!("{count}/{seconds} {latency:?}: {learning:?}, then {passed} passed, {refused} refused, {used:.3}");
            assert!(refused <= 3 + passed / 50, "{count}/{seconds} {latency:?}: {passed} passed, {refused} refused");
            assert!(used >= 0.85, "{count}/{seconds} {latency:?}: {used}");
        }
    }
}

#[test]
fn refusals_that_report_nothing_do_not_disturb_the_reports_of_other_answers() {
    for latency in [MS(1), MS(100)] {
        for (seconds, count, burst) in [(4, 10, 10), (10, 50, 200), (3600, 1000, 100)] {
            let shape = Shape::Drip { count, seconds, burst };
            keeps(shape, Says::RefusalsRetryAfter, latency, SECS(600 + 2 * seconds), 3, 0.95);
        }
    }
}

#[test]
fn a_tiny_and_a_huge_quota() {
    keeps(Shape::Drip { count: 1, seconds: 10, burst: 1 }, Says::Everything, MS(50), SECS(3600), 3, 0.90);
    keeps(Shape::Drip { count: 2, seconds: 20, burst: 2 }, Says::Everything, MS(50), SECS(3600), 3, 0.90);
    let huge = Shape::Drip { count: 100_000, seconds: 1, burst: 100_000 };
    let mut run = Run::new(huge, Says::Everything, 16, MS(16));
    let (passed, refused) = run.advance(SECS(10));
    // Nothing but the workers and the latency bounds it: about two calls in three quarters of 16 ms each.
    assert!(passed > 9_000 && refused == 0, "{passed} {refused}");
}

#[test]
fn a_quota_that_changes_midway_is_learnt_again() {
    for (first, then) in [
        (Shape::Drip { count: 100, seconds: 10, burst: 100 }, Shape::Drip { count: 10, seconds: 10, burst: 10 }),
        (Shape::Drip { count: 10, seconds: 10, burst: 10 }, Shape::Drip { count: 100, seconds: 10, burst: 100 }),
        (Shape::Drip { count: 100, seconds: 10, burst: 100 }, Shape::Window { count: 100, seconds: 60 }),
        (Shape::Window { count: 100, seconds: 60 }, Shape::Drip { count: 10, seconds: 4, burst: 10 }),
    ] {
        let mut run = Run::new(first, Says::Everything, 16, MS(50));
        run.advance(SECS(300));
        let now = run.now;
        run.server = Server::new(then, Says::Everything);
        run.server.full_at = now;
        run.server.window = now.as_nanos() / SECS(60).as_nanos();
        let learning = run.advance(SECS(60));
        assert!(learning.1 <= 12, "{first:?} to {then:?}: {learning:?} while it is learnt");
        let (passed, refused) = run.advance(SECS(1200));
        let quota =
            run.server.quota(SECS(1200)) - if let Shape::Drip { burst, .. } = then { burst as f64 } else { 0.0 };
        let used = passed as f64 / quota;
        println!("{first:?} to {then:?}: {learning:?}, then {passed} passed, {refused} refused, {used:.3}");
        let (share, one_in) = then.bounds();
        assert!(refused <= 2 + passed / one_in && used >= share, "{first:?} to {then:?}: {passed} {refused} {used}");
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
            let learning = run.advance(SECS(300));
            let (passed, refused) = run.advance(SECS(3600));
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
fn wrong_reports_are_not_followed_for_long() {
    let mut run = Run::new(Shape::Drip { count: 10, seconds: 4, burst: 10 }, Says::Wrong, 16, MS(20));
    run.advance(SECS(300));
    let (passed, refused) = run.advance(SECS(3600));
    assert!(refused <= 3 + passed / 100, "{passed} passed, {refused} refused");
    assert!(passed as f64 >= 0.85 * 9000.0, "{passed}");
}

#[test]
fn nothing_is_slowed_down_where_there_is_no_limit() {
    let mut pacer = Pacer::new(&ConfiguredLimits::default(), &[]);
    let Reservation::Granted(Duration::ZERO, call) = pacer.reserve(Operation::UploadImage, 1, MS(1)) else {
        panic!("it waits")
    };
    assert!(matches!(pacer.reserve(Operation::UploadImage, 1, MS(1)), Reservation::Granted(Duration::ZERO, _)));
    // Nothing is known before the first answer.
    assert!(matches!(pacer.reserve(Operation::UploadImage, 1, MS(1)), Reservation::AskAgain(_)));
    pacer.on_answer(Operation::UploadImage, call, LimitReport::default(), true, MS(2));
    for _ in 0..1000 {
        assert!(matches!(pacer.reserve(Operation::UploadImage, 1, MS(2)), Reservation::Granted(Duration::ZERO, _)));
    }
    // An answer that never comes does not keep others waiting for ever.
    let mut pacer = Pacer::new(&ConfiguredLimits::default(), &[]);
    assert!((0..2).all(|_| matches!(pacer.reserve(Operation::UploadImage, 1, MS(1)), Reservation::Granted(..))));
    assert!(matches!(pacer.reserve(Operation::UploadImage, 1, MS(3000)), Reservation::Granted(..)));
}

#[test]
fn other_kinds_of_calls_continue() {
    let mut run = Run::new(Shape::Drip { count: 1, seconds: 3600, burst: 1 }, Says::Everything, 4, MS(10));
    run.advance(SECS(60));
    let now = run.now;
    assert!(matches!(
        run.pacer.reserve(Operation::CreateDocument, 1, now),
        Reservation::Later(_) | Reservation::AskAgain(_)
    ));
    assert!(matches!(run.pacer.reserve(Operation::ReadDocuments, 1, now), Reservation::Granted(Duration::ZERO, _)));
}
