//! `show`: all about one job.

use super::{
    act::describe,
    output::{self, Exit, Output, QueueContext, Rows, cell, escape},
    why::numbered,
};
use crate::{
    clock::Timestamp,
    queue::{
        QueueError, Reader,
        acts::ActRow,
        control::Pause,
        verified::DoubledDocument,
        views::jobs::{JobDetail, JobRow},
    },
    waits::SendingWaits,
};

/// The arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g.:\n  passfort-ingest show 17\n  passfort-ingest show batch=3")]
pub struct ShowArgs {
    /// The job's number, as `jobs` lists it; or `batch N`, or `arrival N`, as the log names manifests
    #[arg(value_name = "JOB", num_args = 1..=2, required = true)]
    pub job: Vec<String>,

    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints all about one job.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &ShowArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    output::on_streams(|output| show(args, context, Timestamp::now(), output))
}

pub(super) fn show(
    args: &ShowArgs,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let reader = match Reader::open(&context.database) {
        Err(error @ QueueError::Absent { .. }) => return Ok(output.refuse_usage(&error.to_string())),
        reader => reader?,
    };
    let asked = args.job.join("=");
    let Ok(job) = asked.trim_start_matches("job=").parse::<i64>() else {
        return manifest(&reader, &asked, args.json, now, output);
    };
    let Some(detail) = reader.job(job)? else {
        return Ok(output.refuse_usage(&format!("there is no job {job}; `jobs` lists those that there are")));
    };
    let waits = SendingWaits::read(&reader, now)?;
    if args.json {
        let mut value = serde_json::to_value(&detail)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("why".into(), waits.why(&detail.job, now).into());
        }
        output.json(&value)?;
    } else {
        page(&detail, &waits, now, output)?;
    }
    Ok(Exit::Well)
}

/// A manifest by the number that the log gives it.
fn manifest(reader: &Reader, asked: &str, json: bool, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let known = numbered(reader, asked, now)?;
    let batch = asked.strip_prefix("batch=").and_then(|number| number.parse().ok());
    let batch = batch.map(|number| reader.batch(number)).transpose()?.flatten();
    match (batch, known.as_slice()) {
        (_, []) => {
            let said = format!("there is no {}; ask as `show 17`, `show batch 3` or `show arrival 801`", escape(asked));
            return Ok(output.refuse_usage(&said));
        }
        (Some(batch), _) if json => {
            let mut value = serde_json::to_value(&batch)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("acts".into(), serde_json::to_value(reader.acts_of_batch(batch.batch)?)?);
            }
            output.json(&value)?;
        }
        (_, known) if json => output.json(&known)?,
        (batch, known) => {
            known.iter().try_for_each(|finding| writeln!(output.out, "{}", escape(&finding.text)))?;
            for act in batch.map_or(Ok(Vec::new()), |batch| reader.acts_of_batch(batch.batch))? {
                let ActRow { at, who, words, jobs, .. } = act;
                writeln!(output.out, "{} by {}, for {jobs} of its jobs: {}", at, escape(&who), escape(&words))?;
            }
        }
    }
    Ok(Exit::Well)
}

fn page(detail: &JobDetail, waits: &SendingWaits, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<()> {
    let job = &detail.job;
    let mut line = |name: &str, text: &str| match text {
        "" => Ok(()),
        text => writeln!(output.out, "{name:<15}{}", escape(text)),
    };
    line("job", &job.id.to_string())?;
    line("state", job.state.as_str())?;
    line("why", &waits.why(job, now))?;
    for pause in waits.pauses.iter().filter(|pause| concerns(pause, job)) {
        line("paused", &describe(pause))?;
    }
    line("drop", &job.drop)?;
    line("manifest", &format!("{}/{}, entry {}", detail.root, job.manifest, job.index))?;
    line("receipt", &cell(detail.receipt.as_ref()))?;
    line("reference", &cell(job.reference.as_ref()))?;
    line("profile", &job.profile_id)?;
    line("category", &job.category)?;
    line("document type", &job.document_type)?;
    line("name", &cell(job.name.as_ref()))?;
    line(&format!("{} ID", job.kind), &cell(job.remote_id.as_ref()))?;
    line("removed", &job.removed_at.map(|at| format!("on purpose, as a person said at {at}")).unwrap_or_default())?;
    line("doubled", &detail.doubled.as_ref().map(doubled).unwrap_or_default())?;
    line("same as", &job.twin_of.map(|twin| format!("job {twin}")).unwrap_or_default())?;
    line("tries", &if job.attempts > 0 { format!("{} failed", job.attempts) } else { String::new() })?;
    line("taken in", &cell(job.created_at))?;
    line("ended", &cell(job.ended_at))?;
    for problem in &job.problems {
        let place =
            problem.path.as_ref().or(problem.field.as_ref()).map(|place| format!("{place}: ")).unwrap_or_default();
        line("problem", &format!("{place}{}; {}", problem.reason, problem.cure))?;
    }
    line("cause", &job.cause.map(|cause| format!("{cause}, see `causes`")).unwrap_or_default())?;
    let trial = detail.waits_for_trial_of.map(|cause| format!("waits for the trial of cause {cause}"));
    line("retry", &trial.unwrap_or_default())?;
    for ActRow { at, who, words, .. } in &detail.acts {
        line("by a person", &format!("{who}, {at}: {words}"))?;
    }
    for warning in &detail.warnings {
        let place =
            warning.path.as_ref().or(warning.field.as_ref()).map(|place| format!("{place}: ")).unwrap_or_default();
        line("warning", &format!("{}: {place}{}; {}", warning.kind.as_str(), warning.reason, warning.cure))?;
    }
    uploads(detail, output)?;
    calls(detail, output)
}

/// What is known of further documents with the same images.
fn doubled(doubled: &DoubledDocument) -> String {
    let ids = doubled.document_ids.join(", ");
    match doubled.resolved_at {
        Some(since) => format!("no longer, at {since}; found at {}: {ids}", doubled.found_at),
        None => format!("found at {}: {ids}; remove all but one in the portal, then run `verify`", doubled.found_at),
    }
}

/// Whether a pause may keep this job from being sent; which account it uses, only the configuration knows.
fn concerns(pause: &Pause, job: &JobRow) -> bool {
    let of_another_drop = pause.scope.strip_prefix("drop:").is_some_and(|drop| drop != job.drop);
    !job.state.has_ended() && !of_another_drop
}

fn uploads(detail: &JobDetail, output: &mut Output<'_>) -> anyhow::Result<()> {
    writeln!(output.out)?;
    let header = ["IMAGE", "TYPE", "BYTES", "ID", "LOST ANSWERS", "SHA256", "PATH"];
    let mut rows = Rows::new(&header, &["IMAGE", "BYTES", "LOST ANSWERS"], output.terminal);
    for (at, upload) in detail.uploads.iter().enumerate() {
        rows.add([
            at.to_string(),
            upload.image_type.clone().unwrap_or_else(|| "-".into()),
            upload.bytes.to_string(),
            upload.remote_id.clone().unwrap_or_else(|| "not sent".into()),
            upload.lost_answers.to_string(),
            upload.sha256.clone(),
            upload.path.clone(),
        ]);
    }
    rows.write(output.out)?;
    Ok(())
}

fn calls(detail: &JobDetail, output: &mut Output<'_>) -> anyhow::Result<()> {
    writeln!(output.out)?;
    if detail.calls.is_empty() {
        writeln!(output.out, "no call to the API was made for it")?;
        return Ok(());
    }
    let header = ["CALL AT", "OPERATION", "IMAGE", "OUTCOME", "MS", "BYTES SENT", "DETAIL"];
    let mut rows = Rows::new(&header, &["IMAGE", "MS", "BYTES SENT"], output.terminal);
    for call in &detail.calls {
        rows.add([
            cell(call.at),
            call.operation.clone(),
            cell(call.position),
            call.outcome.clone(),
            call.took_ms.to_string(),
            call.sent_bytes.to_string(),
            cell(call.detail.as_ref()),
        ]);
    }
    rows.write(output.out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cli::output::tests::capture,
        job::{Creation, WaitReason},
        queue::{
            control::Cause,
            test_support::{NOW, Site},
        },
    };

    fn shown(site: &Site, job: i64, json: bool) -> (Exit, String, String) {
        capture(|output| show(&ShowArgs { job: vec![job.to_string()], json }, &site.context(), NOW, output))
    }

    #[test]
    fn a_waiting_job_says_what_for_and_lists_its_calls() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "evil\u{202e}"]);
        site.put_off(site.job("one"), WaitReason::Retry, Creation::None, NOW.after(Duration::from_secs(14)));
        site.queue.pause("", Cause::Operator, None, NOW).unwrap();
        site.queue.pause("drop:other", Cause::Operator, None, NOW).unwrap();
        let (exit, out, _) = shown(&site, site.job("one"), false);
        assert_eq!(exit, Exit::Well);
        assert!(out.contains("waiting for a retry: due in 14 s, try 3: HTTP 503"), "{out}");
        assert!(out.contains("everything is paused by a person") && !out.contains("drop other"), "{out}");
        assert!(out.contains("img/one.png") && out.contains("not sent"), "{out}");
        assert!(out.contains("upload_image") && out.contains("try_again"), "{out}");
        let (_, out, _) = shown(&site, site.job("evil\u{202e}"), false);
        assert!(out.contains("evil\\u{202e}") && !out.contains('\u{202e}'), "{out}");
        assert!(out.contains("no call to the API"), "{out}");
    }

    #[test]
    fn json_has_the_ids() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        site.create(site.job("one"), "doc");
        let (_, out, _) = shown(&site, 1, true);
        let seen: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(seen["remote_id"], "doc");
        assert_eq!(seen["uploads"][0]["remote_id"], "image-of-doc");
        assert_eq!(seen["calls"].as_array().unwrap().len(), 2);
        assert_eq!(seen["why"], "created as doc");
    }

    #[test]
    fn the_numbers_of_the_log_are_understood() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let asked = |words: &[&str]| {
            let job = words.iter().map(|&word| word.to_owned()).collect();
            capture(|output| show(&ShowArgs { job, json: false }, &site.context(), NOW, output))
        };
        for words in [&["batch=1"][..], &["batch", "1"]] {
            let (exit, out, _) = asked(words);
            assert_eq!(exit, Exit::Well);
            assert!(out.starts_with("batch 1: a.manifest.json in drop"), "{out}");
        }
        assert!(asked(&["job=1"]).1.starts_with("job            1"));
        assert_eq!(asked(&["batch=9"]).0, Exit::Usage);
        assert_eq!(asked(&["arrival", "9"]).0, Exit::Usage);
    }

    #[test]
    fn an_unknown_number_is_a_slip_of_the_person() {
        let (exit, out, err) = shown(&Site::new(), 99, false);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("there is no job 99"), "{err}");
    }
}
