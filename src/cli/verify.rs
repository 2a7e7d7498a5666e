//! `verify`: asks the API whether every created document still exists with its images, and lists what no job knows of.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Context, act,
    filter::FilterArgs,
    output::{self, Exit, Output, escape},
    start, verify_history,
};
use crate::{
    clock::Timestamp,
    config::{Config, parse_duration},
    queue::{
        AsyncReader, Queue, QueueError, Reader, WhenStuck,
        control::JobCommand,
        verified::CheckedDocuments,
        views::{Filter, created::Verified},
    },
    retry::RetryPolicy,
    service::Accounts,
    verify::{
        Asking, CheckedProfile, NoAnswer, VerifyError,
        compare::{Finding, VerifyTotals, What},
    },
};

/// The arguments of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads only: two calls a profile. Every finding is a line as it is made, the sum comes last. Files are \
                  not checked, since the API has no list of them. E.g. what was created since yesterday:\n  \
                  passfort-ingest verify --since 1d\n\
                  What is missing is sent again by `retry --missing`; what was removed on purpose is accepted:\n  \
                  passfort-ingest verify --accept-missing 17 18"
)]
pub struct VerifyArgs {
    /// On the profiles of which jobs; else of all.
    #[command(flatten)]
    pub filter: FilterArgs,

    /// Only so many profiles, chosen at random, e.g. --sample 100
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,

    /// Asks nothing: these jobs' documents, which the last `verify` found missing, were removed on purpose; they are
    /// `removed` in `export`, not sent by `retry --missing`, and no longer looked for
    #[arg(long, value_name = "JOB", num_args = 1.., exclusive = true)]
    pub accept_missing: Vec<i64>,

    /// Asks nothing: of each document that was sent more than once, say whether the calls that the queue recorded prove
    /// that it was absent by then, by the bound that is configured now
    #[arg(long, conflicts_with_all = ["sample", "accept_missing"])]
    pub history: bool,

    /// Do not list images that no document uses; they are counted all the same
    #[arg(long)]
    pub no_unused: bool,

    /// Write JSON Lines: a line for each finding, and the sum in the last
    #[arg(long)]
    pub json: bool,

    /// Exit after this long without a call that worked: with 3 where a limit of the account is why, else with 4
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub give_up_after: Duration,
}

/// Profiles whose names are read from the queue at once.
const PAGE: u32 = 500;

/// Runs the command.
///
/// # Errors
///
/// Those of the configuration, the database, and of writing.
pub fn run(args: &VerifyArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = context.load()?;
    let bar = if context.progress { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    output::on_streams(|output| verify(args, &config, &bar, output))
}

fn verify(args: &VerifyArgs, config: &Config, bar: &ProgressBar, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&config.queue.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    if args.history {
        return verify_history::check(&reader, config.retry.absent_after, args.json, output);
    }
    if !args.accept_missing.is_empty() {
        drop(reader);
        return act::command(
            &config.queue.database,
            &args.accept_missing,
            &JobCommand::AcceptMissing,
            Timestamp::now(),
            output,
        );
    }
    let filter = args.filter.filter(Timestamp::now());
    let everything = filter == Filter::default() && args.sample.is_none();
    let mut notes = Notes {
        queue: Queue::open_beside(&config.queue.database, WhenStuck::Fail).map_err(|error| error.to_string()),
        noted: reader.noted_by_verify()?,
    };
    let Checked { sum, refused, ended } = start::block_on(async {
        let stop = CancellationToken::new();
        let (stopping, signalled) = (stop.clone(), start::signalled());
        let stopper = tokio::spawn(async move {
            signalled.await;
            stopping.cancel();
        });
        let selection = Selection { filter, sample: args.sample, at_once: config.workers.max_in_flight };
        let checked = ask(config, reader, selection, (args.give_up_after, stop), &mut notes, |news| match news {
            News::Checked(checked) => {
                bar.inc(1);
                bar.set_message(format!("{} profiles", bar.position()));
                bar.suspend(|| print_checked(&checked, args, output))
            }
            News::Waits(why) => {
                let patience = args.give_up_after;
                let line = format!("waits, for {patience:?} at most in which no call works: {}", escape(&why));
                bar.suspend(|| output.remark(&line));
                Ok(())
            }
        })
        .await;
        stopper.abort();
        checked
    })?;
    bar.finish_and_clear();
    conclude(&sum, ended.as_ref(), args.json, output)?;
    let nothing = ended.is_none() && sum.profiles == 0;
    if nothing {
        output.remark(reached_nothing(&sum, refused));
    }
    if everything && ended.is_none() && sum.unreadable_profiles == 0 {
        let verified = Verified {
            at: Timestamp::now().to_string(),
            profiles: sum.profiles,
            amiss: sum.missing + sum.changed + sum.doubled,
            leftover_images: sum.leftover_images,
        };
        if let Ok(queue) = &notes.queue
            && let Err(error) = queue.note_verified(&verified)
        {
            notes.queue = Err(error.to_string());
        }
    }
    // An operator without the right to write the queue has seen it here.
    if let Err(error) = &notes.queue {
        let what = "neither `status` nor `retry --missing` will know of this, since it cannot be written down";
        output.remark(&format!("warning: {what}: {}", escape(error)));
    }
    Ok(match ended {
        Some(NoAnswer::Key(_) | NoAnswer::Unreachable(_)) => Exit::Unreachable,
        Some(NoAnswer::Limit(_) | NoAnswer::Stopped) => Exit::WorkLeft,
        None if nothing && refused > 0 => Exit::Unreachable,
        None if sum.is_well() => Exit::Well,
        None => Exit::Refused,
    })
}

/// Checks the documents of these jobs' profiles, for a command that goes on by what comes of it.
///
/// # Errors
///
/// Those of the configuration and the database.
pub(super) async fn totals(
    config: &Config,
    queue: &Queue,
    filter: Filter,
    give_up_after: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<(VerifyTotals, Option<NoAnswer>)> {
    let reader = Reader::open(queue.path())?;
    let mut notes = Notes { queue: Ok(queue.clone()), noted: reader.noted_by_verify()? };
    let selection = Selection { filter, sample: None, at_once: config.workers.max_in_flight };
    let checked = ask(config, reader, selection, (give_up_after, stop.clone()), &mut notes, |_| Ok(())).await?;
    Ok((checked.sum, checked.ended))
}

async fn ask(
    config: &Config,
    reader: Reader,
    selection: Selection,
    (give_up_after, stop): (Duration, CancellationToken),
    notes: &mut Notes,
    report: impl FnMut(News) -> std::io::Result<()>,
) -> anyhow::Result<Checked> {
    let accounts = Accounts::new(config)?;
    let (waits, waited_for) = mpsc::channel(1);
    let known = reader.into_async();
    let asking = Asking {
        queue: Some(known.clone()),
        retry: RetryPolicy { initial: config.retry.initial, max: config.retry.max.min(LONGEST_DELAY), give_up_after },
        stop,
        list_lag: config.api.list_lag,
        waits,
    };
    check_all((&asking, &known), &accounts, selection, notes, waited_for, report).await
}

/// A person waits: no delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Progress to print.
enum News {
    Checked(CheckedProfile),
    /// It waits, for this reason.
    Waits(String),
}

/// What to say where no profile was read.
const fn reached_nothing(sum: &VerifyTotals, refused: u64) -> &'static str {
    if refused > 0 {
        "error: the API gave no list of any profile, so nothing is known of any document; see what it says of each"
    } else if sum.unreadable_profiles > 0 {
        "nothing was checked: no profile could be asked for, see why"
    } else {
        "nothing was checked: the queue has created nothing that fits"
    }
}

/// Which profiles to check, and how many at a time.
struct Selection {
    filter: Filter,
    sample: Option<u32>,
    at_once: usize,
}

/// Where findings are written down.
struct Notes {
    /// Or why it cannot be written.
    queue: Result<Queue, String>,
    /// Jobs of which an earlier run has noted something.
    noted: HashSet<i64>,
}

impl Notes {
    /// Writes down what was found on a profile, where that is anything or there is something to take back.
    async fn take(&mut self, checked: &CheckedProfile) {
        let Ok(queue) = &self.queue else { return };
        let of = |what: What| checked.findings.iter().filter(move |finding| finding.finding == what);
        let documents = CheckedDocuments {
            jobs: checked.jobs.clone(),
            missing: of(What::Missing).filter_map(|finding| finding.job).collect(),
            doubled: of(What::Doubled).filter_map(|finding| Some((finding.job?, finding.ids.clone()))).collect(),
        };
        let found = !documents.missing.is_empty() || !documents.doubled.is_empty();
        if (found || documents.jobs.iter().any(|job| self.noted.contains(job)))
            && let Err(error) = queue.note_checked(documents, Timestamp::now()).await
        {
            self.queue = Err(error.to_string());
        }
    }
}

/// What came of it.
#[derive(Default)]
struct Checked {
    sum: VerifyTotals,
    /// Profiles of which the API gave no list.
    refused: u64,
    /// Why it ended early, if it did.
    ended: Option<NoAnswer>,
}

/// Checks the selected profiles, several at a time; each is written down, then printed.
async fn check_all(
    (asking, known): (&Asking, &AsyncReader),
    accounts: &Accounts,
    selection: Selection,
    notes: &mut Notes,
    mut waits: mpsc::Receiver<String>,
    mut report: impl FnMut(News) -> std::io::Result<()>,
) -> anyhow::Result<Checked> {
    let Selection { filter, sample, at_once } = selection;
    let first = match sample {
        Some(many) => known.some_profiles(filter.clone(), many).await?,
        None => Vec::new(),
    };
    let named = stream::try_unfold((VecDeque::from(first), String::new()), |(mut page, after)| {
        let filter = filter.clone();
        async move {
            if page.is_empty() && sample.is_none() {
                let read = known.profiles(filter, after, PAGE);
                page = VecDeque::from(read.await?);
            }
            Ok::<_, VerifyError>(page.pop_front().map(|profile| (profile.clone(), (page, profile))))
        }
    });
    let checks = named
        .map_ok(|profile| async move { asking.check(|drop| accounts.of(drop), &profile).await })
        .try_buffer_unordered(at_once.max(1));
    let mut checks = std::pin::pin!(checks);
    let mut done = Checked::default();
    loop {
        let next = tokio::select! {
            biased;
            Some(why) = waits.recv() => {
                // It is reported once: nobody receives what comes after.
                waits.close();
                report(News::Waits(why))?;
                continue;
            }
            next = checks.next() => next,
        };
        match next {
            None => break,
            Some(Ok(checked)) => {
                for part in checked {
                    done.sum.add(&part.sum);
                    done.refused += u64::from(part.refused);
                    notes.take(&part).await;
                    report(News::Checked(part))?;
                }
            }
            Some(Err(VerifyError::NoAnswer(ended))) => {
                done.ended = Some(ended);
                return Ok(done);
            }
            Some(Err(VerifyError::Queue(error))) => return Err(error.into()),
        }
    }
    done.ended = asking.stop.is_cancelled().then_some(NoAnswer::Stopped);
    Ok(done)
}

#[derive(Serialize)]
struct FindingLine<'a> {
    profile_id: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

fn print_checked(checked: &CheckedProfile, args: &VerifyArgs, output: &mut Output<'_>) -> std::io::Result<()> {
    for finding in &checked.findings {
        if args.no_unused && finding.finding == What::UnusedImage {
            continue;
        }
        if args.json {
            serde_json::to_writer(&mut *output.out, &FindingLine { profile_id: &checked.profile, finding })?;
            writeln!(output.out)?;
            continue;
        }
        let word = match finding.finding {
            What::Missing => "missing",
            What::Changed => "changed",
            What::Unreadable => "unreadable",
            What::Doubled => "doubled",
            What::UnknownDocument => "unknown document",
            What::UnusedImage => "unused image",
        };
        let named =
            |name: &str, value: Option<String>| value.map(|value| format!(" {name} {value}")).unwrap_or_default();
        let subject = format!(
            "profile {}{}{}{}",
            checked.profile,
            named("job", finding.job.map(|job| job.to_string())),
            named("reference", finding.reference.clone()),
            named("ID", finding.id.clone())
        );
        writeln!(output.out, "{word:<16} {}: {}", escape(&subject), escape(&finding.detail))?;
    }
    Ok(())
}

fn conclude(sum: &VerifyTotals, ended: Option<&NoAnswer>, json: bool, output: &mut Output<'_>) -> anyhow::Result<()> {
    if json {
        serde_json::to_writer(
            &mut *output.out,
            &serde_json::json!({ "sum": sum, "complete": ended.is_none(), "ended": ended.map(ToString::to_string) }),
        )?;
        writeln!(output.out)?;
    } else {
        let unreadable = match sum.unreadable_profiles {
            0 => String::new(),
            many => format!(", and {many} that cannot be read"),
        };
        let mut line = |name: &str, text: String| writeln!(output.out, "{name:<18}{text}");
        line("profiles", format!("{}{unreadable}", sum.profiles))?;
        line(
            "documents",
            format!(
                "{}: {} exist, {} missing, {} changed, {} doubled{}",
                sum.documents,
                sum.standing,
                sum.missing,
                sum.changed,
                sum.doubled,
                if sum.removed > 0 { format!(", {} removed on purpose", sum.removed) } else { String::new() }
            ),
        )?;
        line("unknown", format!("{} documents that no job knows of", sum.unknown_documents))?;
        line(
            "leftovers",
            format!("{} images, of {} answers that were lost", sum.leftover_images, sum.possible_leftovers),
        )?;
        line(
            "other unused",
            format!(
                "{} images of jobs that ended without a document, {} of jobs under way, {} of others",
                sum.images_of_failed_jobs, sum.images_under_way, sum.foreign_images
            ),
        )?;
        if sum.files_not_checked > 0 {
            line("files", format!("{} not checked: the API has no list of files", sum.files_not_checked))?;
        }
    }
    if let Some(ended) = ended {
        output.remark(&match ended {
            NoAnswer::Stopped => "stopped: what is above is what was checked until then".to_owned(),
            NoAnswer::Key(_) => format!("error: {}; put the right key in place", escape(&ended.to_string())),
            NoAnswer::Unreachable(_) => format!("error: {}; try again when it can", escape(&ended.to_string())),
            NoAnswer::Limit(_) => format!("error: {}; run it again when there is room", escape(&ended.to_string())),
        });
    }
    Ok(())
}
