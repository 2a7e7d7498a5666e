//! The rules that the worker keeps, and wrong ones to put in their places.

use crate::{
    absence::{Conclusion, ListReading, decide},
    clock::Timestamp,
    exchange::Exchange,
    outcome::{Outcome, outcome},
    queue::lineage::decide::{self as lineage, DatabaseFacts, MarkBeside, SeenMark},
};

/// When a call was sent and when it ended, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    pub(super) sent: u8,
    pub(super) ended: u8,
}

#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) outcome: fn(&Exchange) -> Outcome,
    pub(super) decide: fn(&ListReading<'_>) -> Conclusion,
    /// Whether a database may be worked with.
    pub(super) lineage: fn(&DatabaseFacts, &SeenMark<MarkBeside>) -> bool,
    /// From when on a lost document is waited for, and where the process ended before it knew.
    pub(super) lost_at: fn(Moments) -> u8,
    pub(super) recovered_at: fn(Moments) -> u8,
    pub(super) commits_intent: bool,
    pub(super) locks: bool,
}

impl Rules {
    /// The worker's own.
    pub(super) const WORKER: Self = Self {
        outcome: |exchange| outcome(exchange, Timestamp(0)),
        decide,
        lineage: |database, beside| lineage::decide(database, beside, None).is_ok(),
        lost_at: |moments| moments.ended,
        recovered_at: |moments| moments.ended,
        commits_intent: true,
        locks: true,
    };
}

/// Wrong rules, each a change of what goes into the worker's own or comes out of it.
pub(super) mod wrong {
    use std::time::Duration;

    use super::*;
    use crate::{
        absence::{AbsenceBounds, Control},
        outcome::{DocumentList, Reason},
    };

    pub(in super::super) fn from_the_sending(moments: Moments) -> u8 {
        moments.sent
    }

    fn waits(reading: &ListReading<'_>, absent_after: impl Fn(&AbsenceBounds) -> Duration) -> Conclusion {
        let bounds = AbsenceBounds { absent_after: absent_after(reading.bounds), ..*reading.bounds };
        decide(&ListReading { bounds: &bounds, ..reading.clone() })
    }

    pub(in super::super) fn a_sixth_of_the_wait(reading: &ListReading<'_>) -> Conclusion {
        waits(reading, |bounds| bounds.absent_after / 6)
    }

    pub(in super::super) fn without_list_lag(reading: &ListReading<'_>) -> Conclusion {
        waits(reading, |bounds| bounds.request_lives)
    }

    pub(in super::super) fn without_request_lives(reading: &ListReading<'_>) -> Conclusion {
        waits(reading, |bounds| bounds.list_lag)
    }

    /// Two readings that show nothing, however early.
    pub(in super::super) fn looks_that_agree(reading: &ListReading<'_>) -> Conclusion {
        match waits(reading, |_| Duration::ZERO) {
            Conclusion::Absent if reading.doubts == 0 => Conclusion::Wait { doubt: Some("the first".to_owned()) },
            conclusion => conclusion,
        }
    }

    pub(in super::super) fn doubts_are_ignored(reading: &ListReading<'_>) -> Conclusion {
        let list = DocumentList { doubts: Vec::new(), ..reading.list.clone() };
        decide(&ListReading { list: &list, known: &[], control: &Control::Shown, ..reading.clone() })
    }

    pub(in super::super) fn foreign_lists(reading: &ListReading<'_>) -> Conclusion {
        decide(&ListReading { is_foreign: false, ..reading.clone() })
    }

    pub(in super::super) fn known_need_not_be_shown(reading: &ListReading<'_>) -> Conclusion {
        let control = if reading.known.is_empty() { reading.control.clone() } else { Control::Shown };
        decide(&ListReading { known: &[], control: &control, ..reading.clone() })
    }

    pub(in super::super) fn no_control(reading: &ListReading<'_>) -> Conclusion {
        decide(&ListReading { control: &Control::Shown, ..reading.clone() })
    }

    pub(in super::super) fn any_category(reading: &ListReading<'_>) -> Conclusion {
        let mut list = reading.list.clone();
        for document in &mut list.documents {
            document.category.clear();
        }
        decide(&ListReading { list: &list, ..reading.clone() })
    }

    pub(in super::super) fn nothing_is_taken(reading: &ListReading<'_>) -> Conclusion {
        let mut list = reading.list.clone();
        for document in &mut list.documents {
            document.category.clear();
        }
        decide(&ListReading { list: &list, taken: &[], known: &[], ..reading.clone() })
    }

    pub(in super::super) fn doubt_for_ever(reading: &ListReading<'_>) -> Conclusion {
        decide(&ListReading { doubts: 0, ..reading.clone() })
    }

    /// Says of what was lost by an answer like this that certainly nothing was created.
    fn failed_where(exchange: &Exchange, is_failed: impl Fn(u16, &str) -> bool) -> Outcome {
        match (outcome(exchange, Timestamp(0)), &exchange.result) {
            (Outcome::Lost(reason), Ok(answer)) if is_failed(answer.status, &String::from_utf8_lossy(&answer.body)) => {
                Outcome::TryAgain(Reason { ..reason })
            }
            (outcome, _) => outcome,
        }
    }

    pub(in super::super) fn errors_are_believed(exchange: &Exchange) -> Outcome {
        failed_where(exchange, |status, body| status == 200 && body.contains("errors"))
    }

    pub(in super::super) fn garbled_is_failed(exchange: &Exchange) -> Outcome {
        failed_where(exchange, |status, body| status == 200 && !body.contains("errors"))
    }

    pub(in super::super) fn unavailable_is_failed(exchange: &Exchange) -> Outcome {
        failed_where(exchange, |status, _| status == 503)
    }

    pub(in super::super) fn refusal_beside_an_id(exchange: &Exchange) -> Outcome {
        match (outcome(exchange, Timestamp(0)), &exchange.result) {
            (Outcome::Lost(reason), Ok(answer)) if String::from_utf8_lossy(&answer.body).contains("201") => {
                Outcome::Refused(reason)
            }
            (outcome, _) => outcome,
        }
    }

    pub(in super::super) fn any_database(_: &DatabaseFacts, _: &SeenMark<MarkBeside>) -> bool {
        true
    }

    /// Commits since the latest start are not counted.
    pub(in super::super) fn starts_alone(database: &DatabaseFacts, beside: &SeenMark<MarkBeside>) -> bool {
        lineage::decide(&DatabaseFacts { commits: i64::MAX, ..*database }, beside, None).is_ok()
    }
}
