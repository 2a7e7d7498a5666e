//! `why`: explains a path. For a manifest or a file in a drop, what it waits for, why it was refused, or where it went.
//!
//! The queue is asked first, the disk only for what the queue does not know, and no file is read. A path may be
//! absolute, relative, or only the end of one.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

use serde::Serialize;

use super::{
    act::describe,
    output::{self, Exit, Output, QueueContext, escape},
};
use crate::{
    clock::Timestamp,
    config::{DropConfig, duration_text},
    entry::RelativePath,
    inbox::scan::path_without_hidden,
    job::JobState,
    manifest::near_name::is_near_name,
    problem::Problem,
    queue::{
        QueueError, Reader,
        lock::Lock,
        views::{
            overview::ArrivalRow,
            trace::{self, BatchRow},
        },
    },
    reason::in_words,
    waits::SendingWaits,
    warning::Warning,
};

/// The arguments of `why`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g.:\n  passfort-ingest why /srv/sftp/partner-a/incoming/batch-7.manifest.json\n  \
                        passfort-ingest why 17/front.jpg")]
pub struct WhyArgs {
    /// A manifest, an image, a file, or a receipt, by the end of its path; or a number of the log: `17`, `job=17`,
    /// `batch=3`, `arrival=801`
    #[arg(value_name = "PATH")]
    pub path: String,

    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// One thing that is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Explanation {
    /// `waiting`, `manifest`, `job`, `file`, `refused` or `disk`: where the knowledge comes from.
    about: &'static str,
    /// The job, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<i64>,
    /// The same for a person.
    pub(super) text: String,
}

impl Explanation {
    fn new(about: &'static str, text: String) -> Self {
        Self { about, job: None, text }
    }
}

/// Prints what is known of a path.
///
/// # Errors
///
/// Those of the database and of writing.
pub fn run(args: &WhyArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    let absolute = std::path::absolute(&args.path).unwrap_or_else(|_| PathBuf::from(&args.path));
    output::on_streams(|output| why(args, &absolute, context, Timestamp::now(), output))
}

pub(super) fn why(
    args: &WhyArgs,
    absolute: &Path,
    context: &QueueContext,
    now: Timestamp,
    output: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let given = args.path.trim_start_matches("./");
    if given.is_empty() || given == "/" {
        return Ok(output.refuse_usage("which file? name a manifest, an image, or a receipt, e.g. `why 17/front.jpg`"));
    }
    let mut findings = match Reader::open(&context.database) {
        Ok(reader) => in_queue(&reader, given, absolute, context, now)?,
        Err(QueueError::Absent { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if findings.is_empty() {
        findings = on_disk(given, absolute, context);
    }
    let known = !findings.is_empty();
    let advice = if known { remarks(context)? } else { advice(context)? };
    if args.json {
        output
            .json(&serde_json::json!({ "path": args.path, "known": known, "findings": findings, "advice": advice }))?;
    } else {
        for finding in &findings {
            writeln!(output.out, "{}", escape(&finding.text))?;
        }
        output.out.flush()?;
        if !known {
            output.remark(&format!("nothing is known of {}", escape(&args.path)));
        }
        for advice in &advice {
            output.remark(&escape(advice));
        }
    }
    Ok(if known { Exit::Well } else { Exit::Refused })
}

fn in_queue(
    reader: &Reader,
    given: &str,
    absolute: &Path,
    context: &QueueContext,
    now: Timestamp,
) -> Result<Vec<Explanation>, QueueError> {
    let waits = SendingWaits::read(reader, now)?;
    let mut findings = numbered(reader, given, now)?;
    for arrival in reader.arrivals(u32::MAX)? {
        findings.extend(waiting(&arrival, given, context, now));
    }
    // A manifest that cannot be read because of its name has a receipt under an escaped one.
    let escaped = path_without_hidden(given.as_bytes());
    let also = (escaped != given).then_some(escaped.as_str());
    for batch in reader
        .batches_at(given)?
        .into_iter()
        .chain(also.map_or_else(|| Ok(Vec::new()), |path| reader.batches_at(path))?)
    {
        findings.push(Explanation::new("manifest", manifest(reader, &batch)?));
    }
    let mut jobs = Vec::new();
    // Links in a drop's path are resolved where the file still exists.
    let resolved = absolute.canonicalize().ok().filter(|resolved| resolved != absolute);
    for place in [Some(absolute), resolved.as_deref()].into_iter().flatten() {
        jobs.extend(reader.jobs_at(place)?);
    }
    if jobs.is_empty() && findings.is_empty() {
        jobs = reader.jobs_named(given)?;
    }
    jobs.dedup();
    for id in jobs {
        findings.extend(file(reader, id, given, &waits, now)?);
    }
    for entry in reader.invalid_entries_with(given)? {
        let beside = Path::new(&entry.manifest);
        let named = |problem: &&Problem| {
            let path = problem.path.as_deref();
            path.is_some_and(|path| is_meant(given, &entry.drop, &beside.with_file_name(path), context))
        };
        let problems: Vec<String> = entry.problems.iter().filter(named).map(line_of).collect();
        if problems.is_empty() {
            continue;
        }
        findings.push(Explanation::new(
            "refused",
            format!(
                "entry {} of {} in drop {} was refused for it: {}",
                entry.index.unwrap_or_default(),
                entry.manifest,
                entry.drop,
                problems.join("; ")
            ),
        ));
    }
    Ok(findings)
}

/// What a number of the log stands for, as `17` or `batch=17`.
pub(super) fn numbered(reader: &Reader, given: &str, now: Timestamp) -> Result<Vec<Explanation>, QueueError> {
    let (kind, number) = given.split_once('=').unwrap_or(("", given));
    let Ok(number) = number.parse::<i64>() else { return Ok(Vec::new()) };
    let is = |wanted: &str| kind.is_empty() || kind == wanted;
    let mut findings = Vec::new();
    for arrival in
        reader.arrivals(u32::MAX)?.iter().filter(|row| is("arrival") && i64::try_from(row.arrival) == Ok(number))
    {
        findings.push(not_taken(arrival, now));
    }
    if let Some(batch) = reader.batch(number)?.filter(|_| is("batch")) {
        findings.push(Explanation::new("manifest", format!("batch {number}: {}", manifest(reader, &batch)?)));
    }
    if let Some(detail) = reader.job(number)?.filter(|_| is("job")) {
        let job = &detail.job;
        let why = SendingWaits::read(reader, now)?.why(job, now);
        let text = format!(
            "job {number}, entry {} of {} in drop {}, is {}: {why}",
            job.index, job.manifest, job.drop, job.state
        );
        findings.push(Explanation { about: "job", job: Some(number), text });
    }
    Ok(findings)
}

/// Explains a manifest that is not taken in yet.
fn not_taken(arrival: &ArrivalRow, now: Timestamp) -> Explanation {
    let since = arrival.first_seen.map(|seen| in_words(now.since(seen))).unwrap_or_default();
    let ArrivalRow { drop, manifest, reason, missing, .. } = arrival;
    let named = missing.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let named = if named.is_empty() { named } else { format!("; missing are: {named}") };
    let until = gives_up(arrival, now);
    let text = format!("{manifest} in drop {drop} is not taken in yet, for {since}: {reason}{named}{until}");
    Explanation::new("waiting", text)
}

/// When a manifest is taken in without what it waits for.
fn gives_up(arrival: &ArrivalRow, now: Timestamp) -> String {
    let at = arrival.gives_up_at.filter(|at| *at > now);
    at.map(|at| format!("; at {at} it is taken in without them, in {}", in_words(at.since(now)))).unwrap_or_default()
}

fn line_of(problem: &Problem) -> String {
    let place = problem.path.as_ref().or(problem.field.as_ref()).map(|place| format!("{place}: ")).unwrap_or_default();
    format!("{place}{} ({})", problem.reason, problem.cure)
}

/// Explains a path that is a manifest not admitted yet, or a file that one waits for.
fn waiting(arrival: &ArrivalRow, given: &str, context: &QueueContext, now: Timestamp) -> Option<Explanation> {
    let since = arrival.first_seen.map(|seen| in_words(now.since(seen))).unwrap_or_default();
    let ArrivalRow { drop, manifest, reason, missing, in_use, .. } = arrival;
    if is_meant(given, drop, Path::new(manifest), context) {
        return Some(not_taken(arrival, now));
    }
    missing
        .iter()
        .chain(in_use)
        .any(|file| is_meant(given, drop, &Path::new(manifest).with_file_name(file), context))
        .then(|| {
            let until = gives_up(arrival, now);
            let text = format!("{manifest} in drop {drop} waits for it, for {since}: {reason}{until}");
            Explanation::new("waiting", text)
        })
}

/// Whether a path within a drop is the one that was asked about: equal where an absolute path was given and the drop's
/// folder is known, else the end of it.
fn is_meant(given: &str, drop: &str, relative: &Path, context: &QueueContext) -> bool {
    let folder = context.config.as_ref().and_then(|config| config.drop_named(drop)).map(|drop| drop.path.as_path());
    match folder {
        Some(folder) if given.starts_with('/') => Path::new(given) == folder.join(relative),
        _ => relative.to_str().is_some_and(|relative| trace::same_end(relative, given)),
    }
}

/// Entries that did not make it and are named with their reasons.
const NAMED_ENTRIES: u32 = 3;

/// Explains a manifest that was admitted.
fn manifest(reader: &Reader, batch: &BatchRow) -> Result<String, QueueError> {
    let BatchRow { drop, manifest, .. } = batch;
    let taken = batch.received_at.map(|at| at.to_string()).unwrap_or_default();
    let mut text = format!("{manifest} in drop {drop} was taken in at {taken}");
    if !batch.problems.is_empty() {
        let problems: Vec<String> = batch.problems.iter().map(line_of).collect();
        text.push_str(&format!(", and is unusable: {}", problems.join("; ")));
    }
    let mut counts: Vec<String> = batch.jobs.iter().map(|(state, jobs)| format!("{jobs} {state}")).collect();
    if batch.invalid > 0 {
        counts.push(format!("{} invalid", batch.invalid));
    }
    if batch.unchanged > 0 {
        counts.push(format!("{} unchanged since they were created", batch.unchanged));
    }
    if !counts.is_empty() {
        text.push_str(&format!("; its entries: {}", counts.join(", ")));
    }
    if let Some(gone) = batch.gone.filter(|gone| *gone > 0) {
        let jobs: Vec<String> = batch.gone_jobs.iter().map(i64::to_string).collect();
        text.push_str(&format!("; {gone} are gone since it was last taken in, of jobs {}", jobs.join(", ")));
    }
    let failed: i64 =
        batch.jobs.iter().filter(|(state, _)| state == JobState::Failed.as_str()).map(|(_, jobs)| jobs).sum();
    let unwell = failed + batch.invalid;
    if unwell > 0 {
        // Entries that have not ended are among these, without problems.
        let entries = reader.failed_entries(batch.batch, 0, NAMED_ENTRIES)?;
        for entry in entries.iter().filter(|entry| !entry.problems.is_empty()) {
            let name = entry.reference.as_ref().map(|reference| format!(" ({reference})")).unwrap_or_default();
            let problems: Vec<String> = entry.problems.iter().map(line_of).collect();
            text.push_str(&format!("; entry {}{name}: {}", entry.index, problems.join("; ")));
        }
        if unwell > i64::from(NAMED_ENTRIES) {
            text.push_str(&format!("; all {unwell}: `show batch {}`", batch.batch));
        }
    }
    text.push_str(match batch.state.as_str() {
        "admitting" => "; not all of it is taken in yet",
        "open" => "; it is settled when all of them have ended",
        "ended" => "; all of them have ended, and its receipt is written next",
        "published" => "; its receipt is written, and its files are moved next",
        _ => "; it is settled",
    });
    for Warning { kind, reason, cure, .. } in &batch.warnings {
        text.push_str(&format!("; warning: {}: {reason}; {cure}", kind.as_str()));
    }
    if let Some(trouble) = &batch.trouble {
        text.push_str(&format!("; it cannot be settled: {trouble}"));
    }
    if let Some(receipt) = batch.receipt.as_ref().filter(|_| batch.state != "open") {
        text.push_str(&format!("; receipt: {receipt}"));
    }
    if let Some(folder) = &batch.moved_to {
        text.push_str(&format!("; its files were moved to {folder}"));
    }
    Ok(text)
}

/// Explains a file that a job names.
fn file(
    reader: &Reader,
    id: i64,
    given: &str,
    waits: &SendingWaits,
    now: Timestamp,
) -> Result<Option<Explanation>, QueueError> {
    let Some(detail) = reader.job(id)? else { return Ok(None) };
    let job = &detail.job;
    let upload = detail.uploads.iter().find(|upload| trace::same_end(&upload.path, given)).or(detail.uploads.first());
    let (path, sent) = match upload {
        Some(upload) => (upload.path.as_str(), upload.remote_id.as_ref()),
        None => (given, None),
    };
    let sent = match sent {
        Some(id) if job.kind == "document" => format!(" (its image ID is {id})"),
        _ => String::new(),
    };
    let text = format!(
        "{path} belongs to job {id}, entry {} of {} in drop {}{sent}, which is {}: {}",
        job.index,
        job.manifest,
        job.drop,
        job.state,
        waits.why(job, now)
    );
    Ok(Some(Explanation { about: "file", job: Some(id), text }))
}

/// What the disk and the configuration say of a file that the queue does not know.
fn on_disk(given: &str, absolute: &Path, context: &QueueContext) -> Vec<Explanation> {
    let drops = context.config.iter().flat_map(|config| &config.drops);
    drops
        .filter_map(|drop| {
            let inside = [absolute.to_owned(), drop.path.join(given)];
            let path = inside.into_iter().find(|path| {
                !path.components().any(|part| part == Component::ParentDir)
                    && path.strip_prefix(&drop.path).is_ok_and(|relative| relative.parent().is_some())
                    && path.symlink_metadata().is_ok()
            })?;
            Some(Explanation::new(
                "disk",
                format!("{} is in drop {}: {}", path.display(), drop.name, not_queued(drop, &path)),
            ))
        })
        .collect()
}

/// Why a file that is in a drop is not in the queue.
fn not_queued(drop: &DropConfig, path: &Path) -> String {
    let Ok(metadata) = path.symlink_metadata() else { return "it cannot be looked at".to_owned() };
    let relative = path.strip_prefix(&drop.path).unwrap_or(path);
    if drop.is_own(path) {
        return "it is in one of the drop's own folders, which are never read".to_owned();
    }
    if metadata.is_dir() {
        return "it is a folder; ask about a file in it".to_owned();
    }
    if !metadata.is_file() {
        return "it is no plain file, and links and devices are never read".to_owned();
    }
    let ignored = relative.ancestors().find(|part| !part.as_os_str().is_empty() && drop.ignore.matches(part));
    if ignored.is_some() {
        return format!("its name is ignored; `ignore` is {}", drop.ignore.texts().join(", "));
    }
    if relative.to_str().is_none() {
        return "its name is not UTF-8, so no manifest can name it".to_owned();
    }
    let name = relative.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if !drop.is_manifest(relative) && is_near_name(name, |name| drop.is_manifest(relative.with_file_name(name))) {
        return format!(
            "it looks like a manifest and is none, so it is never read; rename it to fit `manifests`, which is {}",
            drop.manifest_patterns().join(", ")
        );
    }
    if !drop.is_manifest(relative) {
        return format!(
            "no manifest that was taken in names it, and it is none itself; `manifests` is {}",
            drop.manifest_patterns().join(", ")
        );
    }
    let folders = relative.components().count().saturating_sub(1);
    if !drop.recursive && folders > 0 {
        return "it is named like a manifest, but the drop is not recursive, so its folder is not read".to_owned();
    }
    if folders > drop.max_depth {
        return format!(
            "it is named like a manifest, but is {folders} folders deep, more than {}, so its folder is not read; send it \
             less deeply nested, or raise max_depth of the drop",
            drop.max_depth
        );
    }
    if relative.as_os_str().len() > drop.max_path_bytes {
        return format!(
            "it is named like a manifest, but its path is longer than {} bytes, so it is not read; give its folders shorter \
             names, or raise max_path_bytes of the drop",
            drop.max_path_bytes
        );
    }
    if let Some(Err(reason)) = relative.to_str().map(RelativePath::parse) {
        return format!(
            "it is named like a manifest and is not read: {reason}; send it under another name, and remove this one"
        );
    }
    if let Some(marker) = drop.done_marker.as_ref().filter(|marker| !marker.is_empty()) {
        let mut beside = path.as_os_str().to_owned();
        beside.push(marker);
        if !Path::new(&beside).exists() {
            return format!("it is a manifest, and counts once {} is there", Path::new(&beside).display());
        }
    }
    format!(
        "it is a manifest that is not taken in yet; that is done once it has not changed for {}, and at the latest \
         {} after that",
        duration_text(drop.settle),
        duration_text(drop.rescan_every)
    )
}

/// What else stops progress.
fn remarks(context: &QueueContext) -> Result<Vec<String>, QueueError> {
    let mut remarks = Vec::new();
    if Lock::holder(&context.database).is_none() {
        remarks.push("nobody works on the queue at present: start it with `run`".to_owned());
    }
    if let Ok(reader) = Reader::open(&context.database) {
        remarks.extend(reader.pauses()?.iter().map(describe));
    }
    Ok(remarks)
}

/// What to check where nothing is known.
fn advice(context: &QueueContext) -> Result<Vec<String>, QueueError> {
    let mut advice = Vec::new();
    match context.config.as_ref().map(|config| config.drops.as_slice()) {
        None => advice.push("no configuration was read: give it with --config, so that the drops are known".to_owned()),
        Some([]) => advice.push("no drop is configured: add a [[drop]] with its path".to_owned()),
        Some(drops) => {
            let names: Vec<String> =
                drops.iter().map(|drop| format!("{} ({})", drop.path.display(), drop.name)).collect();
            advice.push(format!("is it in one of the drops? they are {}", names.join(", ")));
            advice.push("is its name spelt as on disk? the end of the path is enough".to_owned());
        }
    }
    advice.extend(remarks(context)?);
    Ok(advice)
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
