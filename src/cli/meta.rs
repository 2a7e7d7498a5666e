//! `completions`, `man`, `schema`: what the program says about itself. Reads no queue and no configuration.

use std::{io::Write, path::PathBuf};

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::output::{self, Exit, Output};

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g.:\n  passfort-ingest completions bash > /etc/bash_completion.d/passfort-ingest")]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "E.g.:\n  passfort-ingest man | man -l -\n  passfort-ingest man --dir /usr/local/share/man/man1"
)]
pub struct ManArgs {
    /// Write one page a command into this folder instead
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The arguments of `schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g.:\n  passfort-ingest schema manifest > manifest.schema.json")]
pub struct SchemaArgs {
    /// Of what
    #[arg(value_enum, value_name = "WHAT")]
    pub what: Schema,
}

/// What there is a schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Schema {
    /// The JSON manifest.
    Manifest,
    /// Layouts, for editors of TOML.
    Layout,
    /// Receipts, with the stable names of reasons.
    Receipt,
    /// What a receiver of alerts is sent.
    Alert,
}

/// Writes the completions of a shell.
///
/// # Errors
///
/// Those of writing.
pub fn completions(args: &CompletionsArgs, command: Command) -> anyhow::Result<Exit> {
    output::on_streams(|output| write_completions(args.shell, command, output))
}

fn write_completions(shell: Shell, mut command: Command, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let name = command.get_name().to_owned();
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    if shell == Shell::Bash {
        script = mend_bash(&String::from_utf8_lossy(&script), command.get_name()).into_bytes();
    }
    output.out.write_all(&script)?;
    Ok(Exit::Well)
}

/// The generator gives a program with a hyphen in its name two labels: one where it finds the subcommand, another where it
/// offers what belongs to it. So nothing was completed below the first word.
fn mend_bash(script: &str, name: &str) -> String {
    script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"))
}

/// Writes the manual.
///
/// # Errors
///
/// Those of writing.
pub fn man(args: &ManArgs, command: Command) -> anyhow::Result<Exit> {
    output::on_streams(|output| write_man(args, command, output))
}

fn write_man(args: &ManArgs, command: Command, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    if let Some(folder) = &args.dir {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write the pages into {}", folder.display()))?;
        return Ok(Exit::Well);
    }
    pages(&command, output.out)?;
    Ok(Exit::Well)
}

/// The command's page and those of all below it, one after the other.
fn pages(command: &Command, out: &mut dyn Write) -> std::io::Result<()> {
    Man::new(command.clone()).render(out)?;
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| pages(below, out))
}

/// Writes a schema.
///
/// # Errors
///
/// Those of writing.
pub fn schema(args: &SchemaArgs) -> anyhow::Result<Exit> {
    output::on_streams(|output| {
        match args.what {
            Schema::Manifest => output.json(&crate::manifest::schema())?,
            Schema::Layout => output.json(&crate::layout::schema())?,
            Schema::Receipt => output.json(&crate::receipt::schema())?,
            Schema::Alert => output.json(&schemars::schema_for!(crate::alert::Notice))?,
        }
        Ok(Exit::Well)
    })
}

#[cfg(test)]
mod tests {
    use clap::{Args, ValueEnum};

    use super::*;
    use crate::cli::{jobs::JobsArgs, output::tests::capture};

    fn command() -> Command {
        let jobs = JobsArgs::augment_args(Command::new("jobs").about("List jobs"));
        Command::new("passfort-ingest").about("Takes scanned documents").subcommand(jobs)
    }

    #[test]
    fn every_shell_completes_the_commands() {
        for shell in Shell::value_variants() {
            let (_, out, _) = capture(|output| write_completions(*shell, command(), output));
            assert!(out.contains("jobs") && out.contains("reference"), "{shell}");
        }
    }

    #[test]
    fn bash_offers_something_for_each_command_that_it_finds() {
        let (_, out, _) = capture(|output| write_completions(Shell::Bash, command(), output));
        let found: Vec<&str> = out.split("cmd=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let found: Vec<&str> = found.into_iter().filter(|found| !found.is_empty()).collect();
        assert!(found.len() >= 2, "{out}");
        for label in found {
            assert!(out.contains(&format!("        {label})\n")), "{label} has no case in\n{out}");
        }
    }

    #[test]
    fn the_manual_has_every_command() {
        let (_, out, _) = capture(|output| write_man(&ManArgs { dir: None }, command(), output));
        assert_eq!(out.matches("\n.TH ").count(), 2, "{out}");
        assert!(out.contains("passfort\\-ingest\\-jobs"), "{out}");
        let folder = tempfile::tempdir().unwrap();
        let args = ManArgs { dir: Some(folder.path().join("man1")) };
        let (_, out, _) = capture(|output| write_man(&args, command(), output));
        assert_eq!(out, "");
        for page in ["passfort-ingest.1", "passfort-ingest-jobs.1"] {
            assert!(folder.path().join("man1").join(page).is_file(), "{page}");
        }
    }
}
