//! P17: from the rename of a manifest into the drop of an idle daemon to the created document, and to its record.
//!
//! The images are there before, as they are when the manifest is the last file that a partner sends, and `settle` is 0, since
//! that is a wait that the configuration asks for.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rusqlite::OptionalExtension as _;

use crate::{
    Effort,
    figures::{Goal, Worth, percentile},
    machine::{self, Watch, foreign_text},
    material::{self, Kind, Shape},
    sink::{Sink, unix_us},
    start::Worker,
    worker::{self, Setup},
};

/// Between two arrivals, after all of the first was settled.
const REST: Duration = Duration::from_millis(30);

/// Measures and prints.
#[expect(clippy::disallowed_methods, reason = "it renames as a partner does")]
pub fn run(effort: &Effort, folder: &Path) -> Result<()> {
    let documents = if effort.quick { 20 } else { 200 };
    println!("P17: {documents} manifests of one document of 2 × 50 KB, one after the other, TLS, idle daemon");
    let (outside, home) = (folder.join("outside"), folder.join("home"));
    let shape =
        Shape { documents, images: 2, image_bytes: 50_000, profiles: documents, per_manifest: 1, kind: Kind::Jpeg };
    let drop = material::write(&outside, &shape)?;
    fs::create_dir_all(&home)?;
    let mut sink = Sink::start(folder, false)?;
    let config = home.join("config.toml");
    let setup = Setup { program: &effort.worker, max_in_flight: 32 };
    // Manifests come into the drop by rename from beside it.
    let waiting = outside.join("waiting");
    fs::create_dir_all(&waiting)?;
    let manifests: Vec<_> = (0..documents).map(|at| format!("batch-{at:06}.manifest.jsonl")).collect();
    for manifest in &manifests {
        fs::rename(drop.join(manifest), waiting.join(manifest))?;
    }
    worker::configure(&config, &home, setup, &sink, Some((&drop, "archive")))?;
    let mut disk = machine::disk(folder)?;
    let watch = Watch::start(&[sink.id()])?;
    let _worker = Worker(
        Command::new(&effort.worker)
            .arg("--config")
            .arg(&config)
            .arg("run")
            .env("PASSFORT_API_KEY", "bench")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(home.join("stderr.txt"))?)
            .spawn()
            .context("cannot start the worker")?,
    );
    let database = home.join("queue.db");
    let patience = Instant::now() + Duration::from_secs(60);
    let queue = loop {
        ensure!(
            Instant::now() < patience,
            "the worker did not begin: {}",
            fs::read_to_string(home.join("stderr.txt"))?
        );
        thread::sleep(Duration::from_millis(20));
        if fs::read_to_string(home.join("stderr.txt"))?.contains("at work") {
            break rusqlite::Connection::open(&database)?;
        }
    };
    let count = |sql: &str| -> Result<u64> {
        let count = queue.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0)).optional()?;
        Ok(count.unwrap_or_default().unsigned_abs())
    };
    let wait_for = |sql: &str, wanted: u64| -> Result<u64> {
        let patience = Instant::now() + Duration::from_secs(60);
        while count(sql)? < wanted {
            ensure!(Instant::now() < patience, "{sql} is not {wanted} within a minute");
            thread::sleep(Duration::from_micros(100));
        }
        Ok(unix_us())
    };
    let (mut created, mut recorded) = (Vec::new(), Vec::new());
    for (manifest, number) in manifests.iter().zip(1..) {
        thread::sleep(REST);
        let began = unix_us();
        fs::rename(waiting.join(manifest), drop.join(manifest))?;
        let written = wait_for("SELECT jobs FROM tally WHERE state = 'done'", number)?;
        created.push(sink.wait_for_documents(number)?.last_us.saturating_sub(began) as f64 / 1e3);
        recorded.push(written.saturating_sub(began) as f64 / 1e3);
        wait_for("SELECT count(*) FROM batch WHERE state = 'closed'", number)?;
    }
    disk = disk.worse(machine::disk(folder)?);
    let worth = Worth::of(effort.quick, disk.sync_p50);
    for (what, times) in [("created", created), ("recorded", recorded)] {
        for (name, share, goal) in [("p50", 0.5, 3.0), ("p99", 0.99, 15.0)] {
            let (goal, ms) = (Goal::AtMost(goal), percentile(&times, share));
            println!("P17 rename to {what}, {name}: {ms:.1} ms (goal {goal}: {})", goal.verdict(ms, worth));
        }
    }
    println!("   {}; {disk}", foreign_text(watch.foreign_percent()?));
    Ok(())
}
