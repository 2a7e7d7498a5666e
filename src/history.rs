//! Replays the calls that the queue recorded of a job against the rule for sending a document a second time.
//!
//! Pure: it knows nothing of how the worker decides, so that it finds what the worker's decision got wrong.
//!
//! # The rule
//!
//! Between a call that may have created the document and the next one that sends it there is a list without it
//! (`absent`), asked for later than the bound of its time after the end of *every* earlier call that may have created it,
//! which shows a document that has to be there (itself, or the list of another profile); or a person's
//! `release --send-again`. What was found (`adopted`) is not sent again, nor is what an answer said was created, unless such
//! a list shows that it is gone. A call whose answer the queue could not record, as in a crash, is not in the history.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;

/// One recorded call, or what a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCall {
    /// When it was begun.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// As the queue records it, e.g. `create_document`.
    pub operation: String,
    /// As the queue records it, e.g. `lost`.
    pub outcome: String,
    /// Of a list that counted as a proof of absence; nothing where an earlier release recorded none.
    pub proof: Option<RecordedProof>,
}

/// By what a list counted as a proof of absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedProof {
    /// The bound that was configured then.
    pub bound: Duration,
    /// Whether a document that had to be shown was.
    pub has_witness: bool,
}

impl RecordedCall {
    fn ended(&self) -> Timestamp {
        self.at.after(self.took)
    }

    fn is(&self, operation: &str, outcome: &str) -> bool {
        self.operation == operation && self.outcome == outcome
    }

    fn bound(&self, configured: Duration) -> Duration {
        self.proof.map_or(configured, |proof| proof.bound)
    }

    /// Whether it may have created the document; an outcome that this release does not know may.
    fn may_have_created(&self) -> bool {
        let certainly_not = ["refused", "throttled", "paused", "try_again"];
        self.operation == "create_document" && !certainly_not.contains(&self.outcome.as_str())
    }
}

/// A document that was sent although nothing proved that it was absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnprovenSending {
    /// When it was sent; RFC 3339 in JSON.
    #[serde(serialize_with = "in_text")]
    pub sent_at: Timestamp,
    /// What is missing.
    pub reason: String,
}

fn in_text<S: serde::Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

/// The sendings of a job's document that lack their proof of absence, in the order of its calls. `bound` is how long after
/// the end of a call an absence counts, where the list was not recorded with the bound of its time.
#[must_use]
pub fn unproven_sendings(calls: &[RecordedCall], bound: Duration) -> Vec<UnprovenSending> {
    let mut unproven = Vec::new();
    // What the next sending has to refute: the end of the latest call that may have created the document, and why.
    let mut doubt: Option<(Timestamp, &'static str)> = None;
    let mut seen_too_early: Option<(Duration, Duration)> = None;
    let mut without_witness = false;
    for call in calls {
        if call.is("read_documents", "absent") {
            match doubt {
                Some(_) if call.proof.is_some_and(|proof| !proof.has_witness) => without_witness = true,
                Some((ended, _)) if call.at < ended.after(call.bound(bound)) => {
                    seen_too_early = Some((call.at.since(ended), call.bound(bound)));
                }
                _ => (doubt, seen_too_early) = (None, None),
            }
        } else if call.is("read_documents", "adopted") {
            doubt = Some((call.ended(), "it was found"));
        } else if call.is("release", "done") {
            (doubt, seen_too_early) = (None, None);
        } else if call.operation == "create_document" {
            if let Some((ended, why)) = doubt {
                let reason = match seen_too_early {
                    _ if without_witness => {
                        format!("{why}, and the list without it showed nothing that had to be there")
                    }
                    Some((after, bound)) => format!(
                        "{why}, and the list without it was asked for {} s after the end of that call, not {} s",
                        after.as_secs_f64(),
                        bound.as_secs_f64()
                    ),
                    None => format!("{why} at {ended}, and no list without it was read since"),
                };
                unproven.push(UnprovenSending { sent_at: call.at, reason });
            }
            if call.may_have_created() {
                let why = if call.outcome == "done" { "it was created" } else { "its answer was lost" };
                let latest = doubt.map_or(call.ended(), |(ended, _)| ended.max(call.ended()));
                (doubt, seen_too_early, without_witness) = (Some((latest, why)), None, false);
            }
        }
    }
    unproven
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(70);

    /// A history written as `seconds operation outcome [bound [witness]]` a call, each of two seconds.
    fn history(text: &str) -> Vec<RecordedCall> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                RecordedCall {
                    at: Timestamp(words[0].parse::<i64>().unwrap() * 1000),
                    took: Duration::from_secs(2),
                    operation: words[1].to_owned(),
                    outcome: words[2].to_owned(),
                    proof: words.get(3).map(|bound| RecordedProof {
                        bound: Duration::from_secs(bound.parse().unwrap()),
                        has_witness: words.len() > 4,
                    }),
                }
            })
            .collect()
    }

    /// When something was sent without its proof, in seconds.
    fn unproven(text: &str) -> Vec<i64> {
        unproven_sendings(&history(text), BOUND).iter().map(|sending| sending.sent_at.0 / 1000).collect()
    }

    const PROVEN: &str = "
        0   upload_image    done
        1   create_document lost
        9   read_documents  unseen
        73  read_documents  absent
        75  create_document lost
        147 read_documents  absent
        149 create_document done";

    #[test]
    fn a_history_with_its_proofs_is_accepted() {
        assert_eq!(unproven(PROVEN), [0_i64; 0]);
        for fine in [
            "0 create_document done",
            "0 create_document lost\n 90 read_documents adopted",
            "0 create_document refused\n 1 create_document try_again\n 2 create_document throttled\n 3 create_document done",
            "0 create_document lost\n 5 release done\n 6 create_document done",
            "0 create_document done\n 900 read_documents absent\n 901 create_document done",
            // The first call was in flight when its process was killed: nothing of it is recorded.
            "80 read_documents absent\n 81 create_document done",
        ] {
            assert_eq!(unproven(fine), [0_i64; 0], "{fine}");
        }
    }

    #[test]
    fn each_mutated_history_is_refused() {
        let without = |line: &str| PROVEN.replacen(line, "", 1);
        let with = |from: &str, to: &str| PROVEN.replacen(from, to, 1);
        for (mutated, sent) in [
            (without("73  read_documents  absent"), vec![75]),
            (without("147 read_documents  absent"), vec![149]),
            // A second too early after the end of the call, though not after its beginning.
            (with("73  read_documents  absent", "72  read_documents  absent"), vec![75]),
            (with("73  read_documents  absent", "73  read_documents  unseen"), vec![75]),
            (with("73  read_documents  absent", "73  read_documents  doubtful"), vec![75]),
            (with("73  read_documents  absent", "73  read_documents  adopted"), vec![75]),
            (with("73  read_documents  absent", "73  read_documents  lost"), vec![75]),
            // It is found after all.
            (with("75  create_document lost", "74 read_documents adopted\n 75 create_document lost"), vec![75]),
            // The proof is of the first call, and the second needs its own.
            (with("147 read_documents  absent", "100 read_documents  absent"), vec![149]),
            // The last list is then a second too early for the call that was added.
            (with("75  create_document lost", "75  create_document done\n 76 create_document done"), vec![76, 149]),
            (
                with("75  create_document lost", "75  create_document something\n 76 create_document done"),
                vec![76, 149],
            ),
            (format!("{PROVEN}\n 150 create_document done"), vec![150]),
        ] {
            assert_eq!(unproven(&mutated), sent, "{mutated}");
        }
    }

    #[test]
    fn a_list_is_judged_by_the_bound_of_its_time_and_by_its_witness() {
        let with = |list: &str| format!("0 create_document lost\n {list}\n 200 create_document done");
        for fine in ["22 read_documents absent 20 w", "150 read_documents absent 70 w", "73 read_documents absent"] {
            assert_eq!(unproven(&with(fine)), [0_i64; 0], "{fine}");
        }
        for missing in
            ["21 read_documents absent 20 w", "150 read_documents absent 20", "150 read_documents absent 149 w"]
        {
            assert_eq!(unproven(&with(missing)), [200], "{missing}");
        }
    }

    #[test]
    fn it_says_what_is_missing() {
        let said = |text: &str| unproven_sendings(&history(text), BOUND).remove(0).reason;
        let early = said("0 create_document lost\n 12 read_documents absent\n 13 create_document done");
        assert!(early.contains("10 s after the end of that call, not 70 s"), "{early}");
        let never = said("0 create_document lost\n 13 create_document done");
        assert!(never.contains("its answer was lost at") && never.contains("no list"), "{never}");
    }
}
