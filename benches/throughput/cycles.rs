//! P12: queue cycles a second (enqueue, claim, finish), each step durable, 32 at once, beside other queues on SQLite.
//!
//! A step of ours is a document with its image, its identity and what later entries are compared with; one of the others is
//! a number. Theirs are programs that `scripts/compare-queues.sh` builds; without them only ours is measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use passfort_ingest::{
    clock::Timestamp,
    queue::{
        Queue, WhenStuck,
        attempt::{End, Evidence},
    },
};
use serde::Deserialize;

use crate::{
    Effort,
    figures::{Goal, Worth, median},
    filled,
    machine::{self, Watch, foreign_text},
};

/// Cycles that are under way at once.
const AT_ONCE: u32 = 32;

/// The programs of the others; each prints how many cycles it made, and in how many seconds.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Options {
    /// The program of effectum.
    #[arg(long)]
    effectum: Option<PathBuf>,
    /// A Python that has litequeue and huey.
    #[arg(long)]
    python: Option<PathBuf>,
}

/// What a program of the others says.
#[derive(Deserialize)]
struct Said {
    cycles: f64,
    seconds: f64,
}

/// Measures and prints.
pub fn run(options: &Options, effort: &Effort, folder: &Path) -> Result<()> {
    let each = if effort.quick { 20 } else { 600 };
    println!("P12: cycles of enqueue, claim and finish, {AT_ONCE} at once, on disk after each step");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/queues/cycles.py");
    let python = |name: &str| {
        options.python.as_ref().map(|python| vec![python.clone().into_os_string(), script.clone().into(), name.into()])
    };
    let others = [
        ("effectum", options.effectum.as_ref().map(|program| vec![program.clone().into_os_string()]), 4.0),
        ("litequeue", python("litequeue"), 12.0),
        ("huey", python("huey"), 10.0),
    ];
    let mut disk = machine::disk(folder)?;
    let watch = Watch::start(&[])?;
    let (mut ours, mut theirs) = (Vec::new(), others.each_ref().map(|_| Vec::new()));
    for _ in 0..effort.rounds {
        ours.push(cycles(&in_new(folder)?.join("queue.db"), each)?);
        for ((name, command, _), rates) in others.iter().zip(&mut theirs) {
            let Some([program, arguments @ ..]) = command.as_deref() else { continue };
            let mut command = Command::new(program);
            command.args(arguments).arg(in_new(folder)?.join("other.db"));
            command.arg(AT_ONCE.to_string()).arg((each / 4).max(5).to_string());
            let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {name}"))?;
            ensure!(output.status.success(), "{name} failed: {}", output.status);
            let said: Said = serde_json::from_slice(&output.stdout).with_context(|| format!("{name} said nothing"))?;
            ensure!(said.cycles >= f64::from(AT_ONCE * (each / 4).max(5)), "{name} made only {} cycles", said.cycles);
            rates.push(said.cycles / said.seconds);
        }
        disk = disk.worse(machine::disk(folder)?);
    }
    let worth = Worth::of(effort.quick, disk.sync_p50);
    println!("P12 ours: {:.0} cycles/s", median(&ours));
    for ((name, _, goal), rates) in others.iter().zip(&theirs) {
        if rates.is_empty() {
            println!("P12 {name}: left out, see scripts/compare-queues.sh");
            continue;
        }
        let ratio = median(&ours.iter().zip(rates).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>());
        let goal = Goal::AtLeast(*goal);
        println!(
            "P12 ÷ {name}: {ratio:.1} (goal {goal}: {}); it makes {:.0} cycles/s",
            goal.verdict(ratio, worth),
            median(rates)
        );
    }
    println!("   {} rounds; {}; {disk}", effort.rounds, foreign_text(watch.foreign_percent()?));
    Ok(())
}

/// A new folder in place of the last one.
fn in_new(folder: &Path) -> Result<PathBuf> {
    let folder = folder.join("queue");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Makes `each` cycles on each of the threads; returns how many a second all of them made.
fn cycles(database: &Path, each: u32) -> Result<f64> {
    let queue = Queue::open(database, WhenStuck::Fail)?;
    let root = Path::new("/bench");
    // The first makes the drop, and a claim begins the start.
    let mut first = queue.admission(filled::plan(root, "first.manifest.jsonl"))?;
    first.admit_part(vec![entry(0)?], Timestamp::now())?;
    let drop_id =
        rusqlite::Connection::open(database)?.query_row("SELECT id FROM drop_folder", [], |row| row.get(0))?;
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime()?.block_on(queue.claim(drop_id, 1))?;
    let began = Instant::now();
    let made: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|at| {
                let queue = &queue;
                scope.spawn(move || -> Result<u32> {
                    let runtime = runtime()?;
                    let mut batch = queue.admission(filled::plan(root, &format!("{at}.manifest.jsonl")))?;
                    let mut made = 0;
                    for number in 0..each {
                        batch.admit_part(vec![entry(1 + at * each + number)?], Timestamp::now())?;
                        for job in runtime.block_on(queue.claim(drop_id, 1))? {
                            let created = End::Created { remote_id: format!("document-{}", job.id) };
                            let ended = queue.end_try(job.id, created, Evidence::default(), Timestamp::now());
                            runtime.block_on(ended)?;
                            made += 1;
                        }
                    }
                    Ok(made)
                })
            })
            .collect();
        let made = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Ok(0)));
        made.sum::<Result<u32>>()
    })?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(made == AT_ONCE * each, "only {made} of {} cycles were made", AT_ONCE * each);
    Ok(f64::from(made) / seconds)
}

fn entry(number: u32) -> Result<passfort_ingest::queue::admission::Admission> {
    filled::admission(number, None).context("an entry of the benchmark is not well formed")
}
