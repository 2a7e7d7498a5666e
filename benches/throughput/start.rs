//! P14: from the start of the worker's process to its first request, with many jobs in the queue; and after a kill -9 that
//! left a log of 4 MB to be recovered.
//!
//! The goal speaks of the first claim, which nobody sees from outside; the first request follows it, with the connection
//! and the opening of the file in between.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    Effort,
    figures::{Goal, Worth, median},
    filled,
    machine::{self, Watch, foreign_text},
    material::{self, Kind},
    sink::{Sink, unix_us},
    worker::{self, Setup},
};

/// The size of the log after which the worker is killed.
const LOG_BYTES: u64 = 4_000_000;

/// Measures and prints.
pub fn run(effort: &Effort, folder: &Path) -> Result<()> {
    println!("P14: from the start of the process to its first request, plain HTTP, `run`");
    let sizes: &[u32] = if effort.quick { &[2_000, 20_000] } else { &[2_000, 100_000, 1_000_000] };
    let mut sink = Sink::start(folder, true)?;
    let mut disk = machine::disk(folder)?;
    let watch = Watch::start(&[sink.id()])?;
    for &jobs in sizes {
        let site = Site::new(&folder.join(jobs.to_string()), effort, &sink, jobs)?;
        let (mut clean, mut killed) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            site.make_ready()?;
            clean.push(site.start(&mut sink, Until::FirstRequest)?);
            // Few jobs are done before the log is full.
            if jobs > 10_000 {
                site.make_ready()?;
                site.start(&mut sink, Until::LogIsFull)?;
                killed.push(site.start(&mut sink, Until::FirstRequest)?);
            }
        }
        disk = disk.worse(machine::disk(folder)?);
        let worth = Worth::of(effort.quick, disk.sync_p50);
        for (what, times, goal) in [("start", clean, 10.0), ("after kill -9 with a log of 4 MB", killed, 25.0)] {
            if !times.is_empty() {
                let (goal, ms) = (Goal::AtMost(goal), median(&times));
                println!("P14 {jobs} queued, {what}: {ms:.1} ms (goal {goal}: {})", goal.verdict(ms, worth));
            }
        }
        fs::remove_dir_all(&site.folder)?;
    }
    println!("   {} rounds; {}; {disk}", effort.rounds, foreign_text(watch.foreign_percent()?));
    Ok(())
}

/// When the worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    FirstRequest,
    LogIsFull,
}

/// A queue of jobs that name one file, and a worker's configuration.
struct Site {
    folder: PathBuf,
    database: PathBuf,
    program: PathBuf,
}

impl Site {
    fn new(folder: &Path, effort: &Effort, sink: &Sink, jobs: u32) -> Result<Self> {
        let drop = folder.join("drop");
        fs::create_dir_all(&drop)?;
        let content = material::content(Kind::Jpeg, 5_000, 1);
        fs::write(drop.join("scan.jpg"), &content)?;
        let database = folder.join("queue.db");
        filled::fill(&database, &drop, 0..jobs, Some(("scan.jpg", &content)))?;
        let setup = Setup { program: &effort.worker, max_in_flight: 32 };
        worker::configure(&folder.join("config.toml"), folder, setup, sink, Some((&drop, "keep")))?;
        Ok(Self { folder: folder.to_owned(), database, program: effort.worker.clone() })
    }

    /// Makes all jobs ready again that were begun and not ended, and empties the log.
    fn make_ready(&self) -> Result<()> {
        let outside = rusqlite::Connection::open(&self.database)?;
        outside.execute("UPDATE job SET state = 'queued', holder = NULL WHERE state = 'running'", [])?;
        outside.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).context("cannot empty the log")
    }

    /// Starts the worker and kills it; returns after how many milliseconds it sent the first request.
    fn start(&self, sink: &mut Sink, until: Until) -> Result<f64> {
        sink.reset()?;
        let began = unix_us();
        let worker = Worker(
            Command::new(&self.program)
                .arg("--config")
                .arg(self.folder.join("config.toml"))
                .arg("run")
                .env("PASSFORT_API_KEY", "bench")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(self.folder.join("stderr.txt"))?)
                .spawn()
                .context("cannot start the worker")?,
        );
        let first = sink.wait_for_begin()?;
        if until == Until::LogIsFull {
            let mut log = self.database.clone().into_os_string();
            log.push("-wal");
            let patience = Instant::now() + Duration::from_secs(60);
            while fs::metadata(&log)?.len() < LOG_BYTES {
                ensure!(Instant::now() < patience, "the log did not become {LOG_BYTES} bytes within a minute");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        drop(worker);
        Ok(first.saturating_sub(began) as f64 / 1e3)
    }
}

/// A worker that is killed when this is dropped.
pub struct Worker(pub Child);

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
