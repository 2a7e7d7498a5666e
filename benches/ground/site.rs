//! A worker's environment: folders in memory, files of a sender, a configuration, and a stand-in for the API.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use passfort_ingest::sandbox::{self, LedgerEntry, Options, Sandbox};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// No run takes this long; it only turns a hang into a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A little more than the `settle` of the drop.
const SETTLE: Duration = Duration::from_millis(40);

/// What the sender puts into a drop, and what is to come of it.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// All files by their paths in the drop.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The manifests' folders, with the files of each.
    pub batches: BTreeMap<String, Vec<String>>,
    /// The folders of manifests with an entry that is refused.
    pub spoilt: Vec<String>,
    /// The digests of each document's images, by profile.
    pub documents: BTreeMap<String, Vec<String>>,
    /// The digest of each file, by profile.
    pub singles: BTreeMap<String, String>,
}

pub const MANIFEST: &str = "batch.manifest.json";

impl Order {
    /// This many manifests, each with this many documents of two images, and with a file; one entry of the second is
    /// bad.
    pub fn new(manifests: u32, documents_each: u32) -> Self {
        let mut order = Self::default();
        for manifest in 0..manifests {
            let folder = format!("m{manifest}");
            let mut named = Vec::new();
            let mut put = |order: &mut Self, name: &str, bytes: Vec<u8>| {
                let path = format!("{folder}/{name}");
                let digest = sha256(&bytes);
                order.files.insert(path.clone(), bytes);
                named.push(path);
                digest
            };
            let mut documents = Vec::new();
            for at in 0..documents_each {
                let number = manifest * 1000 + at;
                let names = [format!("{at}-front.gif"), format!("{at}-back.gif")];
                let digests =
                    names.iter().map(|name| put(&mut order, name, gif(&format!("{number} {name}")))).collect();
                order.documents.insert(profile(number), digests);
                documents.push(json!({
                    "reference": format!("d{number}"), "profile_id": profile(number), "category": "PROOF_OF_IDENTITY",
                    "document_type": "PASSPORT",
                    "images": [{ "path": names[0], "image_type": "FRONT" }, { "path": names[1] }],
                }));
            }
            let number = manifest * 1000 + 999;
            let digest = put(&mut order, "file.gif", gif(&format!("{number} file")));
            order.singles.insert(profile(number), digest);
            let files =
                json!([{ "reference": format!("f{number}"), "profile_id": profile(number), "path": "file.gif" }]);
            if manifest == 1 {
                put(&mut order, "bad.gif", b"no image at all".to_vec());
                documents.push(json!({
                    "reference": "bad", "profile_id": profile(1998), "category": "PROOF_OF_IDENTITY",
                    "document_type": "PASSPORT", "images": [{ "path": "bad.gif" }],
                }));
                order.spoilt.push(folder.clone());
            }
            let text = json!({ "version": 1, "documents": documents, "files": files }).to_string();
            put(&mut order, MANIFEST, text.into_bytes());
            order.batches.insert(folder, named);
        }
        order
    }

    /// What a command that carries it out ends with.
    pub fn code(&self) -> i32 {
        i32::from(!self.spoilt.is_empty())
    }

    /// The path of a manifest's receipt, relative to the drop.
    pub fn receipt(folder: &str) -> String {
        format!("receipts/{folder}/{MANIFEST}.receipt.json")
    }
}

pub fn profile(number: u32) -> String {
    format!("a2c4393a-e219-47a4-8ab4-{number:012x}")
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gif(comment: &str) -> Vec<u8> {
    let mut content = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF\x21\xFE".to_vec();
    content.push(u8::try_from(comment.len()).unwrap_or(u8::MAX));
    content.extend_from_slice(comment.as_bytes());
    content.extend_from_slice(b"\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
    content
}

/// The ground itself.
pub struct Site {
    /// Dropped before its runtime.
    sandbox: Option<Sandbox>,
    /// Where the first stand-in listened, and all others listen: another address is another account.
    api: SocketAddr,
    runtime: Runtime,
    folder: TempDir,
    program: PathBuf,
}

impl Site {
    /// Empty folders `drop` and `state`, in memory where the machine has such a place.
    pub fn new(program: &Path) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let builder = || tempfile::Builder::new().prefix("ground-").to_owned();
        let folder = if memory.is_dir() { builder().tempdir_in(memory) } else { builder().tempdir() };
        let folder = folder.context("cannot make a folder")?;
        for name in ["drop", "state"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let api = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self { sandbox: None, api, runtime, folder, program: program.to_owned() })
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// Starts a new stand-in that contains these calls, and writes the configuration for it.
    pub fn start_api(&mut self, calls: &[LedgerEntry], faults: &[&str], more: &str) -> Result<()> {
        self.stop_api();
        let options = Options { listen: self.api, ..Options::default() };
        let sandbox = self.runtime.block_on(sandbox::start(options))?;
        self.api = sandbox.addr();
        sandbox.restore(calls);
        let rules: Result<Vec<_>, _> = faults.iter().map(|rule| rule.parse()).collect();
        sandbox.set_faults(rules.map_err(|error| anyhow::anyhow!("{error}"))?);
        let config = format!(
            "[api]\nbase_url = '{}'\nrequest_lives = '100ms'\nlist_lag = '100ms'\n[queue]\ndatabase = '{}'\n[workers]\nmax_in_flight = 4\n[retry]\ninitial = \
             '20ms'\nmax = '200ms'\n[[drop]]\nname = 'partner'\npath = '{}'\nsettle = \
             '30ms'\nrescan_every = '1s'\n{more}\n",
            sandbox.base_url(),
            self.at("state/queue/queue.db").display(),
            self.at("drop").display(),
        );
        fs::write(self.at("config.toml"), config)?;
        self.sandbox = Some(sandbox);
        Ok(())
    }

    pub fn stop_api(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            self.runtime.block_on(sandbox.stop());
        }
    }

    pub fn sandbox(&self) -> Result<&Sandbox> {
        self.sandbox.as_ref().context("the stand-in is not running")
    }

    /// Puts the sender's files into the drop, and waits until they count as complete.
    pub fn put(&self, order: &Order) -> Result<()> {
        for (path, bytes) in &order.files {
            let path = self.at("drop").join(path);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            fs::write(path, bytes)?;
        }
        settle();
        Ok(())
    }

    /// Empties both folders.
    pub fn clear(&self) -> Result<()> {
        for name in ["drop", "state"] {
            fs::remove_dir_all(self.at(name))?;
            fs::create_dir(self.at(name))?;
        }
        Ok(())
    }

    /// Starts the worker, within `wrapper` where that is given; its output goes to the file `said`.
    pub fn start(&self, wrapper: Option<Command>, arguments: &[&str]) -> Result<Child> {
        let mut command = match wrapper {
            Some(mut wrapper) => {
                wrapper.arg(&self.program);
                wrapper
            }
            None => Command::new(&self.program),
        };
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("PASSFORT") || name_text.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("PASSFORT_API_KEY", "test").current_dir(self.root());
        command.arg("--config").arg(self.at("config.toml")).args(arguments);
        let said = fs::File::create(self.at("said"))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        command.spawn().context("cannot start the worker")
    }

    /// Runs the worker to its end; returns its exit code and output.
    pub fn run(&self, wrapper: Option<Command>, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let mut child = self.start(wrapper, arguments)?;
        let status = ended(&mut child)?;
        Ok((status.and_then(|status| status.code()), self.said()))
    }

    /// The output of the last run.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.at("said")).unwrap_or_default()).into_owned()
    }
}

/// Waits until files that were just put down count as complete.
pub fn settle() {
    thread::sleep(SETTLE);
}

/// Waits for the end; where that does not come, ends it and returns nothing.
pub fn ended(child: &mut Child) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            for traced in children(child.id()) {
                kill(traced)?;
            }
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The processes that this one started.
pub fn children(id: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

pub fn kill(id: u32) -> Result<()> {
    signal(id, rustix::process::Signal::KILL)
}

pub fn signal(id: u32, signal: rustix::process::Signal) -> Result<()> {
    let id = rustix::process::Pid::from_raw(i32::try_from(id)?).context("no process")?;
    match rustix::process::kill_process(id, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => bail!("cannot end the worker: {error}"),
    }
}

/// Every file below a folder, relative to it.
pub fn files_below(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                found.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// The files in a folder itself, by name.
pub fn files_in(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            found.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), fs::read(&path)?);
        }
    }
    Ok(found)
}
