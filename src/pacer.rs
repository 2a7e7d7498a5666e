//! When the next call may go out: what the API's answers ask for, and what the configuration allows.
//!
//! Plain arithmetic: `now` is a duration since the process started, on the monotonic clock, so that a jump of the wall
//! clock neither opens nor shuts anything. No lock, no timer, no metrics in here.

use std::{collections::HashMap, time::Duration};

use crate::outcome::Operation;

/// A bucket that fills at a steady rate and may be overdrawn: whoever overdraws it waits until it is even again.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Tokens a second.
    rate: f64,
    /// The most that it holds.
    burst: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket. A rate or burst of nothing is taken as the smallest that still moves.
    #[must_use]
    pub fn new(rate: f64, burst: f64) -> Self {
        let burst = burst.max(1.0);
        Self { rate: rate.max(1e-6), burst, level: burst, at: Duration::ZERO }
    }

    /// Takes tokens and returns how long to wait before using them.
    pub fn take(&mut self, tokens: f64, now: Duration) -> Duration {
        self.fill(now);
        // A single take larger than the whole bucket is let through when the bucket is full, and paid off after.
        let short = tokens.min(self.burst) - self.level;
        self.level -= tokens;
        if short <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((short / self.rate).min(1e9)) }
    }

    /// Puts back what was taken and not used.
    pub fn give_back(&mut self, tokens: f64) {
        self.level = (self.level + tokens).min(self.burst);
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.burst);
        self.at = self.at.max(now);
    }
}

/// The configured limits; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Allowance {
    /// Documents created in an hour.
    pub documents_per_hour: Option<u64>,
    /// Requests in a second.
    pub requests_per_second: Option<f64>,
    /// Body bytes in a second.
    pub bytes_per_second: Option<u64>,
}

/// Paces all calls of one account.
#[derive(Debug, Clone, Default)]
pub struct Pacer {
    documents: Option<Bucket>,
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
    not_before: HashMap<Operation, Duration>,
}

/// A place for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It may go out after so long, and its place is taken.
    After(Duration),
    /// Not before so long, which is too long to hold a place: come again then.
    Later(Duration),
}

/// A wait longer than this is better spent in the queue than in a worker's hands.
const HOLD: Duration = Duration::from_secs(2);

impl Pacer {
    /// A pacer for these limits. `spent` is how many documents were created within the last hour, e.g. by the process
    /// that ran before this one.
    #[must_use]
    pub fn new(allowance: &Allowance, spent: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        let float = |number: u64| number as f64;
        Self {
            documents: allowance.documents_per_hour.map(|hourly| {
                let rate = float(hourly) / 3600.0;
                // A tenth of the hour's worth may go at once; together with the steady rate that would exceed the
                // hour's limit by as much, so the rate is lower by the burst.
                let burst = (float(hourly) / 10.0).floor().max(1.0);
                let steady = ((float(hourly) - burst) / 3600.0).max(rate / 2.0);
                let mut bucket = Bucket::new(steady, burst);
                bucket.level -= float(spent).min(float(hourly));
                bucket
            }),
            requests: allowance.requests_per_second.map(|rate| Bucket::new(rate, rate / 10.0)),
            bytes: allowance.bytes_per_second.map(|rate| Bucket::new(float(rate), float(rate) / 4.0)),
            not_before: HashMap::new(),
        }
    }

    /// Asks for a place for a call with a body of so many bytes.
    pub fn place(&mut self, operation: Operation, bytes: u64, now: Duration) -> Place {
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^53 bytes")]
        let bytes = bytes as f64;
        let asked = self.not_before.get(&operation).map_or(Duration::ZERO, |until| until.saturating_sub(now));
        if asked > HOLD {
            return Place::Later(asked);
        }
        let documents = self.documents.as_mut().filter(|_| operation == Operation::CreateDocument);
        let mut taken: Vec<(&mut Bucket, f64)> = documents.map(|bucket| (bucket, 1.0)).into_iter().collect();
        taken.extend(self.requests.as_mut().map(|bucket| (bucket, 1.0)));
        taken.extend(self.bytes.as_mut().map(|bucket| (bucket, bytes)));
        let wait = taken.iter_mut().map(|(bucket, tokens)| bucket.take(*tokens, now)).max().unwrap_or_default();
        let wait = wait.max(asked);
        if wait > HOLD {
            taken.iter_mut().for_each(|(bucket, tokens)| bucket.give_back(*tokens));
            return Place::Later(wait);
        }
        Place::After(wait)
    }

    /// How long no job can get far: the wait that the API asked for on uploads. Zero where there is none.
    #[must_use]
    pub fn blocked_for(&self, now: Duration) -> Duration {
        [Operation::UploadImage, Operation::UploadFile]
            .iter()
            .filter_map(|operation| self.not_before.get(operation))
            .map(|until| until.saturating_sub(now))
            .max()
            .unwrap_or_default()
    }

    /// Notes that the API asked to wait with calls of this kind.
    pub fn asked_to_wait(&mut self, operation: Operation, wait: Duration, now: Duration) {
        let until = now.saturating_add(wait);
        let slot = self.not_before.entry(operation).or_default();
        *slot = (*slot).max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends as fast as the pacer lets, on a simulated clock; returns when each call went out.
    fn simulate(pacer: &mut Pacer, operation: Operation, bytes: u64, calls: usize) -> Vec<Duration> {
        let mut now = Duration::ZERO;
        let mut sent = Vec::new();
        while sent.len() < calls {
            match pacer.place(operation, bytes, now) {
                Place::After(wait) => {
                    now += wait;
                    sent.push(now);
                }
                Place::Later(wait) => now += wait,
            }
        }
        sent
    }

    #[test]
    fn without_limits_nothing_waits() {
        let mut pacer = Pacer::new(&Allowance::default(), 0);
        assert_eq!(*simulate(&mut pacer, Operation::CreateDocument, 1 << 30, 1000).last().unwrap(), Duration::ZERO);
    }

    #[test]
    fn no_hour_has_more_documents_than_allowed_and_nine_tenths_of_them_at_least() {
        let allowance = Allowance { documents_per_hour: Some(1000), ..Allowance::default() };
        let sent = simulate(&mut Pacer::new(&allowance, 0), Operation::CreateDocument, 100, 4000);
        for (at, start) in sent.iter().enumerate() {
            let within = sent[at..].iter().take_while(|moment| **moment < *start + 3600 * SECOND).count();
            assert!(within <= 1000, "{within} documents in the hour from {start:?}");
        }
        let whole = sent.iter().filter(|moment| **moment >= 3600 * SECOND && **moment < 7200 * SECOND).count();
        assert!(whole >= 899, "{whole}");
        // Other calls are not documents.
        let mut pacer = Pacer::new(&allowance, 0);
        assert_eq!(*simulate(&mut pacer, Operation::UploadImage, 100, 4000).last().unwrap(), Duration::ZERO);
    }

    #[test]
    fn what_an_earlier_process_spent_counts() {
        let allowance = Allowance { documents_per_hour: Some(1000), ..Allowance::default() };
        let first = simulate(&mut Pacer::new(&allowance, 1000), Operation::CreateDocument, 100, 1)[0];
        assert!(first > 3000 * SECOND, "{first:?}");
    }

    #[test]
    fn bytes_and_requests_are_paced() {
        let allowance = Allowance { bytes_per_second: Some(1_000_000), ..Allowance::default() };
        let sent = simulate(&mut Pacer::new(&allowance, 0), Operation::UploadImage, 500_000, 21);
        assert!((9.0..=10.5).contains(&sent[20].as_secs_f64()), "{:?}", sent[20]);
        let allowance = Allowance { requests_per_second: Some(50.0), ..Allowance::default() };
        let sent = simulate(&mut Pacer::new(&allowance, 0), Operation::UploadImage, 1, 501);
        assert!((9.8..=10.1).contains(&sent[500].as_secs_f64()), "{:?}", sent[500]);
    }

    #[test]
    fn no_call_of_a_kind_goes_out_before_the_api_said() {
        let mut pacer = Pacer::new(&Allowance::default(), 0);
        pacer.asked_to_wait(Operation::CreateDocument, 40 * SECOND, SECOND);
        // A shorter wait that is said later does not shorten it.
        pacer.asked_to_wait(Operation::CreateDocument, SECOND, SECOND);
        assert_eq!(pacer.place(Operation::CreateDocument, 1, SECOND), Place::Later(40 * SECOND));
        assert_eq!(pacer.place(Operation::CreateDocument, 1, 40 * SECOND), Place::After(SECOND));
        assert_eq!(pacer.place(Operation::UploadImage, 1, SECOND), Place::After(Duration::ZERO));
        assert_eq!(pacer.blocked_for(SECOND), Duration::ZERO);
    }
}
