//! When the next call may go out: what the API's answers tell, and what the configuration allows.
//!
//! Plain arithmetic: `now` is a duration since the process started, on the monotonic clock, so that a jump of the wall
//! clock neither opens nor shuts anything. No lock, no timer, no metrics in here.

mod bucket;
pub mod flight;
mod quota;
#[cfg(test)]
mod random_tests;
mod refill;
mod search;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod simulator;
mod windows;

use std::time::Duration;

use self::quota::{Fit, Quota};
pub use self::{
    bucket::Bucket,
    quota::{Call, SHORTEST_WAIT, Told},
};
use crate::operation::Operation;

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
    quotas: Quotas,
    /// Until when those that create documents have been told to come again.
    booked: Duration,
}

/// What is known of each kind of call.
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

/// A place for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It may go out after so long, and its place is taken.
    After(Duration, Call),
    /// It cannot be said yet: ask again after the next answer, or after so long. No place is taken.
    Ask(Duration),
    /// Not before so long, which is too long to hold a place: come again then.
    Later(Duration),
}

/// How many more jobs are worth taking up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// So many; [`usize::MAX`] where nothing is known to be in their way.
    pub jobs: usize,
    /// Where there are none: after so long there may be.
    pub again_in: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);

/// A wait longer than this is better spent in the queue than in a worker's hands.
const HOLD: Duration = Duration::from_secs(2);

/// Jobs that are put off are spread over no more than this.
const SPREAD: Duration = Duration::from_secs(600);

/// Between two looks for room.
const LOOK: Duration = Duration::from_millis(20);

impl Pacer {
    /// A pacer for these limits. `spent` is how long ago documents were created within the last hour, by the process that
    /// ran before this one, the latest first.
    #[must_use]
    pub fn new(allowance: &Allowance, spent: &[Duration]) -> Self {
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
                for ago in spent.iter().rev() {
                    bucket.take(1.0, HOUR.saturating_sub(*ago));
                }
                bucket.began_before(HOUR);
                bucket
            }),
            requests: allowance.requests_per_second.map(|rate| Bucket::new(rate, rate / 10.0)),
            bytes: allowance.bytes_per_second.map(|rate| Bucket::new(float(rate), float(rate) / 4.0)),
            quotas: Quotas::default(),
            booked: Duration::ZERO,
        }
    }

    /// Asks for a place for a call with a body of so many bytes.
    pub fn place(&mut self, operation: Operation, bytes: u64, now: Duration) -> Place {
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^53 bytes")]
        let bytes = bytes as f64;
        let creates = operation == Operation::CreateDocument;
        let quota = self.quotas.of(operation);
        let asked = quota.asked(now);
        let fits = match quota.fit(now) {
            _ if asked > HOLD => asked,
            Fit::Ask(wait) if wait > HOLD => wait,
            Fit::Ask(wait) => return Place::Ask(wait.max(Duration::from_millis(1))),
            Fit::After(wait) => wait,
        };
        let waits =
            |bucket: &Option<Bucket>, tokens| bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.wait(tokens, now));
        let documents = if creates { waits(&self.documents, 1.0) } else { Duration::ZERO };
        let wait = fits.max(documents).max(waits(&self.requests, 1.0)).max(waits(&self.bytes, bytes));
        if wait > HOLD {
            return Place::Later(self.spread(operation, wait, now));
        }
        if creates && let Some(documents) = &mut self.documents {
            documents.take(1.0, now);
        }
        if let Some(requests) = &mut self.requests {
            requests.take(1.0, now);
        }
        if let Some(all) = &mut self.bytes {
            all.take(bytes, now);
        }
        Place::After(wait, self.quotas.of(operation).begin(wait, now))
    }

    /// Lets those that are put off come back one by one, and faster than they fit: whoever comes too early waits in the
    /// queue until there is [room](Self::room), whereas one that comes too late leaves its place unused.
    fn spread(&mut self, operation: Operation, wait: Duration, now: Duration) -> Duration {
        if operation != Operation::CreateDocument {
            return wait;
        }
        let first = now.saturating_add(wait);
        // Not for much longer than they wait anyway: what is known of the rate may be wrong, and will be known better.
        let due = self.booked.max(first).min(first.saturating_add(SPREAD.min(wait / 4)));
        let interval = self.documents_rate().map_or(0.01, |rate| 0.4 / rate.max(1e-6));
        self.booked = due.saturating_add(Duration::try_from_secs_f64(interval).unwrap_or(SPREAD).min(SPREAD));
        due.saturating_sub(now)
    }

    fn documents_rate(&self) -> Option<f64> {
        let told = self.quotas.create_document.best_rate();
        let configured = self.documents.as_ref().map(Bucket::rate);
        match (told, configured) {
            (Some(told), Some(configured)) => Some(told.min(configured)),
            (told, configured) => told.or(configured),
        }
    }

    /// Takes back a place that was not used.
    pub fn unused(&mut self, operation: Operation, call: Call, bytes: u64, now: Duration) {
        self.quotas.of(operation).unused(call, now);
        if operation == Operation::CreateDocument
            && let Some(documents) = &mut self.documents
        {
            documents.take(-1.0, now);
        }
        if let Some(requests) = &mut self.requests {
            requests.take(-1.0, now);
        }
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^53 bytes")]
        if let Some(all) = &mut self.bytes {
            all.take(-(bytes as f64), now);
        }
    }

    /// How long calls of this kind are still to wait because the API asked for it.
    pub fn asked(&mut self, operation: Operation, now: Duration) -> Duration {
        self.quotas.of(operation).asked(now)
    }

    /// Whether a place still stands once its wait is over. Where another call was turned away meanwhile it does not: those
    /// who waited and those who come then would all go out at the same times.
    pub fn stands(&mut self, operation: Operation, call: Call, now: Duration) -> bool {
        self.quotas.of(operation).stands(call, now)
    }

    /// Learns from a call that was not turned away for a limit; `counted` says whether the API may have counted it.
    pub fn answered(&mut self, operation: Operation, call: Call, told: Told, counted: bool, now: Duration) {
        self.quotas.of(operation).answered(call, told, counted, now);
    }

    /// Learns from a call that was turned away for a limit; `asked` is the wait that the API asks for.
    pub fn refused(&mut self, operation: Operation, call: Call, told: Told, asked: Option<Duration>, now: Duration) {
        self.quotas.of(operation).refused(call, told, asked, now);
    }

    /// How many more jobs are worth taking up, so that none is taken up which cannot create its document soon.
    pub fn room(&mut self, now: Duration) -> Room {
        let uploads = self.quotas.upload_image.asked(now).max(self.quotas.upload_file.asked(now));
        if !uploads.is_zero() {
            return Room { jobs: 0, again_in: uploads };
        }
        let asked = self.quotas.create_document.asked(now);
        if asked > HOLD {
            return Room { jobs: 0, again_in: asked.saturating_sub(HOLD).max(LOOK) };
        }
        let told = self.quotas.create_document.room(HOLD, now);
        let configured =
            self.documents.as_ref().map(|bucket| bucket.level_at(now) + bucket.rate() * HOLD.as_secs_f64());
        let least = match (told, configured) {
            (None, None) => return Room { jobs: usize::MAX, again_in: Duration::ZERO },
            (told, configured) => told.unwrap_or(f64::MAX).min(configured.unwrap_or(f64::MAX)),
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
        let again_in = Duration::try_from_secs_f64(short).unwrap_or(SPREAD).clamp(LOOK, SPREAD);
        Room { jobs: 0, again_in }
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
                Place::After(wait, call) => {
                    now += wait;
                    sent.push(now);
                    pacer.answered(operation, call, Told::default(), true, now);
                }
                Place::Ask(wait) | Place::Later(wait) => now += wait,
            }
        }
        sent
    }

    #[test]
    fn without_limits_nothing_waits() {
        let mut pacer = Pacer::new(&Allowance::default(), &[]);
        assert_eq!(*simulate(&mut pacer, Operation::CreateDocument, 1 << 30, 1000).last().unwrap(), Duration::ZERO);
    }

    #[test]
    fn no_hour_has_more_documents_than_allowed_and_nine_tenths_of_them_at_least() {
        let allowance = Allowance { documents_per_hour: Some(1000), ..Allowance::default() };
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
        let allowance = Allowance { documents_per_hour: Some(1000), ..Allowance::default() };
        let first =
            |spent: &[Duration]| simulate(&mut Pacer::new(&allowance, spent), Operation::CreateDocument, 100, 1)[0];
        assert!(first(&[Duration::ZERO; 1000]) > 3000 * SECOND, "all of it just now");
        assert_eq!(first(&[3500 * SECOND; 500]), Duration::ZERO, "that long ago leaves room");
    }

    #[test]
    fn a_restart_neither_exceeds_the_hour_nor_stops_what_was_within_it() {
        let allowance = Allowance { documents_per_hour: Some(1000), ..Allowance::default() };
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
        let allowance = Allowance { bytes_per_second: Some(1_000_000), ..Allowance::default() };
        let sent = simulate(&mut Pacer::new(&allowance, &[]), Operation::UploadImage, 500_000, 21);
        assert!((9.0..=10.5).contains(&sent[20].as_secs_f64()), "{:?}", sent[20]);
        let allowance = Allowance { requests_per_second: Some(50.0), ..Allowance::default() };
        let sent = simulate(&mut Pacer::new(&allowance, &[]), Operation::UploadImage, 1, 501);
        assert!((9.8..=10.1).contains(&sent[500].as_secs_f64()), "{:?}", sent[500]);
    }

    fn refuse(pacer: &mut Pacer, asked: Option<Duration>, now: Duration) {
        let Place::After(_, call) = pacer.place(Operation::CreateDocument, 1, now) else { panic!("no place") };
        pacer.refused(Operation::CreateDocument, call, Told::default(), asked, now);
    }

    fn wait(place: Place) -> Duration {
        match place {
            Place::After(wait, _) | Place::Ask(wait) | Place::Later(wait) => wait,
        }
    }

    #[test]
    fn no_call_of_a_kind_goes_out_before_the_api_said() {
        let mut pacer = Pacer::new(&Allowance::default(), &[]);
        refuse(&mut pacer, Some(40 * SECOND), SECOND);
        assert_eq!(pacer.place(Operation::CreateDocument, 1, SECOND), Place::Later(40 * SECOND));
        assert!(matches!(pacer.place(Operation::CreateDocument, 1, 40 * SECOND), Place::After(SECOND, _)));
        assert_eq!(wait(pacer.place(Operation::UploadImage, 1, SECOND)), Duration::ZERO);
        assert_eq!(pacer.room(SECOND), Room { jobs: 0, again_in: 38 * SECOND });
    }

    #[test]
    fn a_wait_of_nothing_is_a_short_one_and_grows() {
        let mut pacer = Pacer::new(&Allowance::default(), &[]);
        let mut now = SECOND;
        for expected in [50, 100, 200, 400] {
            refuse(&mut pacer, Some(Duration::ZERO), now);
            assert_eq!(pacer.asked(Operation::CreateDocument, now), Duration::from_millis(expected));
            now += Duration::from_millis(expected + 1);
        }
    }

    #[test]
    fn jobs_that_are_put_off_do_not_come_back_together() {
        let allowance = Allowance { documents_per_hour: Some(3600), ..Allowance::default() };
        let mut pacer = Pacer::new(&allowance, &[Duration::ZERO; 3600]);
        let mut waits: Vec<Duration> =
            (0..20).map(|_| wait(pacer.place(Operation::CreateDocument, 1, SECOND))).collect();
        assert!(waits.is_sorted() && waits[0] > 2000 * SECOND, "{waits:?}");
        waits.dedup();
        assert_eq!(waits.len(), 20);
        assert!((5..=30).contains(&(waits[19] - waits[0]).as_secs()), "{waits:?}");
        assert_eq!(pacer.room(SECOND).jobs, 0, "none is taken up that cannot create its document");
    }

    #[test]
    fn a_place_that_was_not_used_is_free_again() {
        let allowance = Allowance { documents_per_hour: Some(10), ..Allowance::default() };
        let mut pacer = Pacer::new(&allowance, &[]);
        let Place::After(Duration::ZERO, call) = pacer.place(Operation::CreateDocument, 1, SECOND) else { panic!() };
        assert!(matches!(pacer.place(Operation::CreateDocument, 1, SECOND), Place::Later(_)));
        pacer.unused(Operation::CreateDocument, call, 1, SECOND);
        assert!(matches!(pacer.place(Operation::CreateDocument, 1, SECOND), Place::After(Duration::ZERO, _)));
    }
}
