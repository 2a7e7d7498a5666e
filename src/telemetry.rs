//! The numbers that monitoring reads: what is counted in this process, what they are called, and their text form.
//!
//! Invariants: no label contains anything that a sender chose, only names of drops, whose number the configuration
//! bounds; a number that must outlive the process comes from the queue; counting never waits for anything.
//!
//! Not here: how they are served ([`crate::http`]), and how the queue counts (`queue::views::numbers`).

mod labels;

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use self::labels::{
    AlertResult, Ended, InState, Lost, OfDrop, OfIncident, OfKind, OfOperation, Request, RetryLabels, Stopped, Warned,
    WithStatus,
};
use crate::{
    absence::{AbsenceBounds, Observed},
    clock::Timestamp,
    exchange::Exchange,
    expected::DeliveryState,
    job::JobState,
    operation::Operation,
    outcome::Outcome,
    queue::{
        attempt::Attempt,
        control::Cause,
        counters::DropCounter,
        views::{numbers::Numbers, overview::Tally},
    },
    receipt::{BatchStatus, EntryStatus},
    verdict::Verdict,
};

/// The media type of [`Telemetry::text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of `request_seconds`: from an answer on the same machine to the 90 s that an answer is waited for by
/// default, and the minutes that a large body may take on a slow line.
const SECONDS: [f64; 13] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// How a lost answer was settled: the API has it after all.
const ADOPTED: &str = "adopted";
/// It certainly has not, so it was sent again.
const ABSENT: &str = "absent";
/// Nobody can know, and it was sent again.
const SENT_AGAIN: &str = "sent_again";
/// A person decides.
const HELD: &str = "held";
/// Its job failed.
const GIVEN_UP: &str = "given_up";

/// A receiver took the alert.
const ALERT_SENT: &str = "sent";
/// It did not; the alert is sent again.
const ALERT_FAILED: &str = "failed";

type Seconds = Gauge<f64, AtomicU64>;

/// Everything that is counted. Shared by all stages of a process.
pub struct Telemetry {
    registry: Registry,
    requests: Family<Request, Counter>,
    request_seconds: Family<OfOperation, Histogram, fn() -> Histogram>,
    request_bytes: Counter,
    in_flight: Gauge,
    in_flight_limit: Gauge,
    retries: Family<RetryLabels, Counter>,
    retries_in_all: AtomicU64,
    lost_in_all: AtomicU64,
    rate_limit_remaining: Family<OfOperation, Gauge>,
    lost_answers: Family<Lost, Counter>,
    jobs: Family<InState, Gauge>,
    jobs_ended: Family<Ended, Counter>,
    manifests: Family<WithStatus, Counter>,
    entries: Family<Ended, Counter>,
    oldest_waiting: Seconds,
    leftover_images: Counter,
    doubled_documents: Counter,
    scan: Seconds,
    last_drop_event: Seconds,
    paused: Family<Stopped, Gauge>,
    alerts: Family<AlertResult, Counter>,
    expected_late: Family<OfDrop, Gauge>,
    will_be_late: Family<OfDrop, Gauge>,
    unsettled_batches: Family<OfDrop, Gauge>,
    window_open: Gauge,
    /// Without a label: absent where no such limit is set.
    hourly_limit_remaining: Family<Vec<(String, String)>, Seconds>,
    /// Without a value where there is no estimate.
    estimated_finish: Family<Vec<(String, String)>, Seconds>,
    incidents: Family<OfIncident, Gauge>,
    incident_since: Family<OfKind, Seconds>,
    incident_until: Family<OfKind, Seconds>,
    waiting_manifests: Family<OfDrop, Gauge>,
    drop_ready: Family<OfDrop, Gauge>,
    unclaimed_files: Family<OfDrop, Gauge>,
    warnings: Family<Warned, Counter>,
    observed_lag: Seconds,
    observed_late: Seconds,
    bound_broken: Gauge,
}

/// What the stages know at the moment of asking.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GaugeValues {
    pub at: Timestamp,
    /// The longest of the drops' last scans of the whole folder.
    pub scan: Duration,
    /// How long ago an event was last noticed in a drop.
    pub last_drop_event: Duration,
    /// The drops that are watched, and whether each is ready.
    pub ready: Vec<(String, bool)>,
    /// When everything that can go on will be done, where that is known.
    pub done: Option<Timestamp>,
    /// How drops are doing against what is expected of them.
    pub expected: Vec<(String, DeliveryState)>,
    /// Whether `limits.windows` allow to send.
    pub window_open: bool,
    /// What is left of `limits.documents_per_hour`, where that is set.
    pub hourly_limit_remaining: Option<f64>,
    /// What is the matter.
    pub incidents: Vec<IncidentCount>,
}

/// Calls of a process, in sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallSums {
    /// Calls that are tried again.
    pub retries: u64,
    /// Answers that were lost.
    pub lost: u64,
    /// Bytes of request bodies.
    pub sent_bytes: u64,
}

/// How often something is the matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IncidentCount {
    pub kind: &'static str,
    pub level: &'static str,
    pub count: u64,
    /// Since when the first is.
    pub since: Option<Timestamp>,
    /// When the first ends, or something happens by itself.
    pub until: Option<Timestamp>,
}

/// Counts one call in the `in_flight` gauge until it is dropped.
#[derive(Debug)]
pub struct InFlightGuard(Gauge);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Everything at zero. Series whose labels are known beforehand are there from the start, so that a first failure
    /// is an increase and not a new series, of which Prometheus cannot compute a rate.
    #[must_use]
    pub fn new() -> Self {
        let mut telemetry = Self {
            registry: Registry::with_prefix("passfort_ingest"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            request_bytes: Counter::default(),
            in_flight: Gauge::default(),
            in_flight_limit: Gauge::default(),
            retries: Family::default(),
            retries_in_all: AtomicU64::new(0),
            lost_in_all: AtomicU64::new(0),
            rate_limit_remaining: Family::default(),
            lost_answers: Family::default(),
            jobs: Family::default(),
            jobs_ended: Family::default(),
            manifests: Family::default(),
            entries: Family::default(),
            oldest_waiting: Seconds::default(),
            leftover_images: Counter::default(),
            doubled_documents: Counter::default(),
            scan: Seconds::default(),
            last_drop_event: Seconds::default(),
            paused: Family::default(),
            alerts: Family::default(),
            expected_late: Family::default(),
            will_be_late: Family::default(),
            unsettled_batches: Family::default(),
            window_open: Gauge::default(),
            hourly_limit_remaining: Family::default(),
            estimated_finish: Family::default(),
            incidents: Family::default(),
            incident_since: Family::default(),
            incident_until: Family::default(),
            waiting_manifests: Family::default(),
            drop_ready: Family::default(),
            unclaimed_files: Family::default(),
            warnings: Family::default(),
            observed_lag: Seconds::default(),
            observed_late: Seconds::default(),
            bound_broken: Gauge::default(),
        };
        telemetry.register();
        for result in [ALERT_SENT, ALERT_FAILED] {
            telemetry.alerts.get_or_create_owned(&AlertResult { result });
        }
        for operation in Operation::ALL.map(Operation::as_str) {
            telemetry.requests.get_or_create_owned(&Request { operation, outcome: "done" });
            telemetry.request_seconds.get_or_create_owned(&OfOperation { operation });
        }
        for operation in [Operation::UploadImage, Operation::UploadFile, Operation::CreateDocument] {
            let operation = operation.as_str();
            for reason in ["throttled", "try_again", "unattributed", "paused", "lost"] {
                telemetry.retries.get_or_create_owned(&RetryLabels { operation, reason });
            }
            let create = operation == Operation::CreateDocument.as_str();
            for settled in if create { [ADOPTED, ABSENT, HELD] } else { [SENT_AGAIN, HELD, GIVEN_UP] } {
                telemetry.lost_answers.get_or_create_owned(&Lost { operation, settled });
            }
        }
        telemetry
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        // The library ends each text with a full stop, and appends `_total` to the names of counters.
        registry.register("jobs", "Jobs by drop and state", self.jobs.clone());
        registry.register("jobs_ended", "Jobs that have ended, by drop and outcome", self.jobs_ended.clone());
        registry.register(
            "manifests",
            "Manifests that have ended, by drop and the receipt's status",
            self.manifests.clone(),
        );
        registry.register(
            "entries",
            "Entries of manifests that have ended, by drop and outcome; invalid ones never became jobs",
            self.entries.clone(),
        );
        registry.register("requests", "Calls to the API by outcome", self.requests.clone());
        registry.register(
            "request_seconds",
            "How long calls took, from the first byte sent to the last one read",
            self.request_seconds.clone(),
        );
        registry.register("request_bytes", "Bytes of request bodies handed over", self.request_bytes.clone());
        registry.register("in_flight", "Calls under way", self.in_flight.clone());
        registry.register("in_flight_limit", "Calls that may be under way at most", self.in_flight_limit.clone());
        registry.register("retries", "Calls that are tried again, by what became of them", self.retries.clone());
        registry.register(
            "oldest_waiting_seconds",
            "Age of the oldest manifest with jobs that have not ended; 0 where there is none",
            self.oldest_waiting.clone(),
        );
        registry.register(
            "rate_limit_remaining",
            "Calls that the API's last answer said are left",
            self.rate_limit_remaining.clone(),
        );
        registry.register(
            "lost_answers",
            "Calls whose answer was lost, by how that was settled",
            self.lost_answers.clone(),
        );
        registry.register(
            "leftover_images",
            "Images that may be at the API unused, because the answer to their upload was lost",
            self.leftover_images.clone(),
        );
        registry.register(
            "doubled_documents",
            "Documents of which the API was found to have more than one",
            self.doubled_documents.clone(),
        );
        registry.register(
            "scan_seconds",
            "The longest of the drops' last scans of the whole folder",
            self.scan.clone(),
        );
        registry.register(
            "last_drop_event_seconds",
            "Time since anything was noticed in a drop, or since the start where nothing was",
            self.last_drop_event.clone(),
        );
        registry.register(
            "drop_ready",
            "Whether what is put into the drop can be taken and put away: 1, else 0",
            self.drop_ready.clone(),
        );
        registry.register(
            "unclaimed_files",
            "Files in the drop that no manifest names and that are no manifests",
            self.unclaimed_files.clone(),
        );
        registry.register(
            "warnings",
            "Warnings about entries that were taken in, by drop and kind",
            self.warnings.clone(),
        );
        registry.register(
            "observed_list_lag_seconds",
            "The longest measured time from an answered creation to a list without the document",
            self.observed_lag.clone(),
        );
        registry.register(
            "observed_late_seconds",
            "The longest measured time from the end of a lost call to a list without the document that was found later",
            self.observed_late.clone(),
        );
        registry.register(
            "bound_broken",
            "Whether a measured time is beyond api.request_lives or api.list_lag, so that documents in doubt are held: 1, else 0",
            self.bound_broken.clone(),
        );
        registry.register(
            "estimated_finish_timestamp_seconds",
            "When everything that can go on will be done, in seconds since 1970; without a value where work is stopped",
            self.estimated_finish.clone(),
        );
        registry.register("alerts", "Alerts by whether their receiver took them", self.alerts.clone());
        registry.register(
            "expected_late",
            "Whether what is expected of the drop is late or missing: 1, else 0",
            self.expected_late.clone(),
        );
        registry.register(
            "will_be_late",
            "Whether what came into the drop will not be delivered in time, by the estimate: 1, else 0",
            self.will_be_late.clone(),
        );
        registry.register(
            "unsettled_batches",
            "Manifests of the drop that were taken and have no receipt yet",
            self.unsettled_batches.clone(),
        );
        registry.register("window_open", "Whether limits.windows allow to send: 1, else 0", self.window_open.clone());
        registry.register(
            "hourly_limit_remaining",
            "What is left of limits.documents_per_hour, of the account with the least",
            self.hourly_limit_remaining.clone(),
        );
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The program", Info::new(version));
        registry.register(
            "incidents",
            "What is the matter, or waits, by kind and level: how many",
            self.incidents.clone(),
        );
        registry.register(
            "incident_since_timestamp_seconds",
            "Since when the first incident of the kind is, in seconds since 1970; without a value where there is none",
            self.incident_since.clone(),
        );
        registry.register(
            "incident_until_timestamp_seconds",
            "When the first incident of the kind ends or is tried again, in seconds since 1970; without a value where that is not known",
            self.incident_until.clone(),
        );
        registry.register(
            "waiting_manifests",
            "Manifests in the drop that are not taken in yet",
            self.waiting_manifests.clone(),
        );
        registry.register("paused", "What is stopped, by reason: how many accounts or drops", self.paused.clone());
    }

    /// Records the longest times that were measured, and whether they are within the bounds.
    pub fn observed(&self, observed: &Observed, bounds: &AbsenceBounds) {
        self.observed_lag.set(self.observed_lag.get().max(observed.lag.as_secs_f64()));
        self.observed_late.set(self.observed_late.get().max(observed.late.as_secs_f64()));
        if bounds.broken_by(observed).is_some() {
            self.bound_broken.set(1);
        }
    }

    /// Calls under way.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// What was counted of calls since the process began.
    #[must_use]
    pub fn call_sums(&self) -> CallSums {
        CallSums {
            retries: self.retries_in_all.load(Ordering::Relaxed),
            lost: self.lost_in_all.load(Ordering::Relaxed),
            sent_bytes: self.request_bytes.get(),
        }
    }

    /// Counts a call as in flight until the guard is dropped.
    #[must_use]
    pub fn begin_call(&self) -> InFlightGuard {
        self.in_flight.inc();
        InFlightGuard(self.in_flight.clone())
    }

    /// Records how many calls may be in flight.
    pub fn limit_in_flight(&self, calls: usize) {
        self.in_flight_limit.set(i64::try_from(calls).unwrap_or(i64::MAX));
    }

    /// Counts a call that is over.
    pub fn called(&self, exchange: &Exchange, outcome: &Outcome) {
        let operation = exchange.operation.as_str();
        self.requests.get_or_create(&Request { operation, outcome: outcome.as_str() }).inc();
        self.request_seconds.get_or_create(&OfOperation { operation }).observe(exchange.took.as_secs_f64());
        self.request_bytes.inc_by(exchange.sent_bytes);
        if matches!(outcome, Outcome::Lost(_)) {
            self.lost_in_all.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(remaining) = exchange.limits().and_then(|limits| limits.remaining) {
            let remaining = i64::try_from(remaining).unwrap_or(i64::MAX);
            self.rate_limit_remaining.get_or_create(&OfOperation { operation }).set(remaining);
        }
    }

    /// Counts what the verdict over a job's failed calls means for each of them.
    pub fn judged(&self, verdict: &Verdict, attempts: &[Attempt]) {
        for attempt in attempts {
            let again = matches!(verdict, Verdict::Wait { .. } | Verdict::PauseAccount { .. });
            if again && attempt.outcome != "done" {
                self.retries_in_all.fetch_add(1, Ordering::Relaxed);
                self.retries
                    .get_or_create(&RetryLabels { operation: attempt.operation, reason: attempt.outcome })
                    .inc();
            }
            let creates = attempt.operation == Operation::CreateDocument.as_str();
            let reads = attempt.operation == Operation::ReadDocuments.as_str();
            let settled = match verdict {
                // A document is read back first; the result of that decides.
                Verdict::Wait { .. } | Verdict::PauseAccount { .. } if creates => continue,
                Verdict::Wait { .. } | Verdict::PauseAccount { .. } => SENT_AGAIN,
                Verdict::Hold { .. } => HELD,
                Verdict::Refuse { .. } => GIVEN_UP,
            };
            if reads {
                // Only a lost creation is read back, and only an operator can settle what the read-back does not.
                if settled == HELD && attempt.outcome != "control" {
                    self.settled(Operation::CreateDocument.as_str(), HELD);
                }
            } else if attempt.outcome == "lost" {
                self.settled(attempt.operation, settled);
            }
        }
    }

    /// Counts an alert by whether its receiver took it.
    pub fn alerted(&self, taken: bool) {
        let result = if taken { ALERT_SENT } else { ALERT_FAILED };
        self.alerts.get_or_create(&AlertResult { result }).inc();
    }

    /// Counts what a read-back found of a document whose answer was lost.
    pub fn read_back(&self, found: bool) {
        self.settled(Operation::CreateDocument.as_str(), if found { ADOPTED } else { ABSENT });
    }

    /// Counts uploads whose answers an earlier process did not record before it ended.
    pub fn killed(&self, operation: Operation, lost: usize, held: bool) {
        let settled = if held { HELD } else { SENT_AGAIN };
        let counter = self.lost_answers.get_or_create(&Lost { operation: operation.as_str(), settled });
        counter.inc_by(u64::try_from(lost).unwrap_or(u64::MAX));
    }

    fn settled(&self, operation: &'static str, settled: &'static str) {
        self.lost_answers.get_or_create(&Lost { operation, settled }).inc();
    }

    /// All numbers in the text form that Prometheus reads. One caller at a time, else each may see the other's
    /// numbers of the queue half written.
    ///
    /// # Errors
    ///
    /// None that can happen: writing to a text does not fail.
    pub fn text(&self, numbers: &Numbers, now: &GaugeValues) -> Result<String, fmt::Error> {
        self.take_over(numbers, now);
        let mut written = String::new();
        text::encode(&mut written, &self.registry)?;
        Ok(classic(&written))
    }

    fn show_waits(&self, now: &GaugeValues) {
        self.incident_since.clear();
        self.incident_until.clear();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century are below 2^52")]
        let seconds = |moment: Timestamp| moment.0 as f64 / 1000.0;
        for IncidentCount { kind, level, count, since, until } in &now.incidents {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.incidents.get_or_create(&OfIncident { kind, level }).set(count);
            if let Some(since) = since {
                self.incident_since.get_or_create(&OfKind { kind }).set(seconds(*since));
            }
            if let Some(until) = until {
                self.incident_until.get_or_create(&OfKind { kind }).set(seconds(*until));
            }
        }
    }

    fn take_over(&self, numbers: &Numbers, now: &GaugeValues) {
        self.jobs.clear();
        self.drop_ready.clear();
        self.show_waits(now);
        self.unclaimed_files.clear();
        for (drop, ready) in &now.ready {
            let tally = numbers.drops.iter().find(|tally| tally.drop == *drop);
            let unclaimed = tally.and_then(|tally| tally.unclaimed.as_ref()).map_or(0, |unclaimed| unclaimed.files);
            let drop = || OfDrop { drop: drop.clone() };
            self.drop_ready.get_or_create(&drop()).set(i64::from(*ready));
            self.unclaimed_files.get_or_create(&drop()).set(i64::try_from(unclaimed).unwrap_or(i64::MAX));
            self.waiting_manifests.get_or_create(&drop()).set(tally.map_or(0, |tally| tally.waiting_manifests));
        }
        self.unsettled_batches.clear();
        for tally in &numbers.drops {
            self.unsettled_batches.get_or_create(&OfDrop { drop: tally.drop.clone() }).set(tally.open_batches);
            for state in JobState::ALL {
                let jobs = tally.jobs_in(state).cast_signed();
                let drop = tally.drop.clone();
                self.jobs.get_or_create(&InState { drop, state: state.as_str() }).set(jobs);
                if state.has_ended() {
                    let ended = Ended { drop: tally.drop.clone(), outcome: state.as_str() };
                    rise(&self.jobs_ended.get_or_create(&ended), u64::try_from(jobs).unwrap_or(0));
                }
            }
        }
        for tally in &numbers.drops {
            self.count_entries(&tally.drop, tally, &numbers.counters);
        }
        rise(&self.leftover_images, numbers.leftover_images);
        rise(&self.doubled_documents, numbers.doubled_documents);
        for (drop, kind, warnings) in &numbers.warnings {
            rise(&self.warnings.get_or_create_owned(&Warned { drop: drop.clone(), kind: kind.clone() }), *warnings);
        }
        self.oldest_waiting.set(numbers.oldest_waiting.map_or(0.0, |since| now.at.since(since).as_secs_f64()));
        for cause in Cause::ALL {
            let count = numbers.pauses.iter().filter(|pause| pause.cause == cause).count();
            let gauge = self.paused.get_or_create_owned(&Stopped { reason: cause.as_str() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.estimated_finish.clear();
        if let Some(done) = now.done {
            self.estimated_finish.get_or_create(&Vec::new()).set(done.since(Timestamp(0)).as_secs_f64());
        }
        self.expected_late.clear();
        self.will_be_late.clear();
        for (drop, state) in &now.expected {
            let drop = || OfDrop { drop: drop.clone() };
            self.expected_late.get_or_create(&drop()).set(i64::from(state.is_late()));
            self.will_be_late.get_or_create(&drop()).set(i64::from(*state == DeliveryState::WillBeLate));
        }
        self.window_open.set(i64::from(now.window_open));
        self.hourly_limit_remaining.clear();
        if let Some(left) = now.hourly_limit_remaining {
            self.hourly_limit_remaining.get_or_create(&Vec::new()).set(left);
        }
        self.scan.set(now.scan.as_secs_f64());
        self.last_drop_event.set(now.last_drop_event.as_secs_f64());
    }

    /// Counts what came to a drop. Every series is there from the start.
    fn count_entries(&self, drop: &str, tally: &Tally, counters: &[(String, DropCounter, u64)]) {
        let counter = |what: DropCounter| {
            counters.iter().find(|(of, counted, _)| of == drop && *counted == what).map_or(0, |(.., value)| *value)
        };
        let jobs = |state: JobState| tally.jobs_in(state);
        for status in [BatchStatus::Done, BatchStatus::Partial, BatchStatus::Failed, BatchStatus::Rejected] {
            let labels = WithStatus { drop: drop.to_owned(), status: status.as_str() };
            rise(&self.manifests.get_or_create_owned(&labels), counter(DropCounter::Manifests(status)));
        }
        for (outcome, entries) in [
            (EntryStatus::Created, jobs(JobState::Done)),
            (EntryStatus::Duplicate, jobs(JobState::Duplicate) + counter(DropCounter::Unchanged)),
            (EntryStatus::Failed, jobs(JobState::Failed)),
            (EntryStatus::Cancelled, jobs(JobState::Cancelled)),
            (EntryStatus::Invalid, counter(DropCounter::Invalid)),
        ] {
            let labels = Ended { drop: drop.to_owned(), outcome: outcome.as_str() };
            rise(&self.entries.get_or_create_owned(&labels), entries);
        }
    }
}

/// Prometheus' own text form of what the library writes as `OpenMetrics`, which `promtool check metrics` does not read: there, the
/// lines about a counter have its name without `_total`, and there is a kind `info`.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 256);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|about| about.split_once(' ')) {
            let (ending, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                _ => ("", kind),
            };
            if let Some((_, help)) = help.take() {
                text.push_str(&format!("# HELP {name}{ending} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{ending} {kind}\n"));
        } else if !line.starts_with('#') {
            // The library writes empty braces where a series has no label.
            text.push_str(&line.replacen("{} ", " ", 1));
            text.push('\n');
        }
    }
    text
}

/// Brings a counter up to the queue's count. It never falls: a person's `retry` takes jobs back from their end, and a
/// counter that falls by one looks to Prometheus like a restart, so like as many ended jobs as there ever were.
fn rise(counter: &Counter, to: u64) {
    counter.inner().fetch_max(to, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
