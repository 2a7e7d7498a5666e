//! The command line: one file a command.

pub mod act;
pub mod acts;
mod adopt;
pub mod backup;
pub mod batches;
mod caller;
pub mod causes;
pub mod check;
pub mod config_show;
mod daemon;
pub mod demo;
pub mod doctor;
mod drive;
pub mod export;
pub mod filter;
pub mod import;
pub mod jobs;
pub mod layout;
mod log;
pub mod meta;
pub mod output;
pub mod plan;
pub mod rehearse;
pub mod run;
pub mod sandbox;
pub mod show;
mod start;
pub mod status;
mod take_changed;
pub mod verify;
mod verify_history;
#[cfg(test)]
mod waits_tests;
pub mod why;
mod worker;

use std::{ffi::OsString, io::Write, path::PathBuf, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use output::Exit;

use crate::config::{self, Config, ConfigError};

/// Takes scanned documents from drop folders and puts them, once each, onto customer profiles in PassFort.
#[derive(Debug, Parser)]
#[command(
    name = "passfort-ingest",
    version,
    after_help = "Exit codes: 0 all well; 1 something was refused or failed; 2 usage or configuration is wrong, nothing \
                  was done; 3 stopped with work left, run again to continue; 4 the API refuses the key, or cannot be \
                  reached.\n\nSee it work, without any configuration:\n  passfort-ingest demo"
)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", env = "PASSFORT_INGEST_CONFIG")]
    config: Option<PathBuf>,

    /// How log lines are written, on standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,

    /// More detail in the log; twice: every call.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Less detail in the log; twice: errors only.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,

    #[command(subcommand)]
    command: Command,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the configured drops and deliver what comes, until SIGTERM or SIGINT.
    Run(run::RunArgs),
    /// Queue the manifests at these paths and work until they are settled.
    Import(import::ImportArgs),
    /// Report everything that is wrong with these manifests and their images; sends nothing.
    Check(check::CheckArgs),
    /// Say when these manifests would be done under the limits and windows, and which of them binds; sends nothing.
    Plan(plan::PlanArgs),
    /// Carry out the whole import against the built-in sandbox; sends nothing, and leaves nothing behind.
    Rehearse(rehearse::RehearseArgs),
    /// Show the queue at a glance: jobs by drop and state, rate, what is stopped and why.
    Status(status::StatusArgs),
    /// List jobs.
    Jobs(jobs::JobsArgs),
    /// List manifests and imports, the newest first: state, counts, when, receipt.
    Batches(batches::BatchesArgs),
    /// List what was refused and is not mended, by cause: how many, since when, the cure, the commands.
    Causes(causes::CausesArgs),
    /// Say that a person knows of a cause.
    Seen(causes::SeenArgs),
    /// List what people did: who, when, and in which words.
    Acts(acts::ActsArgs),
    /// Check what the worker needs: configuration, key, database, drops, clock and service.
    Doctor(doctor::DoctorArgs),
    /// Show all about one job: its images, their IDs, every call, and what it waits for.
    Show(show::ShowArgs),
    /// Explain why a file or manifest is where it is.
    Why(why::WhyArgs),
    /// Send jobs again that failed, were cancelled, or wait for their next try.
    Retry(act::RetryArgs),
    /// Stop jobs.
    Cancel(act::CancelArgs),
    /// Settle held jobs.
    Release(act::ReleaseArgs),
    /// Stop sending, at once and across restarts.
    Pause(act::PauseArgs),
    /// Start sending again.
    Resume(act::ResumeArgs),
    /// Print the crosswalk from what was asked to what was created.
    Export(export::ExportArgs),
    /// After a loss or a restore of the database, rebuild what was created and find out what is doubtful.
    Adopt(adopt::AdoptArgs),
    /// Ask the API whether every created document still exists, and list what no job knows of.
    Verify(verify::VerifyArgs),
    /// Write a consistent copy of the queue to a new file, also beside a working daemon.
    Backup(backup::BackupArgs),
    /// Serve a stand-in for the API on loopback, with faults and limits that can be switched on.
    Sandbox(sandbox::SandboxArgs),
    /// See it work: the sandbox, a small drop with real images, and what becomes of them.
    Demo(demo::DemoArgs),
    /// Propose a layout for an archive, or try one.
    #[command(subcommand)]
    Layout(layout::propose::LayoutCommand),
    /// Write manifests.
    #[command(subcommand)]
    Manifest(layout::ManifestCommand),
    /// Inspect the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a schema.
    Schema(meta::SchemaArgs),
    /// Print a shell's completions.
    Completions(meta::CompletionsArgs),
    /// Print the manual.
    Man(meta::ManArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the configuration in force, with defaults and environment; never a key.
    Show,
}

/// What every command may need.
#[derive(Debug)]
pub struct Context {
    config: Option<PathBuf>,
    /// Whether progress may be drawn: standard error is a terminal, and nobody asked for less.
    pub progress: bool,
}

impl Context {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// Where there is none, or it is wrong: everything that is wrong at once.
    pub fn load(&self) -> Result<Config, ConfigError> {
        config::load(self.config.as_deref(), &mut config::environment())
    }

    fn looking(&self) -> Result<output::QueueContext, ConfigError> {
        let config = self.load()?;
        Ok(output::QueueContext { database: config.queue.database.clone(), config: Some(config) })
    }
}

/// Runs the command line and returns the exit code of the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap prints each where it belongs.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Well };
            error.print().ok();
            return code.into();
        }
    };
    // The log would only repeat what these print.
    let quieter = i16::from(matches!(cli.command, Command::Demo(_) | Command::Rehearse(_)));
    // What others say is the answer to a person, and may name files.
    let words = cli.verbose > 0 || !matches!(cli.command, Command::Run(_) | Command::Import(_));
    log::start(cli.log_format, i16::from(cli.verbose) - i16::from(cli.quiet) - quieter, words);
    let progress = cli.quiet == 0 && cli.log_format == LogFormat::Text && output::is_terminal(&std::io::stderr());
    let context = Context { config: cli.config, progress };
    let ended = carry_out(cli.command, &context);
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&error);
            start::exit_for(&error).into()
        }
    }
}

fn carry_out(command: Command, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => run::run(&args, context),
        Command::Import(args) => import::run(&args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Plan(args) => plan::run(&args, context),
        Command::Rehearse(args) => rehearse::run(&args, context),
        Command::Status(args) => status::run(&args, &context.looking()?),
        Command::Jobs(args) => jobs::run(&args, &context.looking()?),
        Command::Batches(args) => batches::run(&args, &context.looking()?),
        Command::Causes(args) => causes::run(&args, &context.looking()?),
        Command::Seen(args) => causes::seen(&args, &context.looking()?),
        Command::Acts(args) => acts::run(&args, &context.looking()?),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Show(args) => show::run(&args, &context.looking()?),
        Command::Why(args) => why::run(&args, &context.looking()?),
        Command::Retry(args) => act::retry(&args, &context.looking()?),
        Command::Cancel(args) => act::cancel(&args, &context.looking()?),
        Command::Release(args) => act::release(&args, &context.looking()?),
        Command::Pause(args) => act::pause(&args, &context.looking()?),
        Command::Resume(args) => act::resume(&args, &context.looking()?),
        Command::Export(args) => export::run(&args, &context.looking()?),
        Command::Adopt(args) => adopt::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Backup(args) => backup::run(&args, &context.looking()?),
        Command::Sandbox(args) => start::block_on(async {
            sandbox::run(args, start::signalled()).await?;
            Ok(Exit::Well)
        }),
        Command::Demo(args) => demo::run(&args),
        Command::Layout(layout::propose::LayoutCommand::Init(args)) => layout::propose::init(&args),
        Command::Layout(layout::propose::LayoutCommand::Try(args)) => layout::propose::try_layout(&args),
        Command::Manifest(layout::ManifestCommand::FromLayout(args)) => layout::from_layout(&args),
        Command::Config(ConfigCommand::Show) => say(&config_show::render(&context.load()?)),
        Command::Schema(args) => meta::schema(&args),
        Command::Completions(args) => meta::completions(&args, Cli::command()),
        Command::Man(args) => meta::man(&args, Cli::command()),
    }
}

/// Prints data to standard output. A reader that has gone away is no error.
fn say(text: &str) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Well),
    }
}

/// Prints an error with its causes, each once.
fn complain(error: &anyhow::Error) {
    let mut text = format!("error: {}\n", output::escape_lines(&error.to_string()));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !last.contains(&cause) {
            text.push_str(&format!("  because: {}\n", output::escape_lines(&cause.to_string())));
        }
        last = cause;
    }
    let text = log::with_error_priority(&text);
    // Nothing can report that standard error is closed.
    std::io::stderr().lock().write_all(text.as_bytes()).ok();
}
