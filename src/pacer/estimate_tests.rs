//! The estimate of the end against simulated runs: workers that send documents and files under limits and windows, on a
//! simulated clock.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    simulator::{Chance, MS, SECS, Says, Server, Shape},
    *,
};
use crate::estimate::{AccountPace, Estimate, OpenHours, SpeedMeter, WorkLeft, estimate};

/// A document with images of these sizes, or a file.
#[derive(Debug, Clone)]
struct SimulatedJob {
    uploads: Vec<u64>,
    is_file: bool,
}

impl SimulatedJob {
    fn left(&self) -> WorkLeft {
        let uploads = self.uploads.len() as f64;
        let bytes = self.uploads.iter().sum::<u64>() as f64;
        if self.is_file {
            WorkLeft { files: uploads, bytes, ..WorkLeft::default() }
        } else {
            WorkLeft { documents: 1.0, images: uploads, bytes, ..WorkLeft::default() }
        }
    }

    fn calls(&self) -> usize {
        self.uploads.len() + usize::from(!self.is_file)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limiting {
    None,
    DocumentsPerHour,
    BytesPerSecond,
    RequestsPerSecond,
    /// As the API documents its own.
    Drip,
    /// So many in each hour of the clock.
    FixedWindows,
}

/// At night, or always.
type Windows = fn(i64) -> (bool, Option<i64>);

const HOUR_MS: i64 = 3_600_000;

fn always(_: i64) -> (bool, Option<i64>) {
    (true, None)
}

/// From 20 to 6 o'clock.
fn nights(at: i64) -> (bool, Option<i64>) {
    let (day, hour) = (at.div_euclid(24 * HOUR_MS) * 24 * HOUR_MS, at.rem_euclid(24 * HOUR_MS));
    if hour < 6 * HOUR_MS {
        (true, Some(day + 6 * HOUR_MS))
    } else if hour < 20 * HOUR_MS {
        (false, Some(day + 20 * HOUR_MS))
    } else {
        (true, Some(day + 30 * HOUR_MS))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Asks,
    /// Whether a limit held it back.
    Sends(bool),
    Ends,
}

struct Days {
    jobs: Vec<SimulatedJob>,
    pacer: Pacer,
    server: Option<Server>,
    meter: SpeedMeter,
    windows: Windows,
    /// Of the wall clock, when the simulation begins.
    start_ms: i64,
    now: Duration,
    chance: Chance,
    /// The next job that no worker has.
    next: usize,
    done: usize,
    workers: Vec<Option<(usize, usize)>>,
    tickets: Vec<Option<(Operation, u64, Ticket, Duration)>>,
    events: BinaryHeap<Reverse<(Duration, u64, usize, Moment)>>,
    number: u64,
}

const WORKERS: usize = 16;

fn pacer(limiting: Limiting, spent: &[Duration]) -> Pacer {
    let limits = match limiting {
        Limiting::DocumentsPerHour => ConfiguredLimits { documents_per_hour: Some(500), ..ConfiguredLimits::default() },
        Limiting::BytesPerSecond => ConfiguredLimits { bytes_per_second: Some(100_000), ..ConfiguredLimits::default() },
        Limiting::RequestsPerSecond => {
            ConfiguredLimits { requests_per_second: Some(0.5), ..ConfiguredLimits::default() }
        }
        Limiting::None | Limiting::Drip | Limiting::FixedWindows => ConfiguredLimits::default(),
    };
    Pacer::new(&limits, spent)
}

impl Days {
    fn new(jobs: Vec<SimulatedJob>, limiting: Limiting, windows: Windows, start_ms: i64) -> Self {
        let server = match limiting {
            Limiting::Drip => Some(Shape::Drip { count: 500, seconds: 3600, burst: 100 }),
            Limiting::FixedWindows => Some(Shape::Window { count: 500, seconds: 3600 }),
            _ => None,
        };
        let mut days = Self {
            jobs,
            pacer: pacer(limiting, &[]),
            server: server.map(|shape| {
                let mut server = Server::new(shape, Says::Everything);
                server.phase = MS(u64::try_from(start_ms % HOUR_MS).unwrap());
                server
            }),
            meter: SpeedMeter::default(),
            windows,
            start_ms,
            now: Duration::ZERO,
            chance: Chance(7),
            next: 0,
            done: 0,
            workers: vec![None; WORKERS],
            tickets: vec![None; WORKERS],
            events: BinaryHeap::new(),
            number: 0,
        };
        (0..WORKERS).for_each(|worker| days.push(Duration::ZERO, worker, Moment::Asks));
        days
    }

    fn push(&mut self, after: Duration, worker: usize, moment: Moment) {
        self.number += 1;
        self.events.push(Reverse((self.now + after, self.number, worker, moment)));
    }

    fn wall(&self) -> i64 {
        self.start_ms + i64::try_from(self.now.as_millis()).unwrap()
    }

    /// What is to be done, calls that have ended left out.
    fn left(&self) -> WorkLeft {
        let mut left = self.jobs[self.next..].iter().fold(WorkLeft::default(), |sum, job| sum.plus(&job.left(), 1.0));
        for &(job, call) in self.workers.iter().flatten() {
            let job = &self.jobs[job];
            let rest = SimulatedJob { uploads: job.uploads[call.min(job.uploads.len())..].to_vec(), ..job.clone() };
            left = left.plus(&rest.left(), 1.0);
        }
        left
    }

    fn pace(&self, earlier: &[PacedLimit]) -> AccountPace {
        let (limits, measured) = (self.pacer.limits(self.now, earlier), self.meter.measured());
        AccountPace { limits, measured, ..AccountPace::default() }
    }

    fn estimate(&self, pace: &AccountPace, later: i64) -> Estimate {
        let start = self.wall();
        let hours = OpenHours::from(start, &self.windows);
        estimate(&pace.throttles(&self.left(), later), &hours, start, Constraint::CallTime).unwrap()
    }

    /// Works until so many jobs are done.
    fn work(&mut self, until: usize) {
        while self.done < until {
            let Reverse((at, _, worker, moment)) = self.events.pop().unwrap();
            self.now = self.now.max(at);
            match moment {
                Moment::Asks => self.ask(worker),
                Moment::Sends(held_back) => {
                    let (.., bytes, _, _) = self.tickets[worker].unwrap();
                    self.meter.on_sent(self.now, held_back);
                    let took = MS(2000 + self.chance.below(2000)) + MS(bytes / 200);
                    self.tickets[worker].as_mut().unwrap().3 = took;
                    self.push(took, worker, Moment::Ends);
                }
                Moment::Ends => self.end(worker),
            }
        }
    }

    fn ask(&mut self, worker: usize) {
        if self.workers[worker].is_none() {
            let (open, opens) = (self.windows)(self.wall());
            if !open {
                let wait = u64::try_from(opens.unwrap() - self.wall()).unwrap();
                return self.push(MS(wait), worker, Moment::Asks);
            }
            let room = self.pacer.room(self.now);
            if room.jobs == 0 {
                return self.push(room.again_in.clamp(MS(10), SECS(30)), worker, Moment::Asks);
            }
            if self.next == self.jobs.len() {
                return;
            }
            self.workers[worker] = Some((self.next, 0));
            self.next += 1;
        }
        let (job, call) = self.workers[worker].unwrap();
        let job = &self.jobs[job];
        let (operation, bytes) = match job.uploads.get(call) {
            Some(&bytes) if job.is_file => (Operation::UploadFile, bytes),
            Some(&bytes) => (Operation::UploadImage, bytes),
            None => (Operation::CreateDocument, 0),
        };
        match self.pacer.reserve(operation, bytes, self.now) {
            Reservation::Granted(wait, ticket) => {
                self.tickets[worker] = Some((operation, bytes, ticket, Duration::ZERO));
                self.push(wait, worker, Moment::Sends(!wait.is_zero()));
            }
            Reservation::AskAgain(wait) => self.push(wait.clamp(MS(10), MS(500)), worker, Moment::Asks),
            Reservation::Later(wait) => self.push(wait, worker, Moment::Asks),
        }
    }

    fn end(&mut self, worker: usize) {
        let (operation, bytes, ticket, took) = self.tickets[worker].take().unwrap();
        let limited = operation == Operation::CreateDocument;
        let answer = self.server.as_mut().filter(|_| limited).map(|server| server.call(self.now));
        let (passes, report, retry_after) = answer.unwrap_or((true, LimitReport::default(), None));
        self.meter.on_ended(self.now, passes.then_some((took, bytes)));
        if passes {
            self.pacer.on_answer(operation, ticket, report, true, self.now);
            let (job, call) = self.workers[worker].unwrap();
            let is_done = call + 1 == self.jobs[job].calls();
            self.workers[worker] = (!is_done).then_some((job, call + 1));
            self.done += usize::from(is_done);
        } else {
            self.pacer.on_refused(operation, ticket, report, retry_after, self.now);
        }
        self.push(Duration::ZERO, worker, Moment::Asks);
    }

    /// A pause, in which the process ends and another one begins: it knows what the former one recorded.
    fn pause(&mut self, span: Duration, limiting: Limiting) -> Vec<PacedLimit> {
        let earlier = self.pace(&[]);
        self.now += span;
        // What was created before was created long enough ago.
        self.pacer = pacer(limiting, &[]);
        self.meter = SpeedMeter::continuing(earlier.measured);
        let events: Vec<_> = self.events.drain().map(|Reverse((.., worker, _))| worker).collect();
        for worker in events {
            self.tickets[worker] = None;
            self.push(Duration::ZERO, worker, Moment::Asks);
        }
        // The new process counts its own time from its start, which the pacer of this simulation does not.
        earlier.limits_after(i64::try_from(span.as_millis()).unwrap())
    }
}

/// Five kinds of work.
fn workloads() -> [(&'static str, Vec<SimulatedJob>); 5] {
    let mut chance = Chance(3);
    let document = |uploads: Vec<u64>| SimulatedJob { uploads, is_file: false };
    let file = |bytes: u64| SimulatedJob { uploads: vec![bytes], is_file: true };
    let mut size = |most: u64| 20_000 + chance.below(most);
    let one_image = (0..4000).map(|_| document(vec![size(200_000)])).collect();
    let sides = (0..3000).map(|_| document(vec![size(300_000), size(300_000), size(300_000)])).collect();
    let files = (0..6000).map(|_| file(size(400_000))).collect();
    let few_large = (0..4000).map(|job| document(vec![if job % 20 == 7 { 3_000_000 } else { size(50_000) }])).collect();
    let mut growing: Vec<_> = (0..4000)
        .map(|job| if job % 3 == 0 { file(size(600_000)) } else { document(vec![size(600_000), size(100_000)]) })
        .collect();
    // The first twentieth has some of each size.
    growing[200..].sort_by_key(|job: &SimulatedJob| job.uploads[0]);
    [("one image", one_image), ("sides", sides), ("files", files), ("few large", few_large), ("growing", growing)]
}

const LIMITS: [Limiting; 6] = [
    Limiting::None,
    Limiting::DocumentsPerHour,
    Limiting::BytesPerSecond,
    Limiting::RequestsPerSecond,
    Limiting::Drip,
    Limiting::FixedWindows,
];

/// Simulates each work under each limit, always and at night; `before` works on it until the estimate is asked for, and returns
/// the limits that an earlier process left. Fails where the real end is further from that than a tenth of what is left.
fn each_end_is_known_within_a_tenth(before: impl Fn(&mut Days, Limiting) -> Vec<PacedLimit>) {
    let mut wrong = Vec::new();
    for (name, jobs) in workloads() {
        for limiting in LIMITS {
            for (open, windows, start) in
                [("always", always as Windows, HOUR_MS / 3), ("nights", nights as Windows, 5 * HOUR_MS + HOUR_MS / 3)]
            {
                let mut days = Days::new(jobs.clone(), limiting, windows, start);
                let earlier = before(&mut days, limiting);
                let (at, said) = (days.wall(), days.estimate(&days.pace(&earlier), 0));
                days.work(jobs.len());
                let (left, error) = ((days.wall() - at) as f64, (said.done - days.wall()) as f64);
                let error = error / left;
                println!(
                    "{name}, {limiting:?}, {open}: {:.2} h, {:+.1} %, {:?}",
                    left / 3.6e6,
                    error * 100.0,
                    said.binds
                );
                if error.abs() > 0.1 {
                    wrong.push((name, limiting, open, error));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn after_a_twentieth_of_the_work_the_end_is_known_within_a_tenth() {
    each_end_is_known_within_a_tenth(|days, _| {
        days.work(days.jobs.len() / 20);
        Vec::new()
    });
}

#[test]
fn the_end_is_known_at_once_after_a_pause_and_a_new_start() {
    each_end_is_known_within_a_tenth(|days, limiting| {
        days.work(days.jobs.len() / 2);
        days.pause(SECS(3 * 3600), limiting)
    });
}
