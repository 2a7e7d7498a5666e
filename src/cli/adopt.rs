//! `adopt`: after a loss or a restore of the database, rebuilds what was created and finds out what is doubtful.

mod receipts;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::receipts::{Adopter, ReceiptCounts};
use super::{
    Context,
    filter::{Since, parse_since},
    output::{self, Exit, Output, escape},
    run, start,
};
use crate::{
    account::Account,
    clock::{Clock, Timestamp},
    config::{Config, parse_duration},
    doubt::{self, DoubtReading, DoubtfulEntry},
    entry::{EntryKind, ProfileId},
    intake::watch::DropScanner,
    job::JobState,
    outcome::{DocumentList, normal_id},
    queue::{
        AsyncReader, Queue, QueueError, Reader, WhenStuck,
        adoption::{DoubtSettlement, DoubtfulJob},
        lineage::MarkedFolder,
    },
    retry::RetryPolicy,
    service::{Accounts, IMPORT, account_of, marked_folders, take_back_jobs},
    verify::{Asking, NoAnswer, ReadList, VerifyError},
};

/// The arguments of `adopt`.
#[derive(Debug, Args)]
#[command(
    after_help = "For after a loss, a restore or a copy of the database; nothing else may work on it meanwhile. It creates \
                  nothing at the API: it reads each doubtful profile once. What is free is sent by the next `run`; what is \
                  held a person decides, with `release`. Run it as often as you like."
)]
pub struct AdoptArgs {
    /// Read receipts in this folder and those below it; may be given several times. Else in the receipts folders of the
    /// configured drops
    #[arg(long, value_name = "DIR")]
    pub receipts: Vec<PathBuf>,

    /// Where exactly one unknown document fits an entry, and no other entry, it is taken for that one
    #[arg(long)]
    pub take_unique: bool,

    /// Nothing that is doubtful was sent before then: older documents are none of it. A duration ago (2h, 7d), a date in
    /// UTC (2026-11-22), or a moment (2026-11-22T20:15:04Z); what is less than a day older is not excluded
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,

    /// The database was moved or copied on purpose, and nothing was done since with what it was copied from: take a new
    /// start number, so that the old copy is refused, and read nothing
    #[arg(long, conflicts_with_all = ["receipts", "take_unique", "since"])]
    pub nothing_was_lost: bool,

    /// Write JSON Lines: a line for each job that is held, and the sum in the last
    #[arg(long)]
    pub json: bool,

    /// Exit after this long without a call that worked, with 4
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub give_up_after: Duration,
}

/// Profiles whose names are read from the queue at once.
const PAGE: u32 = 500;

/// A person waits: no delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What an adoption came to.
#[derive(Debug, Default, Serialize)]
struct AdoptionSum {
    receipts: ReceiptCounts,
    /// Manifests that were found taken and are in the queue again.
    taken_up: u64,
    /// Folders and files that could not be taken up.
    left: u64,
    /// Doubtful jobs that were not created: the next `run` sends them.
    free: u64,
    /// Doubtful jobs that were created.
    created: u64,
    /// Doubtful jobs that a person must decide.
    held: u64,
    /// Profiles that were read.
    profiles: u64,
}

/// Runs the command.
///
/// # Errors
///
/// Those of the configuration, the database, and of writing.
pub fn run(args: &AdoptArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load()?;
    let _lock = run::lock(&config, "adopt")?;
    let bar = if context.progress { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    output::on_streams(|output| adopt(args, &config, &bar, output))
}

fn adopt(args: &AdoptArgs, config: &Config, bar: &ProgressBar, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let queue = Queue::open(&config.queue.database, WhenStuck::Fail)?;
    if args.nothing_was_lost {
        accept(args, config, &queue)?;
        output.remark("a new start number is taken: this database goes on, and what it was copied from is refused");
        return Ok(Exit::Well);
    }
    let names = start::block_on(async { Ok(Accounts::new(config)?.names(&queue).await?) })?;
    let names = match names {
        Ok(names) => names,
        Err(why) => {
            output.remark(&format!("error: the API does not say whose key it is: {}; nothing was done", escape(&why)));
            return Ok(Exit::Unreachable);
        }
    };
    let mut sum = AdoptionSum::default();
    queue.begin_adoption()?;
    start::block_on(async { Ok(take_back_jobs(config, &queue).await?) })?;
    bar.set_message("reading receipts");
    let mut adopter = Adopter { queue: &queue, config, names: &names, now: Timestamp::now(), bar, notes: Vec::new() };
    sum.receipts = adopter.read_all(&args.receipts)?;
    adopter.notes.iter().for_each(|note| bar.suspend(|| output.remark(&escape(note))));
    take_up(config, &queue, &mut sum, &mut |line| bar.suspend(|| output.remark(&escape(line))))?;
    queue.hold_doubtful()?;
    let ended = start::block_on(async {
        let signalled = start::signalled();
        tokio::select! {
            ended = read_profiles(args, config, &queue, (bar, began), &mut sum, output) => ended,
            // What was not read is held.
            () = signalled => Ok(Some(NoAnswer::Stopped)),
        }
    })?;
    bar.finish_and_clear();
    conclude(args, &sum, ended.as_ref(), output)?;
    accept(args, config, &queue)?;
    Ok(match ended {
        Some(NoAnswer::Stopped) => Exit::WorkLeft,
        Some(_) => Exit::Unreachable,
        None if sum.held + sum.left > 0 => Exit::Refused,
        None => Exit::Well,
    })
}

/// Lets workers go on with this database, and no longer with what it was copied from.
fn accept(args: &AdoptArgs, config: &Config, queue: &Queue) -> anyhow::Result<()> {
    let mut folders: Vec<MarkedFolder> = marked_folders(config).into_iter().map(|(_, folder)| folder).collect();
    let main = account_of(config, IMPORT);
    folders.extend(args.receipts.iter().map(|path| MarkedFolder { path: path.clone(), account: main.clone() }));
    queue.take_new_start_number()?;
    Ok(queue.new_start_number(&folders)?)
}

fn take_up(config: &Config, queue: &Queue, sum: &mut AdoptionSum, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    for drop in &config.drops {
        let stopped = Arc::new(|| false);
        let mut scanner =
            DropScanner::new(drop.clone(), queue.clone(), config.api.max_image_bytes, Clock::system(), stopped)?;
        let taken = scanner.take_up()?;
        sum.taken_up += taken.manifests;
        sum.left += taken.left.len() as u64;
        for (path, why) in taken.left {
            say(&format!("not taken up: {}: {why}", path.display()));
        }
    }
    Ok(())
}

/// A doubtful job for which a person must decide.
#[derive(Debug, Serialize)]
struct HeldLine<'a> {
    job: i64,
    drop: &'a str,
    kind: EntryKind,
    reference: Option<&'a str>,
    profile_id: &'a str,
    /// Unknown documents that fit.
    fits: &'a [String],
    reason: &'a str,
}

/// The doubtful jobs of one profile with what was decided.
struct DecidedProfile {
    profile: String,
    jobs: Vec<(DoubtfulJob, Vec<String>, DoubtSettlement)>,
}

/// Reads each profile that has doubtful jobs, once; returns why it ended early, if it did.
async fn read_profiles(
    args: &AdoptArgs,
    config: &Config,
    queue: &Queue,
    (bar, began): (&ProgressBar, Instant),
    sum: &mut AdoptionSum,
    output: &mut Output<'_>,
) -> anyhow::Result<Option<NoAnswer>> {
    let reader = Reader::open(queue.path())?;
    let mut profiles = reader.doubtful_profiles("", PAGE)?;
    if profiles.is_empty() {
        return Ok(None);
    }
    let accounts = &Accounts::new(config)?;
    let (waits, mut waited_for) = mpsc::channel(1);
    let asking = Asking {
        list_lag: config.api.list_lag,
        queue: Some(Reader::open(queue.path())?.into_async()),
        retry: RetryPolicy {
            initial: config.retry.initial,
            max: config.retry.max.min(LONGEST_DELAY),
            give_up_after: args.give_up_after,
        },
        stop: CancellationToken::new(),
        waits,
    };
    // A call of the time before may be carried out still, and its document be listed later still.
    let rest = config.retry.absent_after.saturating_sub(began.elapsed());
    if !rest.is_zero() {
        bar.set_message("waiting until the last calls must be visible");
        bar.suspend(|| output.remark(&format!("waits {rest:.0?}, until what was sent last must be visible")));
        tokio::time::sleep(rest).await;
    }
    let since = args.since.map(|since| since.moment(Timestamp::now()));
    let controls = match see_controls(&asking, accounts, &reader).await {
        Ok(controls) => controls,
        Err(ended) => return Ok(Some(ended)),
    };
    let policy = DoubtPolicy { since, take_unique: args.take_unique, controls };
    let mut ended = None;
    while let Some(last) = profiles.last().cloned().filter(|_| ended.is_none()) {
        let readings = profiles.into_iter().map(|profile| read_profile(&asking, accounts, profile, &policy));
        let mut readings = std::pin::pin!(stream::iter(readings).buffer_unordered(config.workers.max_in_flight.max(1)));
        while let Some(read) = readings.next().await {
            if let Ok(why) = waited_for.try_recv() {
                bar.suspend(|| output.remark(&format!("waits: {}", escape(&why))));
            }
            match read {
                Ok(decided) => {
                    sum.profiles += 1;
                    bar.inc(1);
                    bar.set_message(format!("{} profiles", bar.position()));
                    report(&decided, args.json, sum, bar, output)?;
                    let decided = decided.jobs.into_iter().map(|(job, _, settlement)| (job.id, settlement)).collect();
                    queue.settle_doubt(decided, Timestamp::now()).await?;
                }
                Err(VerifyError::NoAnswer(why)) => {
                    ended = Some(why);
                    break;
                }
                Err(VerifyError::Queue(error)) => return Err(error.into()),
            }
        }
        profiles = reader.doubtful_profiles(&last, PAGE)?;
    }
    Ok(ended)
}

/// By what is decided.
struct DoubtPolicy {
    since: Option<Timestamp>,
    take_unique: bool,
    /// For each account of which a document is known, whether the list of its profile shows it.
    controls: HashMap<String, bool>,
}

fn scope(account: Option<&Arc<Account>>) -> String {
    account.map(|account| account.scope.clone()).unwrap_or_default()
}

/// Reads, for each account, the profile of a document that is known: an empty list counts only where that one is shown.
async fn see_controls(
    asking: &Asking,
    accounts: &Accounts,
    reader: &Reader,
) -> Result<HashMap<String, bool>, NoAnswer> {
    let mut controls = HashMap::new();
    for (drop, profile, document) in reader.newest_documents().unwrap_or_default() {
        let (Some(account), Some(id)) = (accounts.of(&drop), ProfileId::parse(&profile)) else { continue };
        if !controls.contains_key(&account.scope) {
            let list = asking.documents(account, &id).await?;
            let shows =
                |list: &DocumentList| list.documents.iter().any(|shown| normal_id(&shown.id) == normal_id(&document));
            controls.insert(account.scope.clone(), list.is_ok_and(|read| shows(&read.list)));
        }
    }
    Ok(controls)
}

async fn read_profile(
    asking: &Asking,
    accounts: &Accounts,
    profile: String,
    policy: &DoubtPolicy,
) -> Result<DecidedProfile, VerifyError> {
    let (jobs, known) = match &asking.queue {
        Some(queue) => doubtful(queue, &profile).await?,
        None => Default::default(),
    };
    let mut parts: BTreeMap<String, (Option<Arc<Account>>, Vec<DoubtfulJob>)> = BTreeMap::new();
    for job in jobs {
        let account = accounts.of(&job.drop);
        let part = parts.entry(scope(account)).or_insert_with(|| (account.map(Arc::clone), Vec::new()));
        part.1.push(job);
    }
    let mut decided = Vec::new();
    for (scope_of_part, (account, jobs)) in parts {
        let known: Vec<String> = known
            .iter()
            .filter(|(drop, _)| scope(accounts.of(drop)) == scope_of_part)
            .map(|(_, id)| id.clone())
            .collect();
        let standing = match (account, ProfileId::parse(&profile)) {
            _ if jobs.iter().all(|job| job.kind == EntryKind::File) => Ok(ReadList::default()),
            (Some(account), Some(id)) => asking.documents(&account, &id).await?,
            _ => Err("its drop is not configured any more".to_owned()),
        };
        let control = policy.controls.get(&scope_of_part).copied().unwrap_or(true);
        decided.extend(decide(jobs, standing, (&known, control), policy));
    }
    Ok(DecidedProfile { profile, jobs: decided })
}

/// The doubtful jobs of a profile, and the documents that the queue knows on it, each with its drop.
async fn doubtful(queue: &AsyncReader, profile: &str) -> Result<(Vec<DoubtfulJob>, Vec<(String, String)>), QueueError> {
    let known = queue.on_profile(profile).await?;
    let known = known.into_iter().filter(|job| job.state == JobState::Done && job.kind == EntryKind::Document);
    let known = known.filter_map(|job| Some((job.drop, job.remote_id?))).collect();
    Ok((queue.doubtful_jobs(profile).await?, known))
}

/// Decides for the doubtful jobs of one profile and account.
fn decide(
    jobs: Vec<DoubtfulJob>,
    standing: Result<ReadList, String>,
    known: (&[String], bool),
    policy: &DoubtPolicy,
) -> Vec<(DoubtfulJob, Vec<String>, DoubtSettlement)> {
    let entries: Vec<DoubtfulEntry> = jobs
        .iter()
        .filter(|job| job.kind == EntryKind::Document)
        .map(|job| DoubtfulEntry {
            job: job.id,
            category: job.category.clone(),
            document_type: job.document_type.clone(),
            images: job.images.len(),
            image_ids: job.images.iter().cloned().collect(),
        })
        .collect();
    let readings = match &standing {
        Ok(standing) => doubt::read(&entries, &standing.list, known, policy.since),
        Err(_) => Vec::new(),
    };
    let mut unique = if policy.take_unique { doubt::unique(&readings) } else { Default::default() };
    let readings: BTreeMap<i64, DoubtReading> = readings.into_iter().collect();
    let settle = |job: DoubtfulJob| {
        let held = |reason: String| DoubtSettlement::Held(reason);
        let (fits, settlement) = match readings.get(&job.id) {
            _ if job.kind == EntryKind::File => (
                Vec::new(),
                held(
                    "no receipt names it, and the API has no list of files: look at the profile, then use release"
                        .into(),
                ),
            ),
            Some(DoubtReading::Free) => (Vec::new(), DoubtSettlement::Free),
            Some(DoubtReading::Created(id)) => (Vec::new(), DoubtSettlement::Created(id.clone())),
            Some(DoubtReading::Fits(fits)) => match unique.remove(&job.id) {
                Some(id) => (Vec::new(), DoubtSettlement::Created(id)),
                None => (fits.clone(), held(offer(job.id, fits))),
            },
            Some(DoubtReading::Unproven) => (
                Vec::new(),
                held(
                    "the profile's list does not show what was created there, so it proves nothing: run `adopt` again"
                        .into(),
                ),
            ),
            None => {
                let why = standing.as_ref().err().cloned().unwrap_or_default();
                (Vec::new(), held(format!("its profile cannot be read: {why}; run `adopt` again, or use release")))
            }
        };
        (job, fits, settlement)
    };
    jobs.into_iter().map(settle).collect()
}

/// What is printed for a person of documents that fit.
fn offer(job: i64, fits: &[String]) -> String {
    match fits {
        [id] => format!(
            "document {id} may be it: look at the profile, then `release {job} --as-created {id}`, or `release {job} \
             --send-again` where it is another one"
        ),
        _ => format!(
            "one of these documents may be it: {}; look at the profile, then use release with --as-created ID or --send-again",
            fits.join(", ")
        ),
    }
}

fn report(
    decided: &DecidedProfile,
    json: bool,
    sum: &mut AdoptionSum,
    bar: &ProgressBar,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    for (job, fits, settlement) in &decided.jobs {
        let reason = match settlement {
            DoubtSettlement::Free => {
                sum.free += 1;
                continue;
            }
            DoubtSettlement::Created(_) => {
                sum.created += 1;
                continue;
            }
            DoubtSettlement::Held(reason) => reason,
        };
        sum.held += 1;
        let (drop, kind, reference) = (job.drop.as_str(), job.kind, job.reference.as_deref());
        let line = HeldLine { job: job.id, drop, kind, reference, profile_id: &decided.profile, fits, reason };
        bar.suspend(|| -> anyhow::Result<()> {
            if json {
                serde_json::to_writer(&mut *output.out, &line)?;
                writeln!(output.out)?;
            } else {
                let named = reference.map(|reference| format!(" reference {reference}")).unwrap_or_default();
                let subject = format!("job {}{named} profile {}", job.id, decided.profile);
                writeln!(output.out, "held  {}: {}", escape(&subject), escape(reason))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn conclude(
    args: &AdoptArgs,
    sum: &AdoptionSum,
    ended: Option<&NoAnswer>,
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    if args.json {
        let line =
            serde_json::json!({ "sum": sum, "complete": ended.is_none(), "ended": ended.map(ToString::to_string) });
        serde_json::to_writer(&mut *output.out, &line)?;
        writeln!(output.out)?;
    } else {
        let ReceiptCounts { read, of_others, unnamed, untrusted, unreadable, entries } = &sum.receipts;
        let mut not_counted = String::new();
        for (many, what) in [
            (of_others, "of another account"),
            (unnamed, "that name no account"),
            (untrusted, "that others may write"),
            (unreadable, "that cannot be read"),
        ] {
            if *many > 0 {
                not_counted.push_str(&format!("; not counted: {many} {what}"));
            }
        }
        let mut line = |name: &str, text: String| writeln!(output.out, "{name:<12}{text}");
        line("receipts", format!("{read} read{not_counted}"))?;
        line(
            "entries",
            format!("{} adopted, {} known, {} corrected", entries.adopted, entries.known, entries.corrected),
        )?;
        line("work folder", format!("{} manifests taken up again, {} left", sum.taken_up, sum.left))?;
        line(
            "doubtful",
            format!(
                "{} free to be sent, {} found created, {} held; {} profiles read",
                sum.free, sum.created, sum.held, sum.profiles
            ),
        )?;
    }
    if sum.held > 0 {
        output.remark("held: see `jobs --state held`, decide with `release`, or run `adopt` again");
    }
    if let Some(ended) = ended {
        output.remark(&format!("error: {}; what was not read is held: run `adopt` again", escape(&ended.to_string())));
    }
    Ok(())
}
