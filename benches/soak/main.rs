//! Kills the daemon again and again while a fifth of all answers is lost, and checks the result.
//!
//! ```text
//! cargo test --bench soak -- --documents 10000 --kills 200 --record
//! ```
//!
//! Documents are dropped while the daemon works, by senders that use the same names for every batch and overwrite, replace
//! and delete what lies there once its manifest is taken; the daemon is killed as `kill -9` does, after a random number of
//! calls, and started again. What the stand-in for the API holds in the end is compared with what the manifests asked for, image
//! by image, and so is what was archived. With `--restores`, earlier copies of the database are put in its place: each must
//! be refused, and the worker goes on after `adopt`. Called without numbers, as `cargo test --all-targets` does, it runs a small round.
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
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use passfort_ingest::{clock::Timestamp, sandbox::Dice};

use crate::{check::Verdict, ground::Ground, restores::Restores, senders::Senders};

/// Kills the daemon again and again while answers are lost, and checks the result.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// Documents, of one to three images each.
    #[arg(long, default_value_t = 60)]
    documents: u32,
    /// How often the daemon is killed.
    #[arg(long, default_value_t = 4)]
    kills: u32,
    /// How often an earlier copy of the database is put in its place.
    #[arg(long, default_value_t = 0)]
    restores: u32,
    /// How many of a hundred answers to calls that create something are lost.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=90))]
    lost: u8,
    /// Where the dice start: the same seed loses the same answers and kills after as many calls.
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

/// No life lasts longer, whatever the dice say, so that an outage or a machine under load delays nothing for ever.
const LONGEST_LIFE: Duration = Duration::from_secs(20);

/// Between two looks at how far the calls have come.
const LOOK: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.documents > 0, "there is nothing to do without documents: give --documents a number above 0");
    // Before anything else, since somebody may commit during a long run.
    let commit = proofs::commit();
    let began = Instant::now();
    let ground = Ground::new(&arguments.program, arguments.seed, arguments.lost)?;
    let mut senders = Senders::new(&ground.drop_folder(), arguments.documents);
    let mut restores = Restores::new(arguments.seed);
    let kills = soak(&arguments, &ground, &mut senders, &mut restores)?;
    finish(&arguments, &ground, &mut senders, &mut restores)?;
    let verdict = check::judge(&ground, arguments.documents, restores.refused > 0)?;
    println!(
        "{} documents, {kills} kills, {} names reused, {} % of answers lost: {} missing, {} doubled, {} wrong, {} files \
         lost; leftover images: {} possible, {} counted by `verify`, {} found; {} restores refused, {} jobs \
         held after them; {:.0} s",
        arguments.documents,
        senders.names_reused,
        arguments.lost,
        verdict.missing,
        verdict.doubled,
        verdict.wrong,
        verdict.files_lost,
        verdict.leftovers_possible,
        verdict.leftovers_counted,
        verdict.leftovers_found,
        restores.refused,
        restores.held,
        began.elapsed().as_secs_f64()
    );
    if arguments.record {
        record(&arguments, &commit, kills, &restores, senders.names_reused, &verdict)?;
    }
    ensure!(
        verdict.missing + verdict.doubled + verdict.wrong + verdict.files_lost == 0,
        "what stands at the API is not what was asked for; the same seed ({}) tries it again",
        arguments.seed
    );
    if restores.refused > 0 {
        // What an older database did not know of is not counted by it.
        return Ok(());
    }
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
    Ok(())
}

/// Drops the documents, kills the daemon, and puts earlier databases in the place of its own; returns how often it was killed.
fn soak(arguments: &Arguments, ground: &Ground, senders: &mut Senders, restores: &mut Restores) -> Result<u32> {
    let mut dice = Dice::new(arguments.seed);
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
        while ((ground.calls() - before) as f64) < after && born.elapsed() < LONGEST_LIFE {
            if let Some(status) = daemon.try_wait()? {
                anyhow::bail!("the daemon ended by itself: {status}\n{}", ground.last_words());
            }
            senders.go_on(so_far)?;
            if senders.have_put_all() && ground.is_settled()? {
                break;
            }
            std::thread::sleep(LOOK);
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

fn record(
    arguments: &Arguments,
    commit: &str,
    kills: u32,
    restores: &Restores,
    names_reused: u64,
    verdict: &Verdict,
) -> Result<()> {
    let head = "commit\tdate\tseed\tdocuments\tkills\tfaults\tmissing\tdoubled\twrong\tleftovers_counted\tleftovers_found\t\
         leftovers_possible\tnames_reused\tfiles_lost\trestores\theld";
    let line = format!(
        "{commit}\t{}\t{}\t{}\t{kills}\tlost={}%\t{}\t{}\t{}\t{}\t{}\t{}\t{names_reused}\t{}\t{}\t{}",
        Timestamp::now().date(),
        arguments.seed,
        arguments.documents,
        arguments.lost,
        verdict.missing,
        verdict.doubled,
        verdict.wrong,
        verdict.leftovers_counted,
        verdict.leftovers_found,
        verdict.leftovers_possible,
        verdict.files_lost,
        restores.refused,
        restores.held
    );
    proofs::append("soak.tsv", head, &line)
}
