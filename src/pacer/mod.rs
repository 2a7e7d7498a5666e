//! Decides when the next call may go out, from the limits that the API's answers report and the configured ones.
//!
//! Configured limits are kept by token buckets ([`TokenBucket`]); the API's own by one `Quota` for each kind of call.
//! Pure arithmetic without locks, timers or metrics: `now` is the time since the process started on the monotonic clock,
//! so that a jump of the wall clock changes nothing.

mod bucket;
pub mod concurrency;
#[cfg(test)]
mod estimate_tests;
mod fixed_window;
mod measured;
mod quota;
#[cfg(test)]
mod quota_tests;
#[cfg(test)]
mod random_tests;
mod refill;
mod reported;
mod search;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod simulator;

use std::time::Duration;

pub use self::{
    bucket::TokenBucket,
    quota::{SHORTEST_WAIT, Ticket},
    reported::LimitReport,
};
use self::{
    fixed_window::WindowFacts,
    quota::{Fit, KnownQuota, Quota},
};
use crate::{
    estimate::{Constraint, Counted, LimitWindow, PacedLimit},
    operation::Operation,
};

/// The configured limits; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ConfiguredLimits {
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
    documents: Option<TokenBucket>,
    requests: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
    quotas: Quotas,
    /// When the last postponed document call was asked to come back.
    last_return: Duration,
    /// The longest wait that a failed call's answer is believed to mean.
    longest_wait: Duration,
}

/// The API's limits: one for each kind of call.
#[derive(Debug, Clone, Default)]
struct Quotas {
    upload_image: Quota,
    upload_file: Quota,
    create_document: Quota,
    read_documents: Quota,
    list_images: Quota,
    whoami: Quota,
}

impl Quotas {
    const fn of(&mut self, operation: Operation) -> &mut Quota {
        match operation {
            Operation::UploadImage => &mut self.upload_image,
            Operation::UploadFile => &mut self.upload_file,
            Operation::CreateDocument => &mut self.create_document,
            Operation::ReadDocuments => &mut self.read_documents,
            Operation::ListImages => &mut self.list_images,
            Operation::Whoami => &mut self.whoami,
        }
    }
}

/// The answer to a request for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// The call may go out after this wait; its place is taken.
    Granted(Duration, Ticket),
    /// Unknown yet: ask again after the next answer, or after this wait. No place is taken.
    AskAgain(Duration),
    /// The wait is too long to hold a place: come back after it.
    Later(Duration),
}

/// How many more jobs are worth claiming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// [`usize::MAX`] where no limit is known.
    pub jobs: usize,
    /// When there may be room again; zero where there is some.
    pub again_in: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);

/// A job that has to wait longer returns to the queue.
const MAX_HOLD: Duration = Duration::from_secs(2);

/// Postponed jobs come back within this time of each other.
const MAX_SPREAD: Duration = Duration::from_secs(600);

/// The longest wait after a failed call where no other is set.
const DEFAULT_LONGEST_WAIT: Duration = Duration::from_secs(900);

/// Where a failed call's answer asks for longer than is believed, another call tries after this.
const LONGEST_DOUBTED_WAIT: Duration = Duration::from_secs(10);

/// The shortest interval between two checks for room.
const MIN_ROOM_INTERVAL: Duration = Duration::from_millis(20);

impl Pacer {
    /// A pacer for these limits. `spent` lists how long ago the previous process created each document of the last hour,
    /// the latest first.
    #[must_use]
    pub fn new(limits: &ConfiguredLimits, spent: &[Duration]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        let float = |number: u64| number as f64;
        Self {
            documents: limits.documents_per_hour.map(|hourly| {
                let rate = float(hourly) / 3600.0;
                // A tenth of the hour's documents may go out at once. Burst plus refill must not exceed the hour's limit,
                // so the refill rate is lower by the burst.
                let burst = (float(hourly) / 10.0).floor().max(1.0);
                let steady = ((float(hourly) - burst) / 3600.0).max(rate / 2.0);
                let mut bucket = TokenBucket::new(steady, burst);
                for ago in spent.iter().rev() {
                    bucket.take(1.0, HOUR.saturating_sub(*ago));
                }
                bucket.rebase(HOUR);
                bucket
            }),
            requests: limits.requests_per_second.map(|rate| TokenBucket::new(rate, rate / 10.0)),
            bytes: limits.bytes_per_second.map(|rate| TokenBucket::new(float(rate), float(rate) / 4.0)),
            quotas: Quotas::default(),
            last_return: Duration::ZERO,
            longest_wait: DEFAULT_LONGEST_WAIT,
        }
    }

    /// The same with another longest wait after a failed call: `[retry] max`.
    #[must_use]
    pub const fn with_longest_wait(self, longest_wait: Duration) -> Self {
        Self { longest_wait, ..self }
    }

    /// Reserves a place for a call with a body of `bytes`.
    pub fn reserve(&mut self, operation: Operation, bytes: u64, now: Duration) -> Reservation {
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^53 bytes")]
        let bytes = bytes as f64;
        let creates = operation == Operation::CreateDocument;
        let quota = self.quotas.of(operation);
        let retry_after = quota.retry_after(now);
        let fits = match quota.fit(now) {
            _ if retry_after > MAX_HOLD => retry_after,
            Fit::AskAgain(wait) if wait > MAX_HOLD => wait,
            Fit::AskAgain(wait) => return Reservation::AskAgain(wait.max(Duration::from_millis(1))),
            Fit::After(wait) => wait,
        };
        let wait_for = |bucket: &Option<TokenBucket>, tokens| {
            bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.wait(tokens, now))
        };
        let documents = if creates { wait_for(&self.documents, 1.0) } else { Duration::ZERO };
        let wait = fits.max(documents).max(wait_for(&self.requests, 1.0)).max(wait_for(&self.bytes, bytes));
        if wait > MAX_HOLD {
            return Reservation::Later(self.spread(operation, wait, now));
        }
        self.take(operation, 1.0, bytes, now);
        Reservation::Granted(wait, self.quotas.of(operation).reserve(now))
    }

    /// Takes `calls` and `bytes` out of the configured buckets; negative ones are put back.
    fn take(&mut self, operation: Operation, calls: f64, bytes: f64, now: Duration) {
        let documents = self.documents.as_mut().filter(|_| operation == Operation::CreateDocument);
        for (bucket, tokens) in [(documents, calls), (self.requests.as_mut(), calls), (self.bytes.as_mut(), bytes)] {
            if let Some(bucket) = bucket {
                bucket.take(tokens, now);
            }
        }
    }

    /// Spreads postponed document calls, so that they come back one by one, and faster than they fit: one that comes too
    /// early waits in the queue until there is [room](Self::room); one that comes too late leaves its place unused.
    fn spread(&mut self, operation: Operation, wait: Duration, now: Duration) -> Duration {
        if operation != Operation::CreateDocument {
            return wait;
        }
        let first = now.saturating_add(wait);
        // The delay is bounded by the wait itself: the known rate may be wrong, and will be known better by then.
        let due = self.last_return.max(first).min(first.saturating_add(MAX_SPREAD.min(wait / 4)));
        let interval = self.documents_rate().map_or(0.01, |rate| 0.4 / rate.max(1e-6));
        let interval = Duration::try_from_secs_f64(interval).unwrap_or(MAX_SPREAD).min(MAX_SPREAD);
        self.last_return = due.saturating_add(interval);
        due.saturating_sub(now)
    }

    fn documents_rate(&self) -> Option<f64> {
        let api = self.quotas.create_document.rate();
        let configured = self.documents.as_ref().map(TokenBucket::rate);
        match (api, configured) {
            (Some(api), Some(configured)) => Some(api.min(configured)),
            (api, configured) => api.or(configured),
        }
    }

    /// Gives back the place of a call that was never sent.
    pub fn cancel(&mut self, operation: Operation, ticket: Ticket, bytes: u64, now: Duration) {
        self.quotas.of(operation).cancel(ticket, now);
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^53 bytes")]
        self.take(operation, -1.0, -(bytes as f64), now);
    }

    /// Whether a reserved call may still go out once its wait is over. Not where a call was refused meanwhile: the calls
    /// that waited and those reserved since would go out at the same moments.
    pub fn is_valid(&mut self, operation: Operation, ticket: Ticket, now: Duration) -> bool {
        self.quotas.of(operation).is_valid(ticket, now)
    }

    /// Learns from a call that no limit refused; `counted` says whether the API may have counted it.
    pub fn on_answer(
        &mut self,
        operation: Operation,
        ticket: Ticket,
        report: LimitReport,
        counted: bool,
        now: Duration,
    ) {
        self.quotas.of(operation).on_answer(ticket, report, counted, now);
    }

    /// Learns from a call that a limit refused; `retry_after` is the wait that the answer asks for.
    pub fn on_refused(
        &mut self,
        operation: Operation,
        ticket: Ticket,
        report: LimitReport,
        retry_after: Option<Duration>,
        now: Duration,
    ) {
        self.quotas.of(operation).on_refused(ticket, report, retry_after, now);
    }

    /// Learns from a call that failed for another reason than a limit, and whose answer asks to wait: calls of its kind do,
    /// until one of them works. One maintenance page that asked for a day once put half of the jobs to sleep.
    pub fn on_failed(&mut self, operation: Operation, asked: Duration, now: Duration) {
        let wait = if asked <= self.longest_wait { asked } else { asked.min(LONGEST_DOUBTED_WAIT) };
        self.quotas.of(operation).on_failed(wait, now);
    }

    /// Learns from a call that worked.
    pub fn on_worked(&mut self, operation: Operation) {
        self.quotas.of(operation).on_worked();
    }

    /// Everything that limits calls now. Of a limit of the API that is not known yet, what an earlier process knew.
    #[must_use]
    pub fn limits(&self, now: Duration, earlier: &[PacedLimit]) -> Vec<PacedLimit> {
        let configured = [
            (&self.documents, Constraint::DocumentsPerHour, Counted::Documents),
            (&self.requests, Constraint::RequestsPerSecond, Counted::Requests),
            (&self.bytes, Constraint::BytesPerSecond, Counted::Bytes),
        ];
        let configured = configured.into_iter().filter_map(|(bucket, constraint, counted)| {
            let bucket = bucket.as_ref()?;
            let (rate, burst, level) = (bucket.rate(), bucket.burst(), bucket.level_at(now));
            Some(PacedLimit { constraint, counted, rate, burst, level, window: None })
        });
        let quotas = [
            (&self.quotas.create_document, Counted::Documents),
            (&self.quotas.upload_image, Counted::Images),
            (&self.quotas.upload_file, Counted::Files),
        ];
        let quotas = quotas.into_iter().filter_map(|(quota, counted)| {
            let constraint = Constraint::ApiQuota;
            let is_same = |known: &&PacedLimit| known.constraint == constraint && known.counted == counted;
            let before = earlier.iter().find(is_same).copied();
            match quota.known(now) {
                KnownQuota::Limit { rate, burst, level } => {
                    Some(PacedLimit { constraint, counted, rate, burst, level, window: None })
                }
                KnownQuota::Windows(facts) => Some(in_windows(&facts, counted, before)),
                KnownQuota::Unlimited => None,
                KnownQuota::NotYet => before,
            }
        });
        configured.chain(quotas).collect()
    }

    /// How many more jobs are worth claiming: none that could not create its document soon.
    pub fn room(&mut self, now: Duration) -> Room {
        let uploads = self.quotas.upload_image.retry_after(now).max(self.quotas.upload_file.retry_after(now));
        if !uploads.is_zero() {
            return Room { jobs: 0, again_in: uploads };
        }
        let retry_after = self.quotas.create_document.retry_after(now);
        if retry_after > MAX_HOLD {
            return Room { jobs: 0, again_in: retry_after.saturating_sub(MAX_HOLD).max(MIN_ROOM_INTERVAL) };
        }
        let api = self.quotas.create_document.room(MAX_HOLD, now);
        let configured =
            self.documents.as_ref().map(|bucket| bucket.level_at(now) + bucket.rate() * MAX_HOLD.as_secs_f64());
        let least = match (api, configured) {
            (None, None) => return Room { jobs: usize::MAX, again_in: Duration::ZERO },
            (api, configured) => api.unwrap_or(f64::MAX).min(configured.unwrap_or(f64::MAX)),
        };
        if least >= 1.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and saturates, which is as good as no limit"
            )]
            return Room { jobs: least as usize, again_in: Duration::ZERO };
        }
        let short = self.documents_rate().map_or(1.0, |rate| (1.0 - least) / rate.max(1e-6));
        let again_in = Duration::try_from_secs_f64(short).unwrap_or(MAX_SPREAD).clamp(MIN_ROOM_INTERVAL, MAX_SPREAD);
        Room { jobs: 0, again_in }
    }
}

/// A limit that counts in fixed windows. Where no whole one was seen yet, an earlier process may know how large they are.
fn in_windows(facts: &WindowFacts, counted: Counted, before: Option<PacedLimit>) -> PacedLimit {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let known = before.filter(|before| !facts.is_whole && before.window.is_some() && before.burst >= facts.count);
    let every = known.and_then(|known| known.window).map_or(ms(facts.every), |window| window.every);
    let burst = known.map_or(facts.count, |known| known.burst);
    #[expect(clippy::cast_precision_loss, reason = "years in milliseconds are far below 2^52")]
    let rate = burst / (every as f64 / 1000.0);
    let window = Some(LimitWindow { ends_in: ms(facts.ends_in), every });
    PacedLimit { constraint: Constraint::ApiQuota, counted, rate, burst, level: facts.left, window }
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
            match pacer.reserve(operation, bytes, now) {
                Reservation::Granted(wait, call) => {
                    now += wait;
                    sent.push(now);
                    pacer.on_answer(operation, call, LimitReport::default(), true, now);
                }
                Reservation::AskAgain(wait) | Reservation::Later(wait) => now += wait,
            }
        }
        sent
    }

    #[test]
    fn without_limits_nothing_waits() {
        let mut pacer = Pacer::new(&ConfiguredLimits::default(), &[]);
        assert_eq!(*simulate(&mut pacer, Operation::CreateDocument, 1 << 30, 1000).last().unwrap(), Duration::ZERO);
    }

    #[test]
    fn no_hour_has_more_documents_than_allowed_and_nine_tenths_of_them_at_least() {
        let allowance = ConfiguredLimits { documents_per_hour: Some(1000), ..ConfiguredLimits::default() };
        let sent = simulate(&mut Pacer::new(&allowance, &[]), Operation::CreateDocument, 100, 4000);
        for (at, start) in sent.iter().enumerate() {
            let within = sent[at..].iter().take_while(|moment| **moment < *start + 3600 * SECOND).count();
            assert!(within <= 1000, "{within} documents in the hour from {start:?}");
        }
        let whole = sent.iter().filter(|moment| **moment >= 3600 * SECOND && **moment < 7200 * SECOND).count();
        assert!(whole >= 899, "{whole}");
        // Other calls are not documents.
        let mut pacer = Pacer::new(&allowance, &[]);
        assert_eq!(*simulate(&mut pacer, Operation::UploadImage, 100, 4000).last().unwrap(), Duration::ZERO);
    }

    #[test]
    fn what_an_earlier_process_spent_counts() {
        let allowance = ConfiguredLimits { documents_per_hour: Some(1000), ..ConfiguredLimits::default() };
        let first =
            |spent: &[Duration]| simulate(&mut Pacer::new(&allowance, spent), Operation::CreateDocument, 100, 1)[0];
        assert!(first(&[Duration::ZERO; 1000]) > 3000 * SECOND, "all of it just now");
        assert_eq!(first(&[3500 * SECOND; 500]), Duration::ZERO, "that long ago leaves room");
    }

    #[test]
    fn a_restart_neither_exceeds_the_hour_nor_stops_what_was_within_it() {
        let allowance = ConfiguredLimits { documents_per_hour: Some(1000), ..ConfiguredLimits::default() };
        let before = simulate(&mut Pacer::new(&allowance, &[]), Operation::CreateDocument, 100, 2000);
        for restart in [60, 1000, 3599, 5000] {
            let restart = restart * SECOND;
            let mut all: Vec<Duration> = before.iter().copied().filter(|at| *at <= restart).collect();
            let within_hour = all.iter().rev().map(|at| restart - *at).filter(|ago| *ago <= HOUR);
            let mut after = Pacer::new(&allowance, &within_hour.collect::<Vec<_>>());
            let went_on = simulate(&mut after, Operation::CreateDocument, 100, 2000);
            assert!(went_on[0] <= 8 * SECOND, "{restart:?}: it goes on after {:?}", went_on[0]);
            all.extend(went_on.iter().map(|at| restart + *at));
            for (at, start) in all.iter().enumerate() {
                let within = all[at..].iter().take_while(|moment| **moment < *start + HOUR).count();
                assert!(within <= 1000, "{restart:?}: {within} documents in the hour from {start:?}");
            }
        }
    }

    #[test]
    fn bytes_and_requests_are_paced() {
        let allowance = ConfiguredLimits { bytes_per_second: Some(1_000_000), ..ConfiguredLimits::default() };
        let sent = simulate(&mut Pacer::new(&allowance, &[]), Operation::UploadImage, 500_000, 21);
        assert!((9.0..=10.5).contains(&sent[20].as_secs_f64()), "{:?}", sent[20]);
        let allowance = ConfiguredLimits { requests_per_second: Some(50.0), ..ConfiguredLimits::default() };
        let sent = simulate(&mut Pacer::new(&allowance, &[]), Operation::UploadImage, 1, 501);
        assert!((9.8..=10.1).contains(&sent[500].as_secs_f64()), "{:?}", sent[500]);
    }

    fn refuse(pacer: &mut Pacer, asked: Option<Duration>, now: Duration) {
        let Reservation::Granted(_, call) = pacer.reserve(Operation::CreateDocument, 1, now) else {
            panic!("no place")
        };
        pacer.on_refused(Operation::CreateDocument, call, LimitReport::default(), asked, now);
    }

    fn wait(place: Reservation) -> Duration {
        match place {
            Reservation::Granted(wait, _) | Reservation::AskAgain(wait) | Reservation::Later(wait) => wait,
        }
    }

    #[test]
    fn no_call_of_a_kind_goes_out_before_the_first_answer() {
        let mut pacer = Pacer::new(&ConfiguredLimits::default(), &[]);
        refuse(&mut pacer, Some(40 * SECOND), SECOND);
        assert_eq!(pacer.reserve(Operation::CreateDocument, 1, SECOND), Reservation::Later(40 * SECOND));
        assert!(matches!(pacer.reserve(Operation::CreateDocument, 1, 40 * SECOND), Reservation::Granted(SECOND, _)));
        assert_eq!(wait(pacer.reserve(Operation::UploadImage, 1, SECOND)), Duration::ZERO);
        assert_eq!(pacer.room(SECOND), Room { jobs: 0, again_in: 38 * SECOND });
    }

    #[test]
    fn a_wait_after_a_failure_holds_for_its_kind_until_a_call_works() {
        for (asked, held) in [(120, 120), (900, 900), (901, 10), (86_400, 10)] {
            let mut pacer = Pacer::new(&ConfiguredLimits::default(), &[]);
            pacer.on_failed(Operation::CreateDocument, asked * SECOND, SECOND);
            assert_eq!(wait(pacer.reserve(Operation::CreateDocument, 1, SECOND)), held * SECOND, "{asked} s");
            assert_eq!(wait(pacer.reserve(Operation::UploadImage, 1, SECOND)), Duration::ZERO, "another kind");
            pacer.on_worked(Operation::CreateDocument);
            assert_eq!(wait(pacer.reserve(Operation::CreateDocument, 1, SECOND)), Duration::ZERO, "one worked");
        }
        let mut pacer = Pacer::new(&ConfiguredLimits::default(), &[]).with_longest_wait(SECOND);
        pacer.on_failed(Operation::CreateDocument, 3600 * SECOND, SECOND);
        assert_eq!(wait(pacer.reserve(Operation::CreateDocument, 1, SECOND)), 10 * SECOND);
        pacer.on_worked(Operation::CreateDocument);
        refuse(&mut pacer, Some(86_400 * SECOND), SECOND);
        pacer.on_worked(Operation::CreateDocument);
        let limited = wait(pacer.reserve(Operation::CreateDocument, 1, SECOND));
        assert_eq!(limited, 3600 * SECOND, "a limit is kept, but no longer than it can last");
    }

    #[test]
    fn a_wait_of_nothing_is_a_short_one_and_grows() {
        let mut pacer = Pacer::new(&ConfiguredLimits::default(), &[]);
        let mut now = SECOND;
        for expected in [50, 100, 200, 400] {
            refuse(&mut pacer, Some(Duration::ZERO), now);
            assert_eq!(pacer.quotas.of(Operation::CreateDocument).retry_after(now), Duration::from_millis(expected));
            now += Duration::from_millis(expected + 1);
        }
    }

    #[test]
    fn jobs_that_are_put_off_do_not_come_back_together() {
        let allowance = ConfiguredLimits { documents_per_hour: Some(3600), ..ConfiguredLimits::default() };
        let mut pacer = Pacer::new(&allowance, &[Duration::ZERO; 3600]);
        let mut waits: Vec<Duration> =
            (0..20).map(|_| wait(pacer.reserve(Operation::CreateDocument, 1, SECOND))).collect();
        assert!(waits.is_sorted() && waits[0] > 2000 * SECOND, "{waits:?}");
        waits.dedup();
        assert_eq!(waits.len(), 20);
        assert!((5..=30).contains(&(waits[19] - waits[0]).as_secs()), "{waits:?}");
        assert_eq!(pacer.room(SECOND).jobs, 0, "none is taken up that cannot create its document");
    }

    #[test]
    fn a_place_that_was_not_used_is_free_again() {
        let allowance = ConfiguredLimits { documents_per_hour: Some(10), ..ConfiguredLimits::default() };
        let mut pacer = Pacer::new(&allowance, &[]);
        let Reservation::Granted(Duration::ZERO, call) = pacer.reserve(Operation::CreateDocument, 1, SECOND) else {
            panic!()
        };
        assert!(matches!(pacer.reserve(Operation::CreateDocument, 1, SECOND), Reservation::Later(_)));
        pacer.cancel(Operation::CreateDocument, call, 1, SECOND);
        assert!(matches!(pacer.reserve(Operation::CreateDocument, 1, SECOND), Reservation::Granted(Duration::ZERO, _)));
    }
}
