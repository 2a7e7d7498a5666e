//! `verify`: asks the API whether every created document still exists with its images, and lists what no document uses.

use std::{collections::VecDeque, time::Duration};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    filter::FilterArgs,
    output::{self, Exit, Output, escape},
    start,
};
use crate::{
    clock::Timestamp,
    config::{Config, parse_duration},
    queue::{
        Queue, QueueError, Reader, WhenStuck,
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
                  passfort-ingest verify --since 1d"
)]
pub struct VerifyArgs {
    /// On the profiles of which jobs; else of all.
    #[command(flatten)]
    pub filter: FilterArgs,

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
    let filter = args.filter.filter(Timestamp::now());
    let everything = filter == Filter::default();
    let (sum, ended) = start::block_on(async {
        let accounts = Accounts::new(config)?;
        let stop = CancellationToken::new();
        let (stopping, signalled) = (stop.clone(), start::signalled());
        let stopper = tokio::spawn(async move {
            signalled.await;
            stopping.cancel();
        });
        let (waits, waited_for) = mpsc::channel(1);
        let asking = Asking {
            queue: reader.into_async(),
            retry: RetryPolicy {
                initial: config.retry.initial,
                max: config.retry.max.min(LONGEST_DELAY),
                give_up_after: args.give_up_after,
            },
            stop,
            waits,
        };
        let checked =
            check_all(&asking, &accounts, config.workers.max_in_flight, filter, waited_for, |news| match news {
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
    if everything && ended.is_none() && sum.unreadable_profiles == 0 {
        let verified = Verified {
            at: Timestamp::now().to_string(),
            profiles: sum.profiles,
            amiss: sum.missing + sum.changed,
            leftover_images: sum.leftover_images,
        };
        // `status` shows it; an operator without the right to write the queue has seen it here.
        let noted = Queue::open_beside(&config.queue.database, WhenStuck::Fail)
            .and_then(|queue| queue.note_verified(&verified));
        if let Err(error) = noted {
            output.remark(&format!("warning: `status` will not show this, since it cannot be written down: {error}"));
        }
    }
    Ok(match ended {
        Some(NoAnswer::Key(_) | NoAnswer::Unreachable(_)) => Exit::Unreachable,
        Some(NoAnswer::Limit(_) | NoAnswer::Stopped) => Exit::WorkLeft,
        None if sum.is_well() => Exit::Well,
        None => Exit::Refused,
    })
}

/// A person waits: no delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Progress to print.
enum News {
    Checked(CheckedProfile),
    /// It waits, for this reason.
    Waits(String),
}

/// Checks the profiles that match a filter, several at a time, and prints each; returns the sum, and why it ended early
/// if it did.
async fn check_all(
    asking: &Asking,
    accounts: &Accounts,
    at_once: usize,
    filter: Filter,
    mut waits: mpsc::Receiver<String>,
    mut report: impl FnMut(News) -> std::io::Result<()>,
) -> anyhow::Result<(VerifyTotals, Option<NoAnswer>)> {
    let named = stream::try_unfold((VecDeque::new(), String::new()), |(mut page, after)| {
        let filter = filter.clone();
        async move {
            if page.is_empty() {
                let after = after.clone();
                let read = asking.queue.profiles(filter, after, PAGE);
                page = VecDeque::from(read.await?);
            }
            Ok::<_, VerifyError>(page.pop_front().map(|profile| (profile.clone(), (page, profile))))
        }
    });
    let checks = named
        .map_ok(|profile| async move { asking.check(|drop| accounts.of(drop), &profile).await })
        .try_buffer_unordered(at_once.max(1));
    let mut checks = std::pin::pin!(checks);
    let mut sum = VerifyTotals::default();
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
                    sum.add(&part.sum);
                    report(News::Checked(part))?;
                }
            }
            Some(Err(VerifyError::NoAnswer(ended))) => return Ok((sum, Some(ended))),
            Some(Err(VerifyError::Queue(error))) => return Err(error.into()),
        }
    }
    let stopped = asking.stop.is_cancelled().then_some(NoAnswer::Stopped);
    Ok((sum, stopped))
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
        writeln!(output.out, "{word:<13} {}: {}", escape(&subject), escape(&finding.detail))?;
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
            format!("{}: {} exist, {} missing, {} changed", sum.documents, sum.standing, sum.missing, sum.changed),
        )?;
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
