//! Commands about layouts: archives as they are, read by a file that says how.

pub(super) mod causes;
pub(super) mod propose;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use self::causes::RecordCauses;
use super::{
    output::{Exit, Output, on_streams},
    start::Usage,
};
use crate::{
    inbox::beneath::Root,
    layout::{ArchiveLayout, ArchiveTarget, LayoutCounts, LayoutError, Produced, probe, produce},
};

/// Commands about manifests.
#[derive(Debug, Subcommand)]
pub enum ManifestCommand {
    /// Print the manifest that a layout makes of an archive; sends nothing.
    FromLayout(FromLayoutArgs),
}

/// Which layout.
#[derive(Debug, Clone, Args)]
pub(super) struct LayoutChoice {
    /// The layout: how the archive's own list, or its folder and file names, become entries.
    #[arg(long, value_name = "FILE")]
    pub(super) layout: PathBuf,

    /// Override a key of the layout for once, e.g. paths.base=disk2.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

/// A layout instead of manifests.
#[derive(Debug, Clone, Args)]
struct OptionalLayout {
    /// Read the archives at these paths, folders or lists, by this layout instead of manifests.
    #[arg(long, value_name = "FILE")]
    layout: Option<PathBuf>,

    /// Override a key of the layout for once, e.g. paths.base=disk2.
    #[arg(long, value_name = "KEY=VALUE", requires = "layout")]
    set: Vec<String>,
}

/// What is read: manifests, or archives by a layout.
#[derive(Debug, Clone, Args)]
pub(super) struct InputPaths {
    /// Manifests, or folders that are searched for *.manifest.json, *.manifest.jsonl and *.manifest.csv.
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,

    /// The folder that paths in the manifests start from; else each manifest's own folder.
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,

    #[command(flatten)]
    layout: OptionalLayout,
}

impl InputPaths {
    /// Reads the layout, where there is one.
    pub(super) fn layout(&self) -> anyhow::Result<Option<ArchiveLayout>> {
        let OptionalLayout { layout, set } = &self.layout;
        let Some(file) = layout else { return Ok(None) };
        Ok(Some(ArchiveLayout::read(file, set).map_err(|error| Usage(error.to_string()))?))
    }

    /// The archives at these paths, opened one after the other; the layout is tried on the first record of each.
    pub(super) fn archives(
        &self,
        layout: &ArchiveLayout,
    ) -> impl Iterator<Item = anyhow::Result<(ArchiveTarget, Root)>> {
        self.paths.iter().map(|path| open_archive(path, layout, self.root.as_deref()))
    }
}

/// The archive at a path, opened; the layout is tried on its first record.
fn open_archive(path: &Path, layout: &ArchiveLayout, root: Option<&Path>) -> anyhow::Result<(ArchiveTarget, Root)> {
    let (target, root) = open_target(path, root)?;
    probe(layout, &target, &root).map_err(failure)?;
    Ok((target, root))
}

/// The archive at a path, opened.
fn open_target(path: &Path, root: Option<&Path>) -> anyhow::Result<(ArchiveTarget, Root)> {
    let target = ArchiveTarget::find(path, root).map_err(|error| Usage(error.to_string()))?;
    let root = Root::open(&target.root).map_err(|error| Usage(format!("{}: {error}", target.root.display())))?;
    Ok((target, root))
}

/// The arguments of `manifest from-layout`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each entry is a line of JSON, with paths from the archive's folder. What is wrong goes to standard \
                  error.\n\nExit codes: 0 all good, warnings allowed; 1 some records are no entries; 2 the layout or \
                  the usage is wrong.\n\nE.g.:\n  passfort-ingest manifest from-layout /archive --layout \
                  archive.layout.toml > batch.manifest.jsonl"
)]
pub struct FromLayoutArgs {
    /// The archive's folder, or its list.
    #[arg(value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    choice: LayoutChoice,

    /// The folder that paths in the list start from; else the list's own folder.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Reads a layout, and finds the archive.
///
/// # Errors
///
/// What is wrong with either.
pub(super) fn open(
    path: &Path,
    choice: &LayoutChoice,
    root: Option<&Path>,
) -> anyhow::Result<(ArchiveLayout, ArchiveTarget, Root)> {
    let layout = ArchiveLayout::read(&choice.layout, &choice.set).map_err(|error| Usage(error.to_string()))?;
    let (target, root) = open_target(path, root)?;
    Ok((layout, target, root))
}

/// What a failed reading is for the command.
pub(super) fn failure(error: LayoutError) -> anyhow::Error {
    match error {
        LayoutError::Wrong { .. } => Usage(error.to_string()).into(),
        error => error.into(),
    }
}

/// Prints the manifest that a layout makes.
///
/// # Errors
///
/// Where the layout or the archive cannot be used.
pub fn from_layout(args: &FromLayoutArgs) -> anyhow::Result<Exit> {
    let (layout, target, root) = open(&args.path, &args.choice, args.root.as_deref())?;
    on_streams(|output| {
        let mut causes = RecordCauses::default();
        let counts = produce(&layout, &target, &root, &mut |made| {
            match made {
                Produced::Entry { line, .. } => writeln!(output.out, "{line}").map_err(closed)?,
                Produced::Invalid(record) => record.findings.iter().for_each(|finding| causes.add(finding)),
                Produced::Remark(finding) | Produced::Repeated { finding, .. } => causes.add(&finding),
            }
            Ok(())
        });
        let counts = match counts {
            Ok(counts) => counts,
            Err(LayoutError::Io { error, .. }) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Ok(Exit::Well);
            }
            Err(error) => return Err(failure(error)),
        };
        sum_up(&layout, &target, &counts, &causes, output);
        Ok(if counts.invalid > 0 { Exit::Refused } else { Exit::Well })
    })
}

fn closed(error: std::io::Error) -> LayoutError {
    LayoutError::Io { what: "standard output".into(), error }
}

fn sum_up(
    layout: &ArchiveLayout,
    target: &ArchiveTarget,
    counts: &LayoutCounts,
    causes: &RecordCauses,
    output: &mut Output<'_>,
) {
    output.remark(&headline(layout, target, counts));
    let text = causes.to_string();
    if !text.is_empty() {
        output.remark(&format!("\n{}", text.trim_end()));
    }
}

/// One line on what a layout made of an archive.
pub(super) fn headline(layout: &ArchiveLayout, target: &ArchiveTarget, counts: &LayoutCounts) -> String {
    let name = layout.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let archive = target.root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let list = layout.list_of(target).unwrap_or(archive);
    let left_out = match counts.left_out {
        0 => String::new(),
        left_out => format!(", {left_out} left out"),
    };
    format!(
        "{} by {name}: {}{left_out}, {} ({} with {}, {}), {}, {}",
        super::output::escape(&list),
        many(counts.records, "record"),
        many(counts.documents + counts.files, "entry"),
        many(counts.documents, "document"),
        many(counts.images, "image"),
        many(counts.files, "file"),
        many(counts.invalid, "problem"),
        many(counts.warnings, "warning"),
    )
}

/// A number of things.
pub(super) fn many(count: u64, thing: &str) -> String {
    match (count, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        _ => format!("{count} {thing}s"),
    }
}
