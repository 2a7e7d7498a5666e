//! Measures the worker beside what it cannot be faster than, in one run: `cargo bench --bench throughput -- --help`.
//!
//! The program starts itself again as `sink` (a server that discards what it is sent) and `bare` (a client that records
//! nothing), and the worker's own binary as a user would. Results are ratios of
//! pairs that ran one after the other, because absolute rates say more about the machine than about the worker.
//!
//! Everything is written to a folder below the target directory, which is on a disk where a temporary folder may be in
//! memory, and is removed at the end. Nothing is sent anywhere but to loopback.
//!
//! Not here: the correctness of what was created. A run whose sink did not see every request is an error, though, so
//! no figure comes from work that was not done.

#![expect(clippy::print_stdout, reason = "what it prints is the result")]

mod arrival;
mod bare;
mod baselines;
mod claim;
mod cycles;
mod figures;
mod filled;
mod latency;
mod links;
mod machine;
mod material;
mod memory;
mod pairs;
mod selftest;
mod sink;
mod start;
mod store;
mod worker;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tempfile::TempDir;

/// Measures passfort-ingest beside what it cannot be faster than.
#[derive(Parser)]
#[command(name = "throughput")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    effort: Effort,
    /// Cargo adds this.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// How much is done for a figure.
#[derive(clap::Args)]
pub struct Effort {
    /// Pairs of runs for each ratio.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// A tenth of the work, to see that it works; the figures are no verdict.
    #[arg(long, global = true)]
    quick: bool,
    /// Threads of the bare client.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    bare_threads: u8,
    /// Documents in each manifest that the worker is given; 0: all in one.
    #[arg(long, global = true, default_value_t = 100)]
    per_manifest: u32,
    /// The worker's program, where it is not the one that was built beside this.
    #[arg(long, global = true, default_value = env!("CARGO_BIN_EXE_passfort-ingest"))]
    worker: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Image bytes a second with large images, beside a bare client with the same duties.
    P1,
    /// The same of few images in a drop, each in a manifest of its own.
    P1b,
    /// Documents a second with an API that is far away, beside what its latency allows.
    P3,
    /// Documents a second with small images, beside the bare client.
    P5,
    /// Peak memory with many large files at once, and how it grows with size and connections (P9).
    P8,
    /// Queue cycles a second, beside other queues on SQLite.
    P12(cycles::Options),
    /// Time of a claim with a million jobs in the queue, beside a thousand.
    P13,
    /// Time from a start to the first request, with up to a million jobs in the queue.
    P14,
    /// Time from a rename into a drop to the created document.
    P17,
    /// Adaptive concurrency on twelve kinds of links, beside the best fixed setting, on a simulated clock.
    P20,
    /// Bytes of the database for each document.
    P23,
    /// All of the above.
    All,
    /// The scripts that a user would write, beside the worker.
    Baselines(baselines::Options),
    /// Serves what discards every body, until standard input ends.
    #[command(hide = true)]
    Sink(sink::Options),
    /// Sends, and records nothing.
    #[command(hide = true)]
    Bare(bare::Load),
}

fn main() -> Result<()> {
    let Arguments { command, effort, .. } = Arguments::parse();
    match command {
        // Also how `cargo test --all-targets` calls it.
        None => selftest::run(),
        Some(Command::Sink(options)) => sink::serve(&options),
        Some(Command::Bare(load)) => bare::run(&load),
        Some(Command::Baselines(options)) => baselines::run(&options, &effort, scratch()?.path()),
        Some(Command::P1) => pairs::large_images(&effort, scratch()?.path()),
        Some(Command::P1b) => pairs::large_images_of_a_drop(&effort, scratch()?.path()),
        Some(Command::P3) => latency::run(&effort, scratch()?.path()),
        Some(Command::P5) => pairs::small_documents(&effort, scratch()?.path()),
        Some(Command::P8) => memory::run(&effort, scratch()?.path()),
        Some(Command::P12(options)) => cycles::run(&options, &effort, scratch()?.path()),
        Some(Command::P13) => claim::run(&effort, scratch()?.path()),
        Some(Command::P14) => start::run(&effort, scratch()?.path()),
        Some(Command::P17) => arrival::run(&effort, scratch()?.path()),
        Some(Command::P20) => links::run_all(&effort),
        Some(Command::P23) => store::run(&effort, scratch()?.path()),
        Some(Command::All) => all(&effort),
    }
}

/// Every figure, each in a folder of its own, so that the files of one do not fill the page cache of the next.
fn all(effort: &Effort) -> Result<()> {
    let parts: [fn(&Effort, &Path) -> Result<()>; 11] = [
        pairs::large_images,
        pairs::large_images_of_a_drop,
        latency::run,
        pairs::small_documents,
        memory::run,
        |effort, folder| cycles::run(&cycles::Options::default(), effort, folder),
        claim::run,
        start::run,
        arrival::run,
        |effort, _| links::run_all(effort),
        store::run,
    ];
    for part in parts {
        part(effort, scratch()?.path())?;
        println!();
    }
    Ok(())
}

/// A folder below the target directory that is removed when it is dropped.
fn scratch() -> Result<TempDir> {
    let beneath = env!("CARGO_TARGET_TMPDIR");
    tempfile::Builder::new()
        .prefix("throughput-")
        .tempdir_in(beneath)
        .with_context(|| format!("cannot make a folder beneath {beneath}"))
}
