//! Kills the daemon again and again while a fifth of all answers is lost, and checks the result.
//!
//! ```text
//! cargo test --bench soak -- --documents 10000 --kills 200 --record
//! cargo test --bench soak -- --queues 170 --at-once 8 --documents 40 --per-manifest 4 --kills 24 --restores 12 --record
//! ```
//!
//! Documents are dropped while the daemon works, by senders that use the same names for every batch and overwrite, replace
//! and delete what lies there once its manifest is taken; the daemon is killed as `kill -9` does, after a random number of
//! calls, and started again. What the stand-in for the API holds in the end is compared with what the manifests asked for, image
//! by image, and so is what was archived. With `--restores`, earlier copies of the database are put in its place: each must
//! be refused, and the worker goes on after `adopt`. Where many restores are asked for, the documents are divided among many
//! small queues, several of them at a time: nearly all that a restore takes is waiting, and what it waits for grows with
//! the queue. Called without numbers, as `cargo test --all-targets` does, it runs a small round.
//!
//! Nothing is sent anywhere but to loopback, and everything but the recorded line goes away with the run. Not here: how
//! fast anything is.

#![expect(clippy::print_stdout, reason = "what it prints is the result")]

mod check;
mod ground;
#[path = "../shared/proofs.rs"]
mod proofs;
mod restores;
mod senders;

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use passfort_ingest::{clock::Timestamp, sandbox::Dice};

use crate::{check::Verdict, ground::Ground, restores::Restores, senders::Senders};

/// Kills the daemon again and again while answers are lost, and checks the result.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// Queues that are tried, each with an API of its own; the numbers below are for one of them.
    #[arg(long, default_value_t = 1)]
    queues: u32,
    /// Queues that are tried at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
    /// Documents, of one to three images each.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    documents: u32,
    /// Documents in a manifest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    per_manifest: u32,
    /// How often the daemon is killed.
    #[arg(long, default_value_t = 4)]
    kills: u32,
    /// How often an earlier copy of the database is put in its place.
    #[arg(long, default_value_t = 0)]
    restores: u32,
    /// How many of a hundred answers to calls that create something are lost.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=90))]
    lost: u8,
    /// Where the dice start: the same seed loses the same answers and kills after as many calls. The next queue has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Append the result to `proofs/soak.tsv`.
    #[arg(long)]
    record: bool,
    /// The program, where it is not the one that was built beside this.
    #[arg(long, env = "PASSFORT_INGEST_BIN", default_value = env!("CARGO_BIN_EXE_passfort-ingest"))]
    program: PathBuf,
    /// Cargo adds this.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What came of one queue, or of all of them.
#[derive(Debug, Default)]
struct Tried {
    kills: u32,
    restores: u32,
    held: u64,
    names_reused: u64,
    verdict: Verdict,
}

/// No life lasts longer, whatever the dice say, so that an outage or a machine under load delays nothing for ever.
const LONGEST_LIFE: Duration = Duration::from_secs(20);

/// A daemon that has sent nothing for so long, although nothing that is lost is waited for so long, has nothing to do
/// before it is killed.
const IDLE: Duration = Duration::from_secs(2);

/// Between two looks at how far the calls have come.
const LOOK: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Before anything else, since somebody may commit during a long run.
    let commit = proofs::commit();
    let began = Instant::now();
    let (next, tried) = (AtomicU32::new(0), Mutex::new(Tried::default()));
    let work = || -> Result<()> {
        loop {
            let queue = next.fetch_add(1, Ordering::Relaxed);
            if queue >= arguments.queues {
                return Ok(());
            }
            let seed = arguments.seed + u64::from(queue);
            let one = try_queue(&arguments, seed).with_context(|| {
                // The others end with the queue that they are at.
                next.store(arguments.queues, Ordering::Relaxed);
                format!("--queues 1 --seed {seed} tries it again")
            })?;
            tried.lock().map_err(|_| anyhow!("another thread has panicked"))?.add(&one);
        }
    };
    let ended: Vec<Result<()>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.at_once.min(arguments.queues)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread has panicked"))).collect()
    });
    let tried = tried.into_inner().map_err(|_| anyhow!("a thread has panicked"))?;
    let verdict = &tried.verdict;
    println!(
        "{} queues of {} documents, {} kills, {} names reused, {} % of answers lost: {} missing, {} doubled, {} wrong, {} \
         files lost; leftover images: {} possible, {} counted by `verify`, {} found; {} restores refused, {} jobs held after \
         them; {:.0} s",
        arguments.queues,
        arguments.documents,
        tried.kills,
        tried.names_reused,
        arguments.lost,
        verdict.missing,
        verdict.doubled,
        verdict.wrong,
        verdict.files_lost,
        verdict.leftovers_possible,
        verdict.leftovers_counted,
        verdict.leftovers_found,
        tried.restores,
        tried.held,
        began.elapsed().as_secs_f64()
    );
    ended.into_iter().collect::<Result<()>>()?;
    if arguments.record {
        record(&arguments, &commit, &tried)?;
    }
    ensure!(
        verdict.missing + verdict.doubled + verdict.wrong + verdict.files_lost == 0,
        "what stands at the API is not what was asked for; the same seed ({}) tries it again",
        arguments.seed
    );
    Ok(())
}

impl Tried {
    fn add(&mut self, one: &Self) {
        self.kills += one.kills;
        self.restores += one.restores;
        self.held += one.held;
        self.names_reused += one.names_reused;
        self.verdict.add(&one.verdict);
    }
}

/// Tries one queue to its end.
fn try_queue(arguments: &Arguments, seed: u64) -> Result<Tried> {
    let ground = Ground::new(&arguments.program, seed, arguments.lost)?;
    let mut senders = Senders::new(&ground.drop_folder(), arguments.documents, arguments.per_manifest);
    let mut restores = Restores::new(seed);
    let kills = soak(arguments, seed, &ground, &mut senders, &mut restores)?;
    finish(arguments, &ground, &mut senders, &mut restores)?;
    let verdict = check::judge(&ground, arguments.documents, restores.refused > 0)?;
    let sum = verdict.missing + verdict.doubled + verdict.wrong + verdict.files_lost;
    if sum > 0 {
        println!("--queues 1 --seed {seed}: {verdict:?}");
    }
    // What an older database did not know of is not counted by it.
    if sum == 0 && restores.refused == 0 {
        ensure!(
            verdict.leftovers_counted == verdict.leftovers_found,
            "`verify` does not count the images that are left over as they are"
        );
        ensure!(
            verdict.leftovers_possible >= verdict.leftovers_found,
            "images were left over that the worker does not know to be possible"
        );
        // A kill may hit an upload between the note that it goes out and its going out.
        let too_many = verdict.leftovers_possible - verdict.leftovers_found;
        ensure!(too_many <= u64::from(kills), "{too_many} images are said to be left over possibly that cannot be");
    }
    let (held, names_reused) = (restores.held, senders.names_reused);
    Ok(Tried { kills, restores: restores.refused, held, names_reused, verdict })
}

/// Drops the documents, kills the daemon, and puts earlier databases in the place of its own; returns how often it was killed.
fn soak(
    arguments: &Arguments,
    seed: u64,
    ground: &Ground,
    senders: &mut Senders,
    restores: &mut Restores,
) -> Result<u32> {
    let mut dice = Dice::new(seed);
    // Two images and a document on average, some of them twice.
    let calls = f64::from(arguments.documents) * 3.5;
    let share = calls * 0.8 / f64::from(arguments.kills.max(1));
    let mut killed = 0;
    while killed < arguments.kills {
        // All are there after half of the kills, so that some hit what is taken and some what is settled.
        let so_far = (u64::from(arguments.documents) * u64::from(killed + 1) * 2).div_ceil(u64::from(arguments.kills));
        let so_far = u32::try_from(so_far).unwrap_or(u32::MAX).min(arguments.documents);
        senders.go_on(so_far)?;
        let mut daemon = ground.start(&["run"])?;
        let (born, before) = (Instant::now(), ground.calls());
        let after = dice.share() * 2.0 * share;
        let mut last = (born, before);
        while ((last.1 - before) as f64) < after && born.elapsed() < LONGEST_LIFE && last.0.elapsed() < IDLE {
            if let Some(status) = daemon.try_wait()? {
                bail!("the daemon ended by itself: {status}\n{}", ground.last_words());
            }
            senders.go_on(so_far)?;
            if senders.have_put_all() && ground.is_settled()? {
                break;
            }
            thread::sleep(LOOK);
            let calls = ground.calls();
            if calls > last.1 {
                last = (Instant::now(), calls);
            }
        }
        daemon.kill().context("the daemon could not be killed")?;
        daemon.wait()?;
        killed += 1;
        // Spread over all lives.
        if restores.refused < arguments.restores {
            let due = u64::from(arguments.restores) * u64::from(killed) / u64::from(arguments.kills.max(1));
            if u64::from(restores.refused) < due {
                restores.restore(ground)?;
            }
            restores.keep(ground)?;
        }
        if senders.have_put_all() && ground.is_settled()? {
            break;
        }
    }
    Ok(killed)
}

/// Lets the senders put what is left, and the program do it.
fn finish(arguments: &Arguments, ground: &Ground, senders: &mut Senders, restores: &mut Restores) -> Result<()> {
    while !senders.have_put_all() {
        senders.go_on(arguments.documents)?;
        ground.finish(restores)?;
    }
    ground.finish(restores)
}

fn record(arguments: &Arguments, commit: &str, tried: &Tried) -> Result<()> {
    let head = "commit\tdate\tseed\tdocuments\tkills\tfaults\tmissing\tdoubled\twrong\tleftovers_counted\tleftovers_found\t\
         leftovers_possible\tnames_reused\tfiles_lost\trestores\theld\tqueues";
    let verdict = &tried.verdict;
    let line = format!(
        "{commit}\t{}\t{}\t{}\t{}\tlost={}%\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
        Timestamp::now().date(),
        arguments.seed,
        arguments.documents.saturating_mul(arguments.queues),
        tried.kills,
        arguments.lost,
        verdict.missing,
        verdict.doubled,
        verdict.wrong,
        verdict.leftovers_counted,
        verdict.leftovers_found,
        verdict.leftovers_possible,
        tried.names_reused,
        verdict.files_lost,
        tried.restores,
        tried.held,
        arguments.queues,
    );
    proofs::append("soak.tsv", head, &line)
}
