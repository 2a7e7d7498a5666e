//! Makes disk and file calls fail under the worker, and checks whether it keeps its guarantees.
//!
//! ```text
//! cargo test --bench ground -- power-loss --images 100000 --record
//! ```
//!
//! `power-loss` records every write, sync, rename and request of the real program with `strace`, while it is killed and
//! started again; then it makes images of what a disk could hold after a power loss between any two of them, and checks
//! each: the database is intact and has everything that was acknowledged, no file is lost, no receipt is half written.
//! From some it starts the program again, and counts what exists at the API in the end.
//!
//! `file-faults` has the calls that the program makes to files fail, one after the other, once and permanently, and
//! checks whether it reports that, loses nothing, and continues when the fault is gone.
//!
//! Called without a command, as `cargo test --all-targets` does, it tests its own model of a disk. Everything is in
//! memory or in a temporary folder, and nothing is sent anywhere but to loopback.

#![expect(clippy::print_stdout, reason = "what it prints is the result")]

mod dice;
mod disk;
mod end;
mod faults;
mod power;
#[path = "../shared/proofs.rs"]
mod proofs;
mod queue;
mod record;
mod selftest;
mod site;
mod strace;
mod trace;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use passfort_ingest::clock::Timestamp;

use self::site::Order;

/// Takes the ground away from under the worker.
#[derive(Debug, Parser)]
#[command(name = "ground")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Kind>,
    /// The program, where it is not the one that was built beside this.
    #[arg(long, global = true, env = "PASSFORT_INGEST_BIN", default_value = env!("CARGO_BIN_EXE_passfort-ingest"))]
    program: PathBuf,
    /// Append the result to the file in `proofs`.
    #[arg(long, global = true)]
    record: bool,
    /// Cargo adds this.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Cuts the power between any two writes.
    PowerLoss(PowerLoss),
    /// Has every call to a file fail, once and for good.
    FileFaults(FileFaults),
}

#[derive(Debug, clap::Args)]
struct FileFaults {
    /// Only this many of all faults, with a share for every kind of call.
    #[arg(long)]
    some: Option<usize>,
    /// A smaller run, and each of its calls in one way only: every call there is, in a few minutes.
    #[arg(long)]
    small: bool,
    /// Where the dice start that choose them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only faults whose description has this text, as in `Database: fsync`.
    #[arg(long, default_value = "")]
    only: String,
    /// Faults that are tried at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Debug, clap::Args)]
struct PowerLoss {
    /// Images to make, about.
    #[arg(long, default_value_t = 20_000)]
    images: u64,
    /// Of how many the program is started again.
    #[arg(long, default_value_t = 40)]
    resume: usize,
    /// Where the dice start: with the same recording, the same seed gives the same images.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Manifests in the recorded run.
    #[arg(long, default_value_t = 4)]
    manifests: u32,
    /// Documents in each.
    #[arg(long, default_value_t = 4)]
    documents: u32,
    /// Threads that look at images.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn main() -> Result<()> {
    let Arguments { command, program, record, .. } = Arguments::parse();
    match command {
        None => selftest::run(),
        Some(Kind::PowerLoss(options)) => power_loss(&options, &program, record),
        Some(Kind::FileFaults(options)) => file_faults(&options, &program, record),
    }
}

fn file_faults(options: &FileFaults, program: &Path, record: bool) -> Result<()> {
    strace::ensure_there()?;
    let (commit, began) = (proofs::commit(), Instant::now());
    let order = if options.small { Order::new(1, 1) } else { Order::new(2, 1) };
    let mut faults = faults::all(program, &order, options.small)?;
    let possible = faults.len();
    faults.retain(|fault| fault.to_string().contains(&options.only));
    if let Some(wanted) = options.some {
        faults = faults::some(faults, wanted, options.seed);
    }
    let count = faults::run(program, &order, &faults, options.threads)?;
    println!(
        "{} of {possible} faults: {} did no harm, {} ended the run with a word, {} had it wait with a word; {} failures; \
         {:.0} s",
        count.faults,
        count.unharmed,
        count.gave_up,
        count.waited,
        count.failures.len(),
        began.elapsed().as_secs_f64()
    );
    if record {
        proofs::append(
            "file-faults.tsv",
            "commit\tdate\tpossible\tfaults\tunharmed\tgave_up\twaited\tfailures",
            &format!(
                "{commit}\t{}\t{possible}\t{}\t{}\t{}\t{}\t{}",
                Timestamp::now().date(),
                count.faults,
                count.unharmed,
                count.gave_up,
                count.waited,
                count.failures.len()
            ),
        )?;
    }
    ensure!(count.failures.is_empty(), "{} faults break a promise", count.failures.len());
    ensure!(count.faults > 0, "no fault was tried");
    Ok(())
}

fn power_loss(options: &PowerLoss, program: &Path, record: bool) -> Result<()> {
    strace::ensure_there()?;
    let commit = proofs::commit();
    let began = Instant::now();
    let mut recording = record::record(program, options.manifests, options.documents)?;
    let truth = recording.truth()?;
    let (steps, checkpoints) = (recording.events.len(), recording.checkpoints());
    println!("recorded {steps} steps, {} calls, {checkpoints} checkpoints", recording.ledger.len());
    ensure!(checkpoints >= 2, "the run is too short to bring the log into the database");
    let mut count = recording.images(&truth, options.seed, options.images, options.threads.max(1), None)?;
    println!(
        "{} images, {} different databases, {:.0} s",
        count.images,
        count.databases,
        began.elapsed().as_secs_f64()
    );
    for deaf in &power::DEAF {
        let found = recording.images(&truth, options.seed, steps as u64, options.threads.max(1), Some(deaf))?;
        println!(
            "where {} would not be synced: {} of {} images are wrong",
            deaf.what,
            found.failures.len(),
            found.images
        );
        ensure!(!found.failures.is_empty(), "{} need not be synced, it seems: the check is blind", deaf.what);
    }
    let mut dice = dice::Dice::new(options.seed, 0, u64::MAX);
    for _ in 0..options.resume {
        let step = dice.below(steps);
        count.resumed += 1;
        if let Err(error) = recording.resume(&truth, options.seed, step) {
            count.failures.push(format!("seed {} step {step} resumed: {error:#}", options.seed));
        }
    }
    for failure in count.failures.iter().take(20) {
        println!("{failure}");
    }
    println!(
        "{} images of {steps} steps, {} different databases, {} resumed: {} failures; {:.0} s",
        count.images,
        count.databases,
        count.resumed,
        count.failures.len(),
        began.elapsed().as_secs_f64()
    );
    if record {
        proofs::append(
            "power-loss.tsv",
            "commit\tdate\tseed\tsteps\tcheckpoints\timages\tdatabases\tresumed\tfailures",
            &format!(
                "{commit}\t{}\t{}\t{steps}\t{checkpoints}\t{}\t{}\t{}\t{}",
                Timestamp::now().date(),
                options.seed,
                count.images,
                count.databases,
                count.resumed,
                count.failures.len()
            ),
        )?;
    }
    ensure!(count.failures.is_empty(), "{} images break a promise", count.failures.len());
    Ok(())
}
