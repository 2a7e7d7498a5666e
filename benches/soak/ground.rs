//! What the daemon works on: a drop, a database, and the stand-in for the API, in a folder that goes away with it.

use std::{
    collections::HashMap,
    fs, mem,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use passfort_ingest::sandbox::{self, DocumentView, Options, Sandbox};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::restores::Restores;

/// So often the program is run at most in the end, where jobs are held after a restore.
const ROUNDS: u32 = 6;

/// Documents on a profile.
const PER_PROFILE: u32 = 8;

/// Everything that a run needs.
pub struct Ground {
    sandbox: Sandbox,
    _runtime: Runtime,
    program: PathBuf,
    folder: TempDir,
}

/// One document as its manifest asks for it.
pub struct Asked {
    /// The sender's own key.
    pub reference: String,
    /// The profile's id.
    pub profile: String,
    /// The digests of its images in order, in hexadecimal.
    pub sha256: Vec<String>,
}

/// A document's number says everything about it.
pub fn asked(number: u32) -> Asked {
    let sha256 = (0..images(number)).map(|at| hexadecimal(&content(number, at))).collect();
    Asked { reference: format!("document-{number:06}"), profile: profile(number / PER_PROFILE), sha256 }
}

/// How many images a document has.
pub const fn images(number: u32) -> u32 {
    number % 3 + 1
}

fn profile(number: u32) -> String {
    format!("a2c4393a-e219-47a4-8ab4-{number:012x}")
}

/// A PDF that is unlike any other.
pub fn content(number: u32, at: u32) -> Vec<u8> {
    format!("%PDF-1.4\n% document {number}, image {at}\n1 0 obj<<>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n")
        .into_bytes()
}

/// A content's digest.
pub fn hexadecimal(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Ground {
    /// Lays it out and starts the stand-in, which loses `lost` of a hundred answers.
    pub fn new(program: &Path, seed: u64, lost: u8) -> Result<Self> {
        let beneath = env!("CARGO_TARGET_TMPDIR");
        let folder = tempfile::Builder::new().prefix("soak-").tempdir_in(beneath)?;

        let root = folder.path();
        for name in ["drop", "state"] {
            fs::create_dir(root.join(name))?;
        }
        let share = f64::from(lost) / 100.0;
        let rules = ["upload_image", "create_document"].map(|operation| format!("{operation}=lost,p={share}"));
        let faults = rules.iter().map(|rule| rule.parse()).collect::<Result<_, _>>()?;
        let options =
            Options { seed, faults, ledger: Some(root.join("ledger.jsonl")), kept_calls: 1, ..Options::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let sandbox = runtime.block_on(sandbox::start(options))?;
        let config = format!(
            "[api]\nbase_url = '{}'\nrequest_lives = '700ms'\nlist_lag = '300ms'\n[queue]\ndatabase = '{}'\n\
             [retry]\ninitial = '20ms'\nmax = '1s'\n\
             [[drop]]\nname = 'soak'\npath = '{}'\nsettle = '20ms'\nrescan_every = '1s'\n",
            sandbox.base_url(),
            root.join("state/queue.db").display(),
            root.join("drop").display(),
        );
        fs::write(root.join("config.toml"), config)?;
        Ok(Self { sandbox, _runtime: runtime, program: program.to_owned(), folder })
    }

    /// The folder that senders put their files into.
    pub fn drop_folder(&self) -> PathBuf {
        self.folder.path().join("drop")
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Result<Child> {
        self.command(arguments)
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.words())?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.path().join("config.toml")).arg("-v").args(arguments);
        command.env("PASSFORT_API_KEY", "test").env_remove("PASSFORT_INGEST_KILL_AT").stdin(Stdio::null());
        command
    }

    /// What the program said last on standard error.
    pub fn words(&self) -> PathBuf {
        self.folder.path().join("stderr.txt")
    }

    /// The end of the program's last output.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(self.words()).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(10).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Roughly how many calls there were: their ledger's size, since counting them would slow them down.
    pub fn calls(&self) -> u64 {
        /// A line's length, as measured.
        const LINE_BYTES: u64 = 620;
        fs::metadata(self.folder.path().join("ledger.jsonl")).map_or(0, |ledger| ledger.len() / LINE_BYTES)
    }

    /// The same, once what a killed daemon sent last has been handled.
    pub fn calls_when_quiet(&self) -> u64 {
        const QUIET: Duration = Duration::from_millis(200);
        let mut calls = self.calls();
        loop {
            thread::sleep(QUIET);
            let before = mem::replace(&mut calls, self.calls());
            if before == calls {
                return calls;
            }
        }
    }

    /// Whether nothing is left to do: no manifest in the drop, and nothing that was taken out of it.
    pub fn is_settled(&self) -> Result<bool> {
        for entry in fs::read_dir(self.folder.path().join("drop"))? {
            if entry?.file_name().to_string_lossy().contains(".manifest.") {
                return Ok(false);
            }
        }
        // A folder may go away meanwhile.
        Ok(self.left().is_ok_and(|left| left.is_empty()))
    }

    /// Lets the program do what is left, and a person what is held after a restore.
    pub fn finish(&self, restores: &mut Restores) -> Result<()> {
        for _ in 0..ROUNDS {
            let status = self.start(&["run", "--once"])?.wait()?;
            if status.success() {
                return Ok(());
            }
            ensure!(restores.refused > 0, "the last run ended with {status}\n{}", self.last_words());
            restores.release(self)?;
        }
        anyhow::bail!("not everything was settled after {ROUNDS} runs\n{}", self.last_words())
    }

    /// A path in its folder.
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// What a command prints that is asked for JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.command(arguments).output()?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{arguments:?} said no JSON"))
    }

    /// Every document at the API.
    pub fn standing(&self) -> Vec<DocumentView> {
        self.sandbox.documents()
    }

    /// How many images there are that no document uses.
    pub fn orphans(&self) -> u64 {
        self.sandbox.summary().orphans
    }

    /// What `status` says.
    pub fn status(&self) -> Result<Value> {
        let output = self.command(&["status", "--json"]).output()?;
        serde_json::from_slice(&output.stdout).context("`status --json` said no JSON")
    }

    /// What `verify` says in the end: of what stands, or of the recorded calls.
    pub fn verify(&self, how: &str) -> Result<Value> {
        let output = self.command(&["verify", "--json", how]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = || format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(text.lines().last().unwrap_or_default()).with_context(said)
    }

    /// Every receipt's path.
    pub fn receipts(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.path().join("drop/receipts");
        let mut receipts: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        // The worker's own mark is hidden among them, and texts are for people.
        receipts.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && !name.ends_with(".txt")
        });
        Ok(receipts)
    }

    /// What is in the drop and is neither a receipt nor archived.
    pub fn left(&self) -> Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for entry in fs::read_dir(self.drop_folder())? {
            let path = entry?.path();
            let is_settled = |folder: &str| path.ends_with(folder);
            if !["done", "receipts"].into_iter().any(is_settled) {
                // The folders of images stay; what was in them should not.
                files(&path, &mut left)?;
            }
        }
        Ok(left)
    }

    /// How often each content was archived, by its digest.
    pub fn archived(&self) -> Result<HashMap<String, u32>> {
        let mut found = Vec::new();
        files(&self.drop_folder().join("done"), &mut found)?;
        let mut archived = HashMap::new();
        for file in found {
            *archived.entry(hexadecimal(&fs::read(file)?)).or_default() += 1;
        }
        Ok(archived)
    }
}

/// Every file at or under this path.
pub fn files(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            files(&entry?.path(), found)?;
        }
    } else {
        found.push(path.to_owned());
    }
    Ok(())
}
