//! `rehearse`: the whole import by the same code, against the sandbox in this process and a database that is thrown away.
//!
//! Nothing outside the temporary folder is written, and nothing is sent anywhere but to loopback.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::{
    Context, Exit,
    check::{configuration, refused_warnings},
    import::{self, ImportArgs, ImportEnd},
    layout::InputPaths,
    output::{Output, escape, on_streams, plural},
    run::try_lock,
    sandbox::SandboxRefusals,
    start::{self, Usage},
};
use crate::{
    config::{Address, Config, LimitSettings},
    queue::Reader,
    receipt::Counts,
    sandbox::{self, Sandbox},
    service::IMPORT,
    warning::RefusedWarnings,
};

/// Carry out the whole import against the built-in sandbox API and a database that is thrown away.
///
/// By the same code as `import`, so each entry comes to the same as in the real run, except for what only the API knows:
/// whether a profile exists, and what it refuses; give these to the sandbox by --profile, --category and --fault. What was
/// sent before is not known here. Nothing is sent, nothing is written beside the manifests, and limits and windows are not
/// waited for (see `plan`).
#[derive(Debug, Args)]
#[command(
    after_help = "With --json, standard output gets one line for each entry, an object as in a receipt without IDs, with \
                  \"manifest\"; and one for each manifest that is rejected.\n\nExit codes: 0 all good; 1 something would be \
                  refused; 2 usage or configuration is wrong; 3 stopped before the end.\n\nExamples:\n  passfort-ingest \
                  rehearse /archive\n  passfort-ingest rehearse batch.manifest.csv --root /archive/scans --json"
)]
pub struct RehearseArgs {
    #[command(flatten)]
    input: InputPaths,

    /// The name under which identities are kept, and the configured drop whose rules hold.
    #[arg(long, value_name = "NAME", default_value = IMPORT)]
    drop: String,

    /// Kinds of warnings that are errors, e.g. shared-image,unknown-type; `all` for every kind.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = refused_warnings)]
    refuse_warnings: Vec<RefusedWarnings>,

    #[command(flatten)]
    refusals: SandboxRefusals,

    /// Where the database is made that is thrown away; else in the folder for temporary files. A million entries need
    /// some gigabytes.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,

    /// Print an object for each entry, a line each.
    #[arg(long)]
    json: bool,
}

/// How long the sandbox may fail to answer: it is in this process.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Runs the command.
///
/// # Errors
///
/// Where a path, the configuration or the temporary folder cannot be used, or the queue fails for good.
pub fn run(args: &RehearseArgs, context: &Context) -> anyhow::Result<Exit> {
    let mut config = configuration(context)?;
    let folder = ThrowAway::new(args.scratch.as_deref())?;
    let import = ImportArgs {
        input: args.input.clone(),
        new_references: true,
        drop: args.drop.clone(),
        receipts_to: Some(folder.0.join("receipts")),
        archive_to: None,
        stages: Vec::new(),
        stop_if: Vec::new(),
        json: false,
        refuse_warnings: args.refuse_warnings.clone(),
        give_up_after: GIVE_UP_AFTER,
    };
    let targets = import::chosen(&import, &config)?;
    let (ended, calls) = start::block_on(async {
        let sandbox = stand_in(&args.refusals, &mut config, &folder.0).await?;
        let lock = try_lock(&config, "rehearse")?;
        let ended = import::work(&import, &config, context, targets, lock.ok()).await?;
        let calls = sandbox.summary().calls.values().flat_map(BTreeMap::values).sum();
        sandbox.stop().await;
        Ok((ended, calls))
    })?;
    on_streams(|output| report(&ended, &config.queue.database, calls, args.json, output))
}

/// A folder for this run, which is deleted at its end.
struct ThrowAway(PathBuf);

impl ThrowAway {
    fn new(within: Option<&Path>) -> anyhow::Result<Self> {
        let within = within.map_or_else(std::env::temp_dir, Path::to_owned);
        let folder = within.join(format!("passfort-ingest-rehearsal-{}", std::process::id()));
        let unusable = |error: io::Error| {
            Usage(format!("{} cannot be used: {error}: choose another with --scratch DIR", within.display()))
        };
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(unusable)?;
        Ok(Self(folder.canonicalize().map_err(unusable)?))
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the temporary folder cannot be deleted: delete it");
        }
    }
}

/// Starts the sandbox, and points the configuration at it and at a new database.
async fn stand_in(refusals: &SandboxRefusals, config: &mut Config, folder: &Path) -> anyhow::Result<Sandbox> {
    let key = uuid::Uuid::new_v4().simple().to_string();
    let SandboxRefusals { profiles, categories, faults } = refusals.clone();
    let options = sandbox::Options {
        keys: vec![key.clone()],
        max_image_bytes: config.api.max_image_bytes,
        profiles,
        categories,
        faults,
        ..sandbox::Options::default()
    };
    let sandbox = sandbox::start(options).await.context("the sandbox cannot start")?;
    let key_file = folder.join("api-key");
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key_file)?.write_all(key.as_bytes())?;
    config.api.base_url = Address::parse(&sandbox.base_url()).map_err(anyhow::Error::msg)?;
    config.api.api_key_file = Some(key_file);
    (config.api.proxy, config.api.ca_file) = (None, None);
    config.queue.database = folder.join("queue.db");
    // A temporary folder may be anywhere, and what is in it is not kept.
    config.queue.network_file_system = true;
    config.limits = LimitSettings::default();
    config.http = None;
    for drop in &mut config.drops {
        (drop.base_url, drop.api_key_file) = (None, None);
    }
    Ok(sandbox)
}

/// Prints what would come of each entry.
fn report(ended: &ImportEnd, database: &Path, calls: u64, json: bool, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let reader = Reader::open(database)?;
    let (mut counts, mut unusable) = (Counts::default(), 0_u64);
    for (batch, manifest) in &ended.batches {
        let end = reader.batch_end(*batch)?;
        counts.sum(&end.counts);
        unusable += u64::from(end.problems.is_some());
        let manifest = manifest.to_string_lossy();
        if !json {
            writeln!(output.out, "{}", escape(&manifest))?;
        }
        if let Some(receipt) = &end.receipt {
            each_of(receipt, &mut |entry| {
                let printed = if json { as_json(entry, &manifest) } else { as_text(&entry) };
                output.out.write_all(printed.as_bytes())
            })
            .with_context(|| format!("the receipt {}", receipt.display()))?;
        }
        if !json {
            writeln!(output.out, "  {}", in_words(&end.counts, end.problems.is_some()))?;
        }
    }
    let total = format!(
        "Rehearsed: {}, {unusable} of them unusable; {}; {calls} calls of the sandbox. Nothing was sent.",
        plural(ended.batches.len() as u64, "manifest", "manifests"),
        in_words(&counts, false),
    );
    if json {
        output.remark(&total);
    } else {
        writeln!(output.out, "\n{total}")?;
    }
    let bad = counts.failed + counts.invalid + counts.cancelled + unusable + ended.trouble > 0;
    Ok(if bad { ended.exit.max(Exit::Refused) } else { ended.exit })
}

fn in_words(counts: &Counts, rejected: bool) -> String {
    if rejected {
        return "unusable: no entry of it would be taken".to_owned();
    }
    let Counts { entries, created, duplicate, failed, cancelled, invalid } = counts;
    format!(
        "{entries} entries: {created} would be created, {duplicate} duplicate, {invalid} invalid, {} failed",
        failed + cancelled
    )
}

/// Hands out the entries of a receipt, and its header where the manifest is rejected.
fn each_of(receipt: &Path, each: &mut dyn FnMut(Value) -> io::Result<()>) -> io::Result<()> {
    let mut text = BufReader::new(fs::File::open(receipt)?);
    let mut first = String::new();
    text.read_line(&mut first)?;
    let is_lines = receipt.extension().is_some_and(|ending| ending == "jsonl");
    if !is_lines {
        text.read_to_string(&mut first)?;
    }
    let mut header: Value = serde_json::from_str(&first)?;
    let entries = header.get_mut("entries").map(Value::take);
    if header.get("status").is_some_and(|status| status == "rejected") {
        each(header)?;
    }
    if let Some(Value::Array(entries)) = entries {
        entries.into_iter().try_for_each(&mut *each)?;
    }
    for line in text.lines().filter(|_| is_lines) {
        each(serde_json::from_str(&line?)?)?;
    }
    Ok(())
}

/// The entry as a line of JSON, without the sandbox's IDs.
fn as_json(mut entry: Value, manifest: &str) -> String {
    let without = |value: &mut Value, names: &[&str]| {
        if let Value::Object(fields) = value {
            names.iter().for_each(|name| drop(fields.remove(*name)));
        }
    };
    without(&mut entry, &["document_id", "file_id", "account", "drop", "received_at", "finished_at"]);
    entry
        .get_mut("images")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .for_each(|image| without(image, &["image_id"]));
    if let Value::Object(fields) = &mut entry {
        fields.insert("manifest".to_owned(), manifest.into());
    }
    format!("{entry}\n")
}

/// What is said of an entry for people; nothing of one that would be created.
fn as_text(entry: &Value) -> String {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let mut place = Vec::new();
    place.extend(entry["index"].as_u64().map(|index| format!("index {index}")));
    place.extend(entry["reference"].as_str().map(str::to_owned));
    let place = place.join(", ");
    let status = text(entry, "status");
    let mut lines = String::new();
    let mut say = |what: &str, problem: &Value| {
        let parts = [place.clone(), text(problem, "field"), text(problem, "path"), text(problem, "reason")];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let cure = text(problem, "cure");
        let cure = if cure.is_empty() { cure } else { format!("    cure: {}\n", escape(&cure)) };
        lines.push_str(&format!("  {what}: {}\n{cure}", escape(&parts.join(": "))));
    };
    let problems = |field: &str| entry[field].as_array().cloned().unwrap_or_default();
    match (status.as_str(), problems("errors")) {
        ("created", _) => {}
        (_, errors) if errors.is_empty() => say(&status, entry),
        (_, errors) => errors.iter().for_each(|error| say(&status, error)),
    }
    problems("warnings").iter().for_each(|warning| say("warning", warning));
    lines
}
