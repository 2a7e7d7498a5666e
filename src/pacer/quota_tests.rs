//! Every state of [`Knowledge`] against every event, without a runtime or a server.

use super::{
    quota::{Knowledge, RefusedCall},
    reported::{LimitReport, Observation},
};
use std::time::Duration;

const NOW: Duration = Duration::from_secs(100);
const WAIT: Duration = Duration::from_secs(4);
const REPORT: LimitReport = LimitReport { remaining: Some(9), reset: Some(WAIT) };
const REFUSAL: RefusedCall = RefusedCall { retry_after: Some(WAIT), wait: WAIT };

fn seen(report: LimitReport) -> Observation {
    Observation { number: 1, in_flight: 0, report }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Sent,
    Passed(LimitReport),
    Refused(LimitReport),
}

fn on(knowledge: Knowledge, event: Event, now: Duration) -> Knowledge {
    match event {
        Event::Sent => knowledge.on_sent(now),
        Event::Passed(report) => knowledge.on_passed(&seen(report), now),
        Event::Refused(report) => knowledge.on_refused(&seen(report), REFUSAL, now),
    }
}

const fn name(knowledge: &Knowledge) -> &'static str {
    match knowledge {
        Knowledge::Unknown { .. } => "unknown",
        Knowledge::Unlimited => "unlimited",
        Knowledge::Reported(_) => "reported",
        Knowledge::Measured(_) => "measured",
    }
}

#[test]
fn every_event_in_every_state() {
    let reported = || on(Knowledge::default(), Event::Passed(REPORT), NOW);
    let disproved_soon = || (0..3).fold(reported(), |state, _| on(state, Event::Refused(REPORT), NOW));
    let measured = || on(Knowledge::Unlimited, Event::Refused(LimitReport::default()), NOW);
    let trusted_again_soon =
        || (0..10_000).fold(measured(), |state, _| on(state, Event::Passed(LimitReport::default()), NOW));
    let events = [
        Event::Sent,
        Event::Passed(LimitReport::default()),
        Event::Passed(REPORT),
        Event::Refused(LimitReport::default()),
        Event::Refused(REPORT),
    ];
    let table: [(&dyn Fn() -> Knowledge, [&str; 5]); 6] = [
        (&Knowledge::default, ["unknown", "unlimited", "reported", "measured", "reported"]),
        (&|| Knowledge::Unlimited, ["unlimited", "unlimited", "reported", "measured", "reported"]),
        (&reported, ["reported"; 5]),
        (&disproved_soon, ["reported", "reported", "reported", "measured", "measured"]),
        (&measured, ["measured"; 5]),
        (&trusted_again_soon, ["measured", "measured", "reported", "measured", "measured"]),
    ];
    for (state, expected) in table {
        for (event, expected) in events.into_iter().zip(expected) {
            let after = on(state(), event, NOW);
            assert_eq!(name(&after), expected, "{:?} on {event:?}", name(&state()));
        }
    }
}

#[test]
fn one_answer_raises_the_estimate_by_one_call_or_a_quarter_of_the_difference() {
    // Calls 2 and 3 are in flight; the answer to 2 reports far more room than call 1 did.
    for (first, later, expected) in [(10, 12, 11.0), (10, 110, 35.0)] {
        let observe = |number, remaining, in_flight| Observation {
            number,
            in_flight,
            report: LimitReport { remaining: Some(remaining), reset: None },
        };
        let knowledge = Knowledge::default().on_passed(&observe(1, first, 2), NOW);
        let Knowledge::Reported(reported) = knowledge.on_passed(&observe(2, later, 1), NOW) else { panic!() };
        assert!((reported.remaining_at(NOW) - expected).abs() < 1e-9, "{}", reported.remaining_at(NOW));
    }
}
