//! P13: how long a claim takes with a million jobs in the queue, or a million finished ones, beside a thousand queued.
//!
//! The queues are the worker's own, in the durable form that it uses. Claims on them alternate one by one, so that
//! whatever else the machine does meets all of them. Between rounds the claimed jobs are made ready again.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use passfort_ingest::policy::AfterSuccess;
use passfort_ingest::{
    clock::Timestamp,
    entry::{Content, Entry, ImageSource, ImageType, ProfileId, RelativePath, Sha256, Source},
    queue::{
        Queue, WhenStuck,
        admission::{Admission, CheckedFile},
        batch::{BatchPolicy, Plan},
    },
};
use tokio::runtime::Runtime;

use crate::{
    Effort,
    figures::{Goal, Worth, median, percentile},
    machine::{self, Watch, foreign_text},
    material,
};

/// Jobs in the small queue.
const FEW: u32 = 1_000;

/// Jobs admitted to a queue in one transaction. Identities are scattered in their index, so that each transaction
/// rewrites most of its pages: few and large ones fill a queue several times faster.
const CHUNK: u32 = 10_000;

/// How many jobs a claim takes, and how many such claims a round has; never more than the small queue holds.
const CLAIMS: [(usize, usize); 2] = [(1, 600), (16, 60)];

/// Measures and prints.
pub fn run(effort: &Effort, folder: &Path) -> Result<()> {
    let many = if effort.quick { 100_000 } else { 1_000_000 };
    println!("P13: claims on the durable queue, with {many} jobs ÷ with {FEW}");
    let started = Instant::now();
    let few = Filled::ready(&folder.join("few.db"), FEW)?;
    let queued = Filled::ready(&folder.join("queued.db"), many)?;
    let finished = queued.finished(&folder.join("finished.db"), many..many + FEW)?;
    println!("   filled in {:.0} s", started.elapsed().as_secs_f64());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut disk = machine::disk(folder)?;
    for (limit, claims) in CLAIMS {
        let watch = Watch::start(&[])?;
        let (mut of_queued, mut of_finished, mut times) = (Ratios::default(), Ratios::default(), Vec::new());
        for _ in 0..effort.rounds {
            let round = round(&runtime, [&few, &queued, &finished], limit, claims)?;
            of_queued.add(&round.queued, &round.few);
            of_finished.add(&round.finished, &round.few);
            times.push([&round.few, &round.queued, &round.finished].map(|times| percentile(times, 0.5) * 1e6));
            disk = disk.worse(machine::disk(folder)?);
        }
        let worth = Worth::of(effort.quick, disk.sync_p50);
        for (name, figure, goal) in [
            ("p50 with many queued", median(&of_queued.p50), Goal::AtMost(1.1)),
            ("p99 with many queued", median(&of_queued.p99), Goal::AtMost(1.3)),
            ("p50 with many finished", median(&of_finished.p50), Goal::AtMost(1.1)),
        ] {
            println!("P13 claim({limit}) {name}: {figure:.2} (goal {goal}: {})", goal.verdict(figure, worth));
        }
        let p50 = |at: usize| median(&times.iter().filter_map(|round| round.get(at).copied()).collect::<Vec<_>>());
        println!(
            "   p50 in µs: {FEW} queued {:.0}, {many} queued {:.0}, {many} finished {:.0}; {} rounds; {}; {disk}",
            p50(0),
            p50(1),
            p50(2),
            effort.rounds,
            foreign_text(watch.foreign_percent()?),
        );
    }
    Ok(())
}

/// Ratios of each round.
#[derive(Default)]
struct Ratios {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Ratios {
    fn add(&mut self, times: &[f64], base: &[f64]) {
        self.p50.push(percentile(times, 0.5) / percentile(base, 0.5));
        self.p99.push(percentile(times, 0.99) / percentile(base, 0.99));
    }
}

/// The seconds that each claim of a round took.
#[derive(Default)]
struct Round {
    few: Vec<f64>,
    queued: Vec<f64>,
    finished: Vec<f64>,
}

fn round(runtime: &Runtime, queues: [&Filled; 3], limit: usize, claims: usize) -> Result<Round> {
    let mut round = Round::default();
    for _ in 0..claims {
        for (queue, times) in queues.into_iter().zip([&mut round.few, &mut round.queued, &mut round.finished]) {
            times.push(queue.claim(runtime, limit)?.as_secs_f64());
        }
    }
    queues.into_iter().try_for_each(Filled::ready_again)?;
    Ok(round)
}

/// A queue with jobs in it.
struct Filled {
    queue: Queue,
    drop_id: i64,
}

impl Filled {
    /// Makes a queue with `jobs` ready jobs.
    fn ready(path: &Path, jobs: u32) -> Result<Self> {
        fill(path, 0..jobs)?;
        Self::open(path)
    }

    /// Makes a copy of it in which its jobs are finished, followed by ready ones.
    fn finished(&self, path: &Path, jobs: std::ops::Range<u32>) -> Result<Self> {
        let copy = path.to_str().context("the path is not UTF-8")?;
        rusqlite::Connection::open(self.queue.path())?.execute("VACUUM INTO ?1", [copy])?;
        // The trigger is back when the queue is opened.
        rusqlite::Connection::open(path)?.execute_batch(
            "PRAGMA cache_size = -1048576; PRAGMA temp_store = 1; DROP TRIGGER job_transition;
             UPDATE job SET state = 'done', remote_id = profile_id, ended_at = created_at",
        )?;
        fill(path, jobs)?;
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self> {
        let queue = Queue::open(path, WhenStuck::Fail)?;
        let outside = rusqlite::Connection::open(path)?;
        let drop_id = outside.query_row("SELECT id FROM drop_folder", [], |row| row.get(0))?;
        let filled = Self { queue, drop_id };
        filled.empty_log()?;
        Ok(filled)
    }

    fn claim(&self, runtime: &Runtime, limit: usize) -> Result<Duration> {
        let start = Instant::now();
        let jobs = runtime.block_on(self.queue.claim(self.drop_id, limit))?;
        let took = start.elapsed();
        anyhow::ensure!(jobs.len() == limit, "a claim of {limit} jobs took {}", jobs.len());
        Ok(took)
    }

    /// Undoes the claims, so that every round claims the same.
    fn ready_again(&self) -> Result<()> {
        let outside = rusqlite::Connection::open(self.queue.path())?;
        outside.execute("UPDATE job SET state = 'queued', holder = NULL WHERE state = 'running'", [])?;
        self.empty_log()
    }

    /// Moves the log into the database, so that no round pays for what was before it.
    fn empty_log(&self) -> Result<()> {
        let outside = rusqlite::Connection::open(self.queue.path())?;
        outside.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).context("cannot empty the log")
    }
}

fn plan() -> Plan {
    Plan {
        drop: "bench".to_owned(),
        manifest: "bench.manifest.jsonl".to_owned(),
        manifest_sha256: Sha256([0; 32]),
        manifest_file: "bench".to_owned(),
        taken: None,
        layout: None,
        held_back: false,
        policy: BatchPolicy {
            root: "/bench".into(),
            image_root: "/bench".into(),
            image_folder: String::new(),
            receipts_dir: "/bench/receipts".into(),
            receipt_mode: 0o640,
            receipt_group: None,
            done_dir: None,
            failed_dir: None,
            marker: None,
            after_success: AfterSuccess::Keep,
        },
    }
}

/// Admits entries with these numbers to the one batch of a queue.
fn fill(path: &Path, numbers: std::ops::Range<u32>) -> Result<()> {
    let queue = Queue::open(path, WhenStuck::Fail)?;
    queue.prepare_bulk_load()?;
    let mut batch = queue.admission(plan())?;
    for start in numbers.clone().step_by(CHUNK as usize) {
        let chunk: Option<Vec<_>> = (start..numbers.end.min(start + CHUNK)).map(admission).collect();
        let chunk = chunk.context("an entry of the benchmark is not well formed")?;
        batch.admit_part(chunk, Timestamp::now())?;
    }
    Ok(())
}

/// A document of two images, on one of a quarter as many profiles.
fn admission(number: u32) -> Option<Admission> {
    let mut digest = [0; 32];
    digest.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, of_number)| *byte = of_number);
    let image = |name: &str, image_type| {
        let path = RelativePath::parse(&format!("{number}/{name}.jpg")).ok()?;
        let source = Source { path, declared_bytes: None, declared_sha256: None };
        Some(ImageSource { source, image_type: Some(image_type) })
    };
    let entry = Entry {
        index: number.into(),
        profile_id: ProfileId::parse(&material::profile(number / 4).to_string())?,
        reference: Some(format!("document-{number}")),
        replace: false,
        content: Content::Document {
            category: "PROOF_OF_IDENTITY".to_owned(),
            document_type: "PASSPORT".to_owned(),
            extracted_data: None,
            images: vec![image("front", ImageType::Front)?, image("back", ImageType::Back)?],
        },
    };
    let file = CheckedFile { bytes: 50_000, sha256: Sha256(digest), checksum: number.into(), seen: None };
    Some(Admission::Take { entry, files: vec![file; 2] })
}
