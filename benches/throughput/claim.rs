//! P13: how long a claim takes with a million jobs in the queue, or a million finished ones, beside a thousand queued.
//!
//! The queues are the worker's own, in the durable form that it uses. Claims on them alternate one by one, so that
//! whatever else the machine does meets all of them. Between rounds the claimed jobs are made ready again.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use passfort_ingest::queue::{Queue, WhenStuck};
use tokio::runtime::Runtime;

use crate::{
    Effort,
    figures::{Goal, Worth, median, percentile},
    filled,
    machine::{self, Watch, foreign_text},
};

/// Where the drop would be.
const ROOT: &str = "/bench";

/// Jobs in the small queue.
const FEW: u32 = 1_000;

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
        filled::fill(path, Path::new(ROOT), 0..jobs, None)?;
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
        filled::fill(path, Path::new(ROOT), jobs, None)?;
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
