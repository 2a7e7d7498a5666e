//! `demo`: takes a few documents from the drop to the receipt, against the sandbox in this process, and prints what
//! happens.
//!
//! Needs no configuration, no key and no network but loopback. Everything is made in one new folder, which is kept, so
//! that the receipts can be read.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{
    Exit, config_show, say,
    start::{self, Usage},
};
use crate::{
    closing::Settled,
    config::{Address, Config, DropConfig, Http},
    demo::{
        folder,
        live::{Live, mishaps},
        report::{self, Receipt},
    },
    printable::shell_word,
    queue::{
        Queue, QueueError, Reader, WhenStuck,
        views::{Filter, jobs::JobDetail},
    },
    sandbox::{self, FaultRule, Sandbox},
    service::{OnSettled, Service},
};

/// Start the sandbox, make a small drop with real little images, run the worker on it, and show what happens.
///
/// Needs no configuration, no key and no network but loopback, and takes a few seconds. One document is wrong on
/// purpose, and two calls fail on the way.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  passfort-ingest demo\n  passfort-ingest demo --slow --keep /tmp/passfort-demo")]
pub struct DemoArgs {
    /// Make everything in this folder, which must be empty or not there yet; else in a new temporary one.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// Slow every call down to most of a second, to follow what happens.
    #[arg(long)]
    slow: bool,
}

/// Polling interval: short enough to appear live.
const LOOK: Duration = Duration::from_millis(25);

/// How long every call takes with `--slow`.
const SLOW: Duration = Duration::from_millis(700);

/// A demo that takes longer has gone wrong, and should report it instead of running for ever.
const AT_MOST: Duration = Duration::from_secs(60);

/// The file in which the configuration stays, for commands that look at what was made.
const CONFIG: &str = "config.toml";

/// The key that the sandbox takes.
const KEY: &str = "demo";

/// Runs the command.
///
/// # Errors
///
/// Where the folder cannot be used, loopback cannot be listened on, or the service cannot be started.
pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let home = home(args.keep.as_deref())?;
    start::block_on(async {
        tokio::select! {
            () = start::signalled() => Ok(Exit::WorkLeft),
            ended = show(args, &home) => ended,
        }
    })
}

/// Makes the folder that everything is in. Only its owner may read it, as in production.
fn home(keep: Option<&Path>) -> anyhow::Result<PathBuf> {
    let home = match keep {
        Some(keep) => std::path::absolute(keep)?,
        None => std::env::temp_dir().join(format!("passfort-ingest-demo-{}", uuid::Uuid::new_v4().simple())),
    };
    let unusable = |error| Usage(format!("{} cannot be used: {error}: choose another with --keep DIR", home.display()));
    fs::DirBuilder::new().recursive(keep.is_some()).mode(0o700).create(&home).map_err(unusable)?;
    if fs::read_dir(&home).map_err(unusable)?.next().is_some() {
        return Err(Usage(format!("--keep {}: the folder is not empty: name a new one", home.display())).into());
    }
    home.canonicalize().with_context(|| home.display().to_string())
}

async fn show(args: &DemoArgs, home: &Path) -> anyhow::Result<Exit> {
    let options = sandbox::Options {
        keys: vec![KEY.to_owned()],
        latency: if args.slow { SLOW } else { Duration::ZERO },
        faults: folder::faults().iter().map(|fault| fault.parse::<FaultRule>()).collect::<Result<_, _>>()?,
        ..sandbox::Options::default()
    };
    let sandbox = sandbox::start(options).await.context("the sandbox cannot start")?;
    let config = configure(home, &sandbox.base_url())?;
    fs::write(home.join(CONFIG), config_show::render(&config))?;
    let drop = home.join("drop");
    say(&format!(
        "The sandbox plays the API on {}.\nThe drop is {}; its images and manifests are written now.\n\n",
        sandbox.base_url(),
        drop.display()
    ))?;

    let queue = Queue::open(&config.queue.database, WhenStuck::Fail)?;
    let ended = Arc::new(Mutex::new(Vec::new()));
    let collector = Arc::clone(&ended);
    let on_settled: OnSettled =
        Arc::new(move |settled| collector.lock().unwrap_or_else(PoisonError::into_inner).push(settled.clone()));
    let mut service = Service::start(&config, queue, None, on_settled, CancellationToken::new()).await?;
    service.watch(&config).await?;
    // The worker watches already, so this is what it sees when a partner uploads.
    folder::write(&drop).with_context(|| format!("the drop {} cannot be filled", drop.display()))?;
    let settled = follow(&config, &service, &ended).await?;
    service.finish().await?;
    let exit = sum_up(home, &config, &settled, &sandbox)?;
    sandbox.stop().await;
    Ok(exit)
}

/// Writes the key's file and makes the configuration that a file would give.
fn configure(home: &Path, base_url: &str) -> anyhow::Result<Config> {
    let (drop, key_file) = (home.join("drop"), home.join("api-key"));
    fs::create_dir(&drop)?;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key_file)?.write_all(KEY.as_bytes())?;
    let mut config = Config::defaults();
    config.api.base_url = Address::parse(base_url).map_err(anyhow::Error::msg)?;
    config.api.api_key_file = Some(key_file);
    config.queue.database = home.join("queue.db");
    (config.api.request_lives, config.api.list_lag) = (Duration::from_secs(2), Duration::from_secs(1));
    config.retry.absent_after = config.api.absence_bound();
    config.retry.initial = Duration::from_millis(200);
    let mut only = DropConfig::new("demo", drop);
    only.settle = Duration::from_millis(200);
    only.rescan_every = Duration::from_secs(1);
    config.drops = vec![only];
    config.http = Some(Http::default());
    Ok(config)
}

/// Prints what happens until every manifest is settled; returns how each ended.
async fn follow(config: &Config, service: &Service, ended: &Mutex<Vec<Settled>>) -> anyhow::Result<Vec<Settled>> {
    let reader = Reader::open(&config.queue.database)?;
    let (mut live, mut done, began) = (Live::default(), Vec::new(), Instant::now());
    while done.len() < folder::MANIFESTS.len() {
        if service.has_failed() || began.elapsed() >= AT_MOST {
            break;
        }
        tokio::time::sleep(LOOK).await;
        // Taken before the jobs are read, so that all of a manifest's jobs are printed before it is.
        let settled = std::mem::take(&mut *ended.lock().unwrap_or_else(PoisonError::into_inner));
        let mut lines = live.report(&details(&reader)?);
        for settled in &settled {
            let (counts, status) = (&settled.counts, settled.status.as_str());
            let refused = counts.entries - counts.created;
            let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
            lines.push(format!("{} is settled: {status}: {} created{refused}", settled.manifest, counts.created));
        }
        done.extend(settled);
        let at = began.elapsed().as_secs_f64();
        say(&lines.iter().map(|line| format!("{at:5.2} s  {line}\n")).collect::<String>())?;
    }
    Ok(done)
}

/// All about every job there is: a handful.
fn details(reader: &Reader) -> Result<Vec<JobDetail>, QueueError> {
    let mut ids = Vec::new();
    reader.jobs(&Filter::default(), |row| {
        ids.push(row.id);
        Ok::<_, QueueError>(())
    })?;
    ids.into_iter().filter_map(|id| reader.job(id).transpose()).collect()
}

/// Prints what came of it, and says with which code to end.
fn sum_up(home: &Path, config: &Config, settled: &[Settled], sandbox: &Sandbox) -> anyhow::Result<Exit> {
    let mut settled: Vec<_> = settled.iter().collect();
    settled.sort_by(|one, other| one.manifest.cmp(&other.manifest));
    let receipts = settled.iter().map(|settled| {
        Receipt::read(&settled.receipt).with_context(|| format!("the receipt {}", settled.receipt.display()))
    });
    let receipts = receipts.collect::<anyhow::Result<Vec<_>>>()?;
    let reader = Reader::open(&config.queue.database)?;
    let mishaps: Vec<_> = details(&reader)?.iter().flat_map(mishaps).collect();
    let summary = sandbox.summary();
    let wrong = report::differences(&receipts, &mishaps, &summary, &sandbox.documents());

    let mut text = format!("\nWhat was created, by the receipts:\n\n{}", report::table(&receipts));
    text.push_str(&format!("\nRefused:\n{}", report::refused(&receipts)));
    text.push_str(&format!("\nWhat went wrong on the way, and how it was settled:\n{}", report::on_the_way(&mishaps)));
    text.push_str(&format!("\nThe API's own ledger: {}.\n\nLook around:\n", report::ledger(&summary)));
    for settled in settled {
        text.push_str(&format!("  receipt  {}\n", settled.receipt.display()));
    }
    for drop in &config.drops {
        text.push_str(&format!("  done     {}\n", drop.done_folder().display()));
        text.push_str(&format!("  failed   {}\n", drop.failed_folder().display()));
    }
    text.push_str(&format!("  all      {} (delete it when you have seen it)\n", home.display()));
    let program = std::env::args_os().next().unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
    let (program, file) = (program.to_string_lossy(), home.join(CONFIG).display().to_string());
    let command = format!("{} --config {}", shell_word(&program), shell_word(&file));
    let listen = config.api.base_url.as_str().trim_start_matches("http://").split('/').next().unwrap_or_default();
    text.push_str(&format!(
        "\nWhat `status`, `show` and `why` say of it:\n  {command} status\n  {command} show 1\n  {command} why {}\n\
         \nThe page on http://127.0.0.1:9480, until Ctrl-C, beside an empty sandbox in another terminal:\n  \
         {program} sandbox --listen {listen} --key {KEY}\n  {command} run\n",
        shell_word(&home.join("drop/bruno.manifest.jsonl").display().to_string()),
    ));
    text.push_str(
        "\nNext: read README.md, then look at manifests of your own, which sends nothing:\n  \
         passfort-ingest check YOUR-FOLDER\n",
    );
    for wrong in &wrong {
        text.push_str(&format!("\nNot as it should be: {wrong}.\n"));
    }
    say(&text)?;
    Ok(if wrong.is_empty() { Exit::Well } else { Exit::Refused })
}
