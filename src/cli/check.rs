//! `check`: everything that is wrong with manifests and their images, by the code that `run` and `import` use.
//!
//! Needs no network, no key, no database and no configuration, and changes nothing. Manifests are streamed, and memory
//! does not grow with entries or problems.

mod archives;
pub(super) mod causes;
mod folders;
mod online;
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
    layout::InputPaths,
    start::Usage,
};
use crate::{
    config::{Config, ConfigError, DropConfig},
    entry::EntryKind,
    inbox::beneath::Root,
    intake::{
        bad_entries::{BadEntries, all_or_nothing},
        cross_check::CrossCheck,
        examine::{ExaminedEntry, ManifestRules, Unready, count_bad, examine_all, open},
        named_files::NamedFiles,
    },
    nearest::nearest,
    policy::OnInvalid,
    problem::Problem,
    queue::admission::Admission,
    relative_path,
    service::IMPORT,
    warning::RefusedWarnings,
};

use self::{
    folders::FolderCounts,
    online::{OnlineEnd, OnlineQuestions},
    references::{EntryPosition, ReferenceClaim, References},
    report::{CheckTotals, Form, Printer, Status, Subject},
};

/// Say everything that is wrong with these manifests and their images.
///
/// With no network and no queue: nothing is sent, and nothing is moved or changed. What was created earlier is not known
/// here; references that are used twice are found within the manifests that are checked together.
#[derive(Debug, Args)]
#[command(
    after_help = "With --json, standard output gets one line for each manifest, an object: {\"manifest\", \"problems\": \
                  [{\"index\", \"line\", \"reference\", \"severity\", \"kind\", \"code\", \"field\", \"path\", \
                  \"reason\", \"cure\"}, …], \"status\": \"ok\" | \"problems\" | \"unusable\", \"entries\", \
                  \"invalid\", \"images\", \"files\", \"bytes\", \"warnings\"}. What does not apply is left out of a \
                  problem. \"causes\" has what is wrong by cause: \"reason\", \"cure\", \"count\" and the first three as \
                  \"examples\". With --csv, each problem is a row: its manifest, then these fields. The sum goes to standard \
                  error.\n\nExit codes: 0 all good, warnings allowed; 1 something is wrong; 2 usage or configuration is \
                  wrong.\n\nExamples:\n  passfort-ingest check batch.manifest.csv\n  passfort-ingest check \
                  /srv/sftp/partner-a/incoming --drop partner-a\n  passfort-ingest check /archive --root /scans --json"
)]
pub struct CheckArgs {
    #[command(flatten)]
    input: InputPaths,

    /// Check by the rules of this configured drop: its limits, its profiles, and whether it takes all or nothing.
    #[arg(long, value_name = "NAME")]
    drop: Option<String>,

    /// Kinds of warnings that are errors, e.g. shared-image,unknown-type; `all` for every kind.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = refused_warnings)]
    refuse_warnings: Vec<RefusedWarnings>,

    /// Also ask the API, by reads that leave no trace: does the key work, does each profile exist, and does it have a
    /// document of that category and type already. One call for each profile, at the account's pace.
    #[arg(long)]
    online: bool,

    /// Print what is wrong one by one, not by cause.
    #[arg(long, conflicts_with_all = ["csv", "json"])]
    all: bool,

    /// Print an object for each manifest, a line each.
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print what is wrong as CSV, a row each.
    #[arg(long)]
    csv: bool,
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
    let rules = ManifestRules::of(drop, config.api.max_image_bytes, 0).refusing(&args.refuse_warnings);
    let form = match (args.json, args.csv) {
        (true, _) => Form::Json,
        (false, true) => Form::Csv,
        (false, false) if args.all => Form::All,
        (false, false) => Form::Text,
    };
    if let Some(layout) = args.input.layout()? {
        return match archives::run(args, &layout, (&config, &rules), form) {
            // The reader closed the pipe; that everything is good can no longer be reported.
            Err(error) if is_broken_pipe(&error) => Ok(Exit::Refused),
            checked => checked,
        };
    }
    let targets = targets(&args.input.paths, &config, drop, &[])?;
    let image_root = match &args.input.root {
        Some(root) => {
            let place = |error: io::Error| Usage(format!("--root {}: {error}", root.display()));
            Some(root.canonicalize().and_then(|root| Root::open(&root)).map_err(place)?)
        }
        None => None,
    };
    let bar = if context.progress { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let printer = Printer::new(io::BufWriter::new(io::stdout()), form, bar.clone());
    let mut check = Check {
        rules,
        image_root,
        references: References::default(),
        cross: CrossCheck::without_queue(),
        names: NamedFiles::of(targets.len()),
        folders: FolderCounts::default(),
        questions: args.online.then(OnlineQuestions::default),
        takes_all_or_nothing: drop.is_some_and(|drop| drop.on_invalid == OnInvalid::Reject),
        printer,
        bar,
        sum: CheckTotals::default(),
    };
    match check.printer.head() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Refused),
        written => written?,
    }
    for (number, target) in targets.iter().enumerate() {
        match check.one(number, target, &targets) {
            Ok(()) => {}
            // The reader closed the pipe; that everything is good can no longer be reported.
            Err(error) if is_broken_pipe(&error) => return Ok(Exit::Refused),
            Err(error) => return Err(error),
        }
    }
    check.folders.search(&args.input.paths, check.image_root.as_ref(), &config, drop)?;
    let online = match check.ask_online(&config, args.drop.as_deref(), &targets) {
        Err(error) if is_broken_pipe(&error) => return Ok(Exit::Refused),
        asked => asked?,
    };
    check.bar.finish_and_clear();
    match check.end(form, online.as_ref()) {
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Refused),
        ended => ended,
    }
}

/// Reads one kind of `--refuse-warnings`.
pub(super) fn refused_warnings(name: &str) -> Result<RefusedWarnings, String> {
    RefusedWarnings::parse(name).map_err(|(reason, cure)| format!("{reason}; {cure}"))
}

/// The configuration, or the defaults where there is none and none was asked for.
pub(super) fn configuration(context: &Context) -> Result<Config, ConfigError> {
    match context.load() {
        Err(ConfigError::Missing { .. }) if context.config.is_none() => Ok(Config::defaults()),
        other => other,
    }
}

pub(super) fn asked<'a>(name: Option<&str>, config: &'a Config) -> Result<Option<&'a DropConfig>, Usage> {
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
    cross: CrossCheck,
    names: NamedFiles,
    folders: FolderCounts,
    /// With `--online`.
    questions: Option<OnlineQuestions>,
    takes_all_or_nothing: bool,
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
        self.names.begin(path.display().to_string());
        let unusable = self.examine(number, target, all, &mut sum)?;
        if !unusable.is_empty() {
            self.names.takes_no_files();
        }
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
        let Self {
            rules,
            image_root,
            references,
            cross,
            names,
            folders,
            questions,
            takes_all_or_nothing,
            printer,
            bar,
            ..
        } = self;
        cross.next_manifest(target.root.join(&target.manifest).display().to_string());
        let (images, folder) = match image_root {
            Some(root) => (&*root, ""),
            None => (&own, relative_path::parent(&target.manifest)),
        };
        match count_bad(&opened, folder, rules, &|| false) {
            Ok(bad) if bad.are_too_many() => return Ok(bad.refusal()),
            Ok(_) => {}
            Err(error) => return Ok(vec![unready(&error, &target.manifest)]),
        }
        let mut failure = None;
        let mut bad = BadEntries::new(rules.max_invalid);
        let mut bad_entries = BadEntrySet::default();
        // Of entries that were good until another one was read.
        let mut bad_later = 0;
        let examined = examine_all(&opened, images, folder, rules, &*names, &mut |mut found| {
            let judged = compare(&mut found, cross, rules, sum)
                .and_then(|earlier| {
                    let errors = earlier.iter().filter(|(_, problem)| problem.is_error());
                    let later = errors.filter(|(subject, _)| bad_entries.insert(subject.index)).count() as u64;
                    bad_later += later;
                    sum.invalid += later;
                    folders.count(&found.admission, (images, folder))?;
                    if let (Some(questions), Admission::Take { entry, .. }) = (&mut *questions, &found.admission) {
                        questions.add(entry, number, found.line, None)?;
                    }
                    bad.count(&found.admission, found.line);
                    Ok((earlier, judge(found, number, all, references, sum)?))
                })
                .and_then(|(mut report, (subject, problems))| {
                    if problems.iter().any(Problem::is_error) {
                        bad_entries.insert(subject.index);
                    }
                    report.extend(problems.into_iter().map(|problem| (subject.clone(), problem)));
                    report
                        .iter()
                        .try_for_each(|(subject, problem)| printer.problem(subject, problem))
                        .map_err(Into::into)
                });
            if !bar.is_hidden() {
                bar.set_message(format!("{}: {} entries, {}", target.manifest, sum.entries, HumanBytes(sum.bytes)));
                bar.tick();
            }
            match judged {
                Ok(()) if bad.are_too_many() => ControlFlow::Break(()),
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
        if bad.are_too_many() {
            return Ok(bad.refusal());
        }
        for warning in &examined.warnings {
            sum.warnings += 1;
            printer.problem(&Subject::default(), warning)?;
        }
        let refused = bad.bad_ones() + bad_later;
        match examined.unusable {
            None if *takes_all_or_nothing && refused > 0 => Ok(vec![all_or_nothing(refused, examined.entries)]),
            unusable => Ok(unusable.unwrap_or_default()),
        }
    }

    /// Asks the API about the good entries, where that is wanted.
    fn ask_online(
        &mut self,
        config: &Config,
        drop: Option<&str>,
        targets: &[Target],
    ) -> anyhow::Result<Option<OnlineEnd>> {
        let Some(questions) = self.questions.take() else { return Ok(None) };
        let (printer, sum) = (&mut self.printer, &mut self.sum);
        printer.begin_online()?;
        let end = questions.ask(config, drop.unwrap_or(IMPORT), &mut |manifest, (subject, _), problem| {
            let path = targets.get(manifest).map(|target| target.root.join(&target.manifest)).unwrap_or_default();
            if problem.is_error() {
                sum.invalid += 1
            } else {
                sum.warnings += 1
            }
            printer.online(&path, &subject, &problem)
        })?;
        printer.end_online(end.profiles, end.ended.as_ref().map(ToString::to_string))?;
        Ok(Some(end))
    }

    fn end(mut self, form: Form, online: Option<&OnlineEnd>) -> anyhow::Result<Exit> {
        let folders = format!("{}{}", self.folders.in_words(), online.map(online::in_words).unwrap_or_default());
        if matches!(form, Form::Json | Form::Csv) {
            let text = self.sum.to_string();
            tracing::info!("{text}");
            folders.lines().for_each(|line| tracing::info!("{line}"));
        } else if self.sum.manifests > 0 {
            self.printer.total(&self.sum, &folders)?;
        }
        let exit = if self.sum.is_well() { Exit::Well } else { Exit::Refused };
        Ok(exit.max(online.map_or(Exit::Well, OnlineEnd::exit)))
    }
}

/// Which entries of a manifest are bad: one may be bad for several others, and counts once. A bit for each entry.
#[derive(Default)]
struct BadEntrySet(Vec<u64>);

impl BadEntrySet {
    /// Says whether the entry was not known to be bad.
    fn insert(&mut self, index: Option<u64>) -> bool {
        let Some((word, bit)) = index.and_then(|index| Some((usize::try_from(index / 64).ok()?, 1 << (index % 64))))
        else {
            return false;
        };
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let Some(bits) = self.0.get_mut(word) else { return false };
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }
}

/// Adds what a comparison with other entries says of an entry; gives what it says of earlier ones.
fn compare(
    found: &mut ExaminedEntry,
    cross: &mut CrossCheck,
    rules: &ManifestRules,
    sum: &mut CheckTotals,
) -> anyhow::Result<Vec<(Subject, Problem)>> {
    let Some((entry, files)) = found.compared() else { return Ok(Vec::new()) };
    let earlier = cross.remember(entry, files)?;
    if let Admission::Take { entry, files } = &found.admission {
        let warnings = cross.warnings(entry, files)?;
        found.warn(warnings, &rules.refused);
    }
    let mut report = Vec::new();
    for (index, problem) in earlier {
        let (errors, warnings) = rules.refused.divide(vec![problem]);
        sum.warnings += warnings.len() as u64;
        let subject = Subject { index: Some(index), ..Subject::default() };
        report.extend(errors.into_iter().chain(warnings).map(|problem| (subject.clone(), problem)));
    }
    Ok(report)
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
        // Only a queue knows what was created before.
        Admission::Known { entry, .. } | Admission::Unchanged { entry, .. } => {
            (Subject { index: Some(entry.index), line, reference: entry.reference }, None, Vec::new())
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
pub(super) fn unready(error: &Unready, path: &str) -> Problem {
    match error {
        Unready::Refused(refusal) => refusal.problem(path),
        Unready::Io(error) => {
            Problem::error(format!("it cannot be read: {error}"), "look at its folder, its disk or its mount")
                .path(path)
        }
        Unready::Layout(why) => Problem::error(why.clone(), "correct the layout or its lookup").path(path),
        Unready::Changed => Problem::error(error.to_string(), "check it again when it is whole").path(path),
        Unready::Queue(error) => Problem::error(error.to_string(), "look at the queue's disk").path(path),
    }
}
