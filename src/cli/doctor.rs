//! `doctor`: checks what the worker needs, by doing what the worker does, and names a cure for each fault.
//!
//! As root it tries files and folders in a child with the worker's user and groups, since root may do everything.

mod machine;
mod unit;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Context, Exit,
    output::{self, Output, escape},
    start, worker,
};
use crate::{
    clock::Timestamp,
    config::{self, Config, ConfigError, DropConfig},
    durable::{Folder, file_system},
    inbox::{beneath::Root, ground},
    intake::ground::needs,
    policy::AfterSuccess,
    queue::{QueueError, Reader, refuse_network_file_system},
    service::{Accounts, Identity},
};

/// Check what the worker needs: configuration, key, database, drops, clock and service. Sends nothing; makes the drops'
/// own folders where they are missing.
///
/// Run it as root: files and folders are then tried as the user of the service.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends with 1 where something would stop the work, and with 2 where the configuration is wrong.\n\n\
                        Examples:\n  sudo passfort-ingest doctor\n  passfort-ingest doctor --offline --json"
)]
pub struct DoctorArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,

    /// Do not ask the API whether it accepts the key
    #[arg(long)]
    offline: bool,

    /// The part that is tried by the worker's user
    #[arg(long, hide = true)]
    as_worker: bool,
}

/// Room on the database's disk below which a warning is due: the queue grows, and a full disk stops all work.
const LITTLE_ROOM: u64 = 1 << 30;

/// How long the API may take to say whose the key is.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the package and the README put the key that systemd hands over.
const CREDENTIAL_FILE: &str = "/etc/passfort-ingest/api-key";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Grade {
    Ok,
    Warning,
    /// It would stop the work.
    Fault,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Diagnosis {
    /// `configuration`, `key`, `database`, `drop NAME`, `machine`, or `service`.
    area: String,
    severity: Grade,
    what: String,
    /// What to do, where something is wrong; a command where there is one.
    cure: Option<String>,
}

impl Diagnosis {
    fn ok(area: &str, what: impl Into<String>) -> Self {
        Self { area: area.to_owned(), severity: Grade::Ok, what: what.into(), cure: None }
    }

    fn bad(area: &str, severity: Grade, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { area: area.to_owned(), severity, what: what.into(), cure: Some(cure.into()) }
    }

    fn warning(area: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::bad(area, Grade::Warning, what, cure)
    }

    fn fault(area: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::bad(area, Grade::Fault, what, cure)
    }
}

/// Runs the command.
///
/// # Errors
///
/// Those of writing.
pub fn run(args: &DoctorArgs, context: &Context) -> anyhow::Result<Exit> {
    let config = match context.load() {
        Ok(config) => config,
        Err(error) => {
            let found = of_configuration(&error);
            return output::on_streams(|output| {
                write(args, &found, output)?;
                Ok(Exit::Usage)
            });
        }
    };
    let mut found = Vec::new();
    if !args.as_worker {
        let path = context.config.as_deref().unwrap_or_else(|| Path::new(config::DEFAULT_PATH));
        found.push(Diagnosis::ok("configuration", format!("{} is read", path.display())));
        found.extend(keys(args, &config));
    }
    match worker_user(&config).filter(|_| !args.as_worker) {
        Some(user) => found.extend(by_worker(&user, context)),
        None => {
            found.extend(database(&config));
            config.drops.iter().for_each(|drop| found.extend(of_drop(drop)));
        }
    }
    if !args.as_worker {
        if let Err(error) = worker::usable_as_service(&config) {
            found.push(Diagnosis::fault("configuration", format!("{error:#}"), "correct it, then run this again"));
        }
        found.extend(machine::findings(&config));
        found.extend(unit::findings(&config));
    }
    let worst = found.iter().map(|found| found.severity).max();
    output::on_streams(|output| {
        write(args, &found, output)?;
        Ok(if worst == Some(Grade::Fault) { Exit::Refused } else { Exit::Well })
    })
}

fn write(args: &DoctorArgs, found: &[Diagnosis], output: &mut Output<'_>) -> anyhow::Result<()> {
    if args.json {
        return Ok(output.json(&found)?);
    }
    let mut area = "";
    for finding in found {
        if finding.area != area {
            writeln!(output.out, "{}", escape(&finding.area))?;
            area = &finding.area;
        }
        let mark = match finding.severity {
            Grade::Ok => "ok     ",
            Grade::Warning => "warning",
            Grade::Fault => "FAULT  ",
        };
        writeln!(output.out, "  {mark}  {}", output::escape_lines(&finding.what).replace('\n', "\n           "))?;
        if let Some(cure) = &finding.cure {
            writeln!(output.out, "           cure: {}", escape(cure))?;
        }
    }
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (faults, warnings) = (count(Grade::Fault), count(Grade::Warning));
    writeln!(output.out)?;
    match (faults, warnings) {
        (0, 0) => writeln!(output.out, "all is well")?,
        (0, warnings) => writeln!(output.out, "nothing would stop the work; {warnings} to look at")?,
        (faults, warnings) => writeln!(output.out, "{faults} would stop the work, {warnings} more to look at")?,
    }
    Ok(())
}

fn of_configuration(error: &ConfigError) -> Vec<Diagnosis> {
    const AREA: &str = "configuration";
    match error {
        ConfigError::Invalid { path, findings } => {
            let of =
                |finding: &config::ConfigFinding| Diagnosis::fault(AREA, finding.place_and_reason(path), &finding.cure);
            findings.iter().map(of).collect()
        }
        // It names its cure itself.
        error => vec![Diagnosis { severity: Grade::Fault, ..Diagnosis::ok(AREA, error.to_string()) }],
    }
}

/// Whether each key can be read, and whether the API accepts it.
fn keys(args: &DoctorArgs, config: &Config) -> Vec<Diagnosis> {
    const AREA: &str = "key";
    let mut found = Vec::new();
    let own = config.drops.iter().filter(|drop| drop.api_key_file.is_some());
    let all_own = !config.drops.is_empty() && config.drops.iter().all(|drop| drop.api_key_file.is_some());
    let handed_over = (!all_own).then_some(None);
    for drop in own.map(Some).chain(handed_over) {
        let whose = drop.map_or_else(String::new, |drop| format!(" of drop {}", drop.name));
        match config::api_key(&config.api, drop, &mut config::environment()) {
            Ok(key) => {
                found.push(Diagnosis::ok(AREA, format!("the key{whose} is read from {}", key.origin)));
                found.extend(key.warnings.iter().map(|text| Diagnosis::warning(AREA, text, "restrict its mode")));
            }
            Err(ConfigError::NoKey) if Path::new(CREDENTIAL_FILE).exists() => {
                let what = format!("the key is in {CREDENTIAL_FILE}, which only systemd hands over");
                let cure = format!(
                    "to check it too: sudo PASSFORT_API_KEY=\"$(sudo cat {CREDENTIAL_FILE})\" passfort-ingest doctor"
                );
                found.push(Diagnosis::warning(AREA, what, cure));
                return found;
            }
            Err(error) => {
                let cure = format!("sudo install -m 600 /dev/stdin {CREDENTIAL_FILE}, paste the key, then Ctrl-D");
                found.push(Diagnosis::fault(AREA, format!("the key{whose}: {error}"), cure));
                return found;
            }
        }
    }
    if args.offline {
        return found;
    }
    match Accounts::new(config) {
        Ok(accounts) => {
            let asked = start::block_on(async { Ok(accounts.identify(PATIENCE).await) }).unwrap_or_default();
            found.extend(asked.iter().map(|(account, identity)| of_identity(account, identity)));
        }
        Err(error) => found.push(Diagnosis::fault(AREA, format!("{error:#}"), "correct [api] in the configuration")),
    }
    found
}

fn of_identity(account: &str, identity: &Identity) -> Diagnosis {
    const AREA: &str = "key";
    let account = account.strip_prefix("account:").unwrap_or(account);
    match identity {
        Identity::Named(_) => Diagnosis::ok(AREA, format!("the API at {account} accepts it")),
        Identity::KeyRefused => Diagnosis::fault(
            AREA,
            format!("the API at {account} refuses it"),
            "have a key issued for this account, and put it where the old one is",
        ),
        Identity::Unknown(why) => Diagnosis::fault(
            AREA,
            format!("the API at {account} does not say whether it accepts the key: {why}"),
            "check [api] base_url, proxy and ca_file, and the network: curl -v the address",
        ),
    }
}

fn database(config: &Config) -> Vec<Diagnosis> {
    const AREA: &str = "database";
    let path = &config.queue.database;
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !config.queue.network_file_system
        && let Err(error) = refuse_network_file_system(path)
    {
        let cure = "set [queue] database to a folder on a disk of this machine";
        return vec![Diagnosis::fault(AREA, error.to_string(), cure)];
    }
    let tried = Folder::open(folder).and_then(|folder| folder.probe_into(&folder));
    if let Err(error) = tried {
        let (what, shown) = (format!("the folder of the database cannot be used: {error}"), folder.display());
        let cure = format!("sudo install -d -o passfort-ingest -g passfort-ingest -m 750 {shown}");
        return vec![Diagnosis::fault(AREA, what, cure)];
    }
    let mut found =
        vec![Diagnosis::ok(AREA, format!("{} is on a disk of this machine, and writable", folder.display()))];
    if let Ok(free) = file_system::free_bytes(folder)
        && free < LITTLE_ROOM
    {
        let what = format!("only {} MiB are free on its disk", free >> 20);
        found.push(Diagnosis::warning(AREA, what, "make room: a full disk stops all work, and loses nothing"));
    }
    let reader = match Reader::open(path) {
        Ok(reader) => reader,
        Err(QueueError::Absent { .. }) => {
            found.push(Diagnosis::ok(AREA, "there is no queue yet; the first start makes it"));
            return found;
        }
        Err(error) => {
            let cure = "see \"Backup and restore\" in the README; delete nothing";
            found.push(Diagnosis::fault(AREA, error.to_string(), cure));
            return found;
        }
    };
    match reader.refused() {
        Ok(Some(why)) => found.push(Diagnosis::fault(AREA, format!("nothing is sent, {why}"), "passfort-ingest adopt")),
        Ok(None) => found.push(Diagnosis::ok(AREA, "the queue can be read")),
        Err(error) => found.push(Diagnosis::fault(AREA, error.to_string(), "passfort-ingest status")),
    }
    found.extend(bound(config, &reader));
    found
}

/// Whether what was measured keeps within the bound on lost answers.
fn bound(config: &Config, reader: &Reader) -> Vec<Diagnosis> {
    const AREA: &str = "database";
    let bounds = config.absence_bounds();
    let Ok(overview) = reader.overview(Timestamp::now()) else { return Vec::new() };
    let broken: Vec<_> =
        overview.broken_bounds.iter().map(|bound| Diagnosis::fault(AREA, bound.what.clone(), bound.cure)).collect();
    if broken.is_empty() { vec![Diagnosis::ok(AREA, bounds.sentence())] } else { broken }
}

fn of_drop(drop: &DropConfig) -> Vec<Diagnosis> {
    let area = &format!("drop {}", drop.name);
    let bad = |severity, fault: &ground::GroundFault| {
        let what = format!("{}: {}", fault.folder.display(), fault.reason);
        Diagnosis::bad(area, severity, what, &fault.cure)
    };
    if let Some(link) = ground::is_link(&drop.path) {
        return vec![bad(Grade::Fault, &link)];
    }
    let mut found: Vec<_> = ground::try_ground(&needs(drop)).iter().map(|fault| bad(Grade::Fault, fault)).collect();
    found.extend(ground::exposed_parent(&drop.path).iter().map(|fault| bad(Grade::Warning, fault)));
    if found.iter().any(|found| found.severity == Grade::Fault) {
        return found;
    }
    found.push(Diagnosis::ok(area, format!("{}: files can be taken, put away and answered", drop.path.display())));
    if drop.after_success != AfterSuccess::Keep {
        found.extend(held_by_senders(drop).iter().map(|fault| bad(Grade::Fault, fault)));
    }
    found
}

/// What is in the drop now and could not be moved away, for the senders' permissions; the first fault of each folder.
fn held_by_senders(drop: &DropConfig) -> Vec<ground::GroundFault> {
    /// So many names are looked at.
    const NAMES: usize = 10_000;
    let Ok(root) = Root::open(&drop.path) else { return Vec::new() };
    let own = drop.own_folders();
    let mut folders = vec![PathBuf::new()];
    let (mut looked, mut faults) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(drop.path.join(&folder)) else { continue };
        let mut files = Vec::new();
        for entry in entries.flatten().take(NAMES - looked) {
            looked += 1;
            let inner = folder.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && drop.recursive && !own.contains(&entry.path()) => folders.push(inner),
                Ok(kind) if kind.is_file() => files.extend(inner.to_str().map(str::to_owned)),
                _ => {}
            }
        }
        faults.extend(ground::lets_go(&root, files.iter().map(String::as_str)).err());
    }
    faults
}

/// A user that the worker is to be, with the numbers of its groups.
struct WorkerUser {
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

/// The user of the service, where this is root and the service is not: the owner of the database's folder.
fn worker_user(config: &Config) -> Option<WorkerUser> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let owner = config.queue.database.ancestors().skip(1).find_map(|folder| rustix::fs::stat(folder).ok())?;
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(owner.st_uid)).ok()??;
    if user.uid.is_root() {
        return None;
    }
    let name = std::ffi::CString::new(user.name).ok()?;
    let groups = nix::unistd::getgrouplist(&name, user.gid).ok()?;
    let groups = groups.iter().map(|group| group.as_raw()).chain(unit::groups()).collect();
    Some(WorkerUser { user: user.uid.as_raw(), group: user.gid.as_raw(), groups })
}

/// Has the worker's user try its files and folders.
fn by_worker(user: &WorkerUser, context: &Context) -> Vec<Diagnosis> {
    const AREA: &str = "service";
    let groups = user.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={}", user.user), format!("--regid={}", user.group), format!("--groups={groups}")]);
    command.arg("--").arg(std::env::current_exe().unwrap_or_else(|_| "passfort-ingest".into()));
    if let Some(config) = &context.config {
        command.arg("--config").arg(config);
    }
    command.args(["doctor", "--as-worker", "--json"]);
    let answer = command.output().map_err(|error| error.to_string()).and_then(|ran| {
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        serde_json::from_slice::<Vec<Diagnosis>>(&ran.stdout).map_err(|_| said)
    });
    answer.unwrap_or_else(|why| {
        let what = format!("files and folders could not be tried as the service's user (uid {}): {why}", user.user);
        vec![Diagnosis::fault(
            AREA,
            what,
            "let that user read the configuration and the program, or run this as that user",
        )]
    })
}
