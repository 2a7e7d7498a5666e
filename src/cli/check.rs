//! `check`: everything that is wrong with manifests and their images, by the code that `run` and `import` use.
//!
//! Needs no network, no key, no database and no configuration, and changes nothing. Manifests are streamed: what is
//! found is printed at once, and memory does not grow with entries or problems.

mod references;
mod report;

use std::{
    io::{self, Write},
    ops::ControlFlow,
    path::PathBuf,
};

use clap::Args;
use indicatif::{HumanBytes, ProgressBar};

use super::{
    Context, Exit,
    import::{Target, targets},
    start::Usage,
};
use crate::{
    config::{Config, ConfigError, DropConfig},
    entry::EntryKind,
    inbox::beneath::Root,
    intake::examine::{ExaminedEntry, ManifestRules, Unready, examine_all, open},
    nearest::nearest,
    problem::Problem,
    queue::admission::Admission,
    relative_path,
};

use self::{
    references::{EntryPosition, ReferenceClaim, References},
    report::{CheckTotals, Printer, Status, Subject},
};

/// Say everything that is wrong with these manifests and their images.
///
/// With no network and no queue: nothing is sent, and nothing is moved or changed. What was created earlier is not known
/// here; references that are used twice are found within the manifests that are checked together.
#[derive(Debug, Args)]
#[command(
    after_help = "With --json, standard output gets one line for each manifest, an object: {\"manifest\", \"problems\": \
                  [{\"index\", \"line\", \"reference\", \"severity\", \"field\", \"path\", \"reason\", \"cure\"}, …], \
                  \"status\": \"ok\" | \"problems\" | \"unusable\", \"entries\", \"invalid\", \"images\", \"files\", \
                  \"bytes\", \"warnings\"}. What does not apply is left out of a problem. The sum goes to standard \
                  error.\n\nExit codes: 0 all good, warnings allowed; 1 something is wrong; 2 usage or configuration is \
                  wrong.\n\nExamples:\n  passfort-ingest check batch.manifest.csv\n  passfort-ingest check \
                  /srv/sftp/partner-a/incoming --drop partner-a\n  passfort-ingest check /archive --root /scans --json"
)]
pub struct CheckArgs {
    /// Manifests, or folders that are searched for *.manifest.json, *.manifest.jsonl and *.manifest.csv.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// The folder that paths in the manifests start from; else each manifest's own folder.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Check by the rules of this configured drop: its limits, and its profiles.
    #[arg(long, value_name = "NAME")]
    drop: Option<String>,

    /// Print an object for each manifest, a line each.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// Where a path, the configuration or the temporary folder cannot be used.
pub fn run(args: &CheckArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = configuration(context)?;
    let drop = asked(args.drop.as_deref(), &config)?;
    // Checksums are for the queue, and here is none.
    let rules = ManifestRules::of(drop, config.api.max_image_bytes, 0);
    let targets = targets(&args.paths, drop)?;
    let image_root = match &args.root {
        Some(root) => {
            let place = |error: io::Error| Usage(format!("--root {}: {error}", root.display()));
            Some(Root::open(root).map_err(place)?)
        }
        None => None,
    };
    let bar = if context.progress { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let printer = Printer::new(io::BufWriter::new(io::stdout()), args.json, bar.clone());
    let mut check =
        Check { rules, image_root, references: References::default(), printer, bar, sum: CheckTotals::default() };
    for (number, target) in targets.iter().enumerate() {
        match check.one(number, target, &targets) {
            Ok(()) => {}
            // The reader closed the pipe; that everything is good can no longer be reported.
            Err(error) if is_broken_pipe(&error) => return Ok(Exit::Refused),
            Err(error) => return Err(error),
        }
    }
    check.bar.finish_and_clear();
    match check.end(args.json) {
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Refused),
        ended => ended,
    }
}

/// The configuration, or the defaults where there is none and none was asked for.
fn configuration(context: &Context) -> Result<Config, ConfigError> {
    match context.load() {
        Err(ConfigError::Missing { .. }) if context.config.is_none() => Ok(Config::defaults()),
        other => other,
    }
}

fn asked<'a>(name: Option<&str>, config: &'a Config) -> Result<Option<&'a DropConfig>, Usage> {
    let Some(name) = name else { return Ok(None) };
    let drop = config.drop_named(name).ok_or_else(|| {
        let known = config.drops.iter().map(|drop| drop.name.as_str());
        let hint = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        Usage(format!("--drop {name:?}: the configuration has no such drop{hint}"))
    })?;
    Ok(Some(drop))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Check<W: Write> {
    rules: ManifestRules,
    image_root: Option<Root>,
    references: References,
    printer: Printer<W>,
    bar: ProgressBar,
    sum: CheckTotals,
}

impl<W: Write> Check<W> {
    /// Checks one manifest. Its own faults are printed; an error is this command's.
    fn one(&mut self, number: usize, target: &Target, all: &[Target]) -> anyhow::Result<()> {
        let path = target.root.join(&target.manifest);
        self.printer.begin(&path)?;
        let mut sum = CheckTotals { manifests: 1, ..CheckTotals::default() };
        let unusable = self.examine(number, target, all, &mut sum)?;
        for problem in &unusable {
            self.printer.problem(&Subject::default(), problem)?;
        }
        let status = match (unusable.is_empty(), sum.invalid) {
            (false, _) => Status::Unusable,
            (true, 0) => Status::Ok,
            (true, _) => Status::Problems,
        };
        sum.unusable = u64::from(status == Status::Unusable);
        self.printer.end(status, &sum)?;
        self.sum.add(&sum);
        Ok(())
    }

    /// Prints what is wrong with the entries; returns why the manifest itself cannot be used, if it cannot.
    fn examine(
        &mut self,
        number: usize,
        target: &Target,
        all: &[Target],
        sum: &mut CheckTotals,
    ) -> anyhow::Result<Vec<Problem>> {
        let own = match Root::open(&target.root) {
            Ok(own) => own,
            Err(error) => return Ok(vec![unready(&Unready::Io(error), &target.manifest)]),
        };
        let opened = match open(&own, &target.manifest, self.rules.limits.max_bytes) {
            Ok(opened) => opened,
            Err(error) => return Ok(vec![unready(&error, &target.manifest)]),
        };
        let Self { rules, image_root, references, printer, bar, .. } = self;
        let (images, folder) = match image_root {
            Some(root) => (&*root, ""),
            None => (&own, relative_path::parent(&target.manifest)),
        };
        let mut failure = None;
        let examined = examine_all(&opened, images, folder, rules, 0, &mut |found| {
            let judged = judge(found, number, all, references, sum).and_then(|(subject, problems)| {
                problems.iter().try_for_each(|problem| printer.problem(&subject, problem)).map_err(Into::into)
            });
            if !bar.is_hidden() {
                bar.set_message(format!("{}: {} entries, {}", target.manifest, sum.entries, HumanBytes(sum.bytes)));
                bar.tick();
            }
            match judged {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let examined = match examined {
            Ok(examined) => examined,
            Err(error) => return Ok(vec![unready(&error, &target.manifest)]),
        };
        for warning in &examined.warnings {
            sum.warnings += 1;
            printer.problem(&Subject::default(), warning)?;
        }
        Ok(examined.unusable.unwrap_or_default())
    }

    fn end(mut self, json: bool) -> anyhow::Result<Exit> {
        if json {
            let text = self.sum.to_string();
            tracing::info!("{text}");
        } else if self.sum.manifests > 0 {
            self.printer.total(&self.sum)?;
        }
        Ok(if self.sum.is_well() { Exit::Well } else { Exit::Refused })
    }
}

/// Counts an entry, and collects its problems.
fn judge(
    found: ExaminedEntry,
    manifest: usize,
    all: &[Target],
    references: &mut References,
    sum: &mut CheckTotals,
) -> anyhow::Result<(Subject, Vec<Problem>)> {
    let line = found.line;
    let (subject, claim, mut problems) = match found.admission {
        Admission::Take { entry, files } => {
            let claim = ReferenceClaim::good(&entry, &files);
            let count = files.len() as u64;
            match entry.kind() {
                EntryKind::Document => sum.images += count,
                EntryKind::File => sum.files += count,
            }
            sum.bytes += files.iter().map(|file| file.bytes).sum::<u64>();
            (Subject { index: Some(entry.index), line, reference: entry.reference }, Some(claim), Vec::new())
        }
        Admission::Invalid { index, reference, problems, .. } => {
            let claim = reference.as_deref().map(ReferenceClaim::bad);
            (Subject { index: Some(index), line, reference }, claim, problems)
        }
    };
    if let Some(claim) = claim {
        let place = EntryPosition { manifest, index: subject.index.unwrap_or_default() };
        if let Some(earlier) = references.claim(&claim, place)? {
            problems.push(earlier.problem(&claim, place, &|manifest| {
                all.get(manifest).map_or_else(PathBuf::new, |target| target.root.join(&target.manifest))
            }));
        }
    }
    problems.extend(found.warnings);
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    sum.entries += 1;
    sum.invalid += u64::from(errors > 0);
    sum.warnings += (problems.len() - errors) as u64;
    Ok((subject, problems))
}

/// What to say of a manifest that cannot be read.
fn unready(error: &Unready, path: &str) -> Problem {
    match error {
        Unready::Refused(refusal) => refusal.problem(path),
        Unready::Io(error) => {
            Problem::error(format!("it cannot be read: {error}"), "look at its folder, its disk or its mount")
                .path(path)
        }
        Unready::Changed => Problem::error(error.to_string(), "check it again when it is whole").path(path),
    }
}
