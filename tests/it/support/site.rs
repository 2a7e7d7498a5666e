//! One worker's environment: a drop folder, a configuration, a database, and a stand-in for the API.
//!
//! Everything is in a temporary folder of its own. The stand-in runs in the test's process, so that the test can read
//! its ledger and switch its faults; the worker is the real program.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use passfort_ingest::{
    killpoint,
    sandbox::{self, ApiCall, DocumentView, LedgerEntry, LedgerSummary, Options, Sandbox},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    http::page_in,
    images::{Format, image},
    process::{Daemon, Finished, wait_until},
};

/// A little more than the `settle` of the drop.
const SETTLE: Duration = Duration::from_millis(60);

/// A profile's id, unlike that of any other number.
pub(crate) fn profile(number: u32) -> String {
    format!("a2c4393a-e219-47a4-8ab4-{number:012x}")
}

/// A document of one image, as a JSON manifest contains it.
pub(crate) fn entry(reference: &str, profile_number: u32, path: &str) -> Value {
    json!({
        "reference": reference,
        "profile_id": profile(profile_number),
        "category": "PROOF_OF_IDENTITY",
        "document_type": "PASSPORT",
        "images": [{ "path": path, "image_type": "FRONT" }],
    })
}

/// What a site is to be like; [`Default`] is a plain one with a well-behaved API.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pub sandbox: Options,
    /// Lines under `[api]`.
    pub api: String,
    /// Lines under `[retry]`.
    pub retry: String,
    /// Lines under `[[drop]]`.
    pub drop: String,
    /// Anything after that.
    pub more: String,
}

/// A worker's ground.
pub(crate) struct Site {
    /// Dropped before the runtime, and everything before the folder.
    sandbox: Option<Sandbox>,
    runtime: Runtime,
    options: Options,
    key: String,
    folder: TempDir,
}

impl Builder {
    /// Lays everything out and starts the stand-in.
    pub(crate) fn build(self) -> Site {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        for name in ["drop", "log", "state"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let sandbox = runtime.block_on(sandbox::start(self.sandbox.clone())).unwrap();
        let config = format!(
            "[api]\nbase_url = '{}'\nrequest_lives = '1500ms'\nlist_lag = '500ms'\n{}\n[queue]\ndatabase = \
             '{}'\n[retry]\ninitial = '50ms'\nabsent_after = '2s'\n{}\n[[drop]]\nname = 'partner'\npath = '{}'\n\
             settle = '50ms'\nrescan_every = '1s'\n{}\n{}\n",
            sandbox.base_url(),
            self.api,
            root.join("state/queue.db").display(),
            self.retry,
            root.join("drop").display(),
            self.drop,
            self.more,
        );
        fs::write(root.join("config.toml"), config).unwrap();
        let options = Options { listen: sandbox.addr(), ..self.sandbox };
        Site { sandbox: Some(sandbox), runtime, options, key: "test".to_owned(), folder }
    }
}

/// The site itself.
impl Site {
    /// A plain one with a well-behaved API.
    pub(crate) fn new() -> Self {
        Builder::default().build()
    }

    /// A worker that gives up after a second on files that do not become complete.
    pub(crate) fn impatient() -> Self {
        Builder { drop: "incomplete_after = '1s'".to_owned(), ..Builder::default() }.build()
    }

    /// One whose API has these faults, each written as a rule.
    pub(crate) fn with_faults(rules: &[&str]) -> Self {
        let site = Self::new();
        site.faults(rules);
        site
    }

    /// A site whose daemon has taken in two documents while it was paused.
    pub(crate) fn taken_in() -> (Self, Daemon) {
        Self::taken_in_as(&[entry("0", 0, "0.png"), entry("1", 1, "1.png")])
    }

    /// The same, asked for by these entries.
    pub(crate) fn taken_in_as(entries: &[Value]) -> (Self, Daemon) {
        Self::taken_in_by("", entries)
    }

    /// The same in a drop with these lines.
    pub(crate) fn taken_in_by(drop: &str, entries: &[Value]) -> (Self, Daemon) {
        let site = Builder { retry: "max = '500ms'".to_owned(), drop: drop.to_owned(), ..Builder::default() }.build();
        site.run_once().expect(0);
        site.run(&["pause"]).expect(0);
        // Entries of one reference are to be of one content.
        let same = entries.len() > 1 && entries.iter().all(|entry| entry["reference"] == "0");
        for number in 0..2 {
            site.put(&format!("{number}.png"), image(Format::Png, if same { 0 } else { number }));
        }
        site.put_documents("a.manifest.json", entries);
        let mut daemon = site.daemon();
        let jobs = || -> Value { serde_json::from_str(&site.run(&["jobs", "--json"]).stdout).unwrap() };
        daemon.wait_until("it is taken in", || jobs().as_array().is_some_and(|jobs| jobs.len() == entries.len()));
        (site, daemon)
    }

    /// A path in the site's folder.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A path in the drop.
    pub(crate) fn in_drop(&self, path: &str) -> PathBuf {
        self.at("drop").join(path)
    }

    /// Writes a file, relative to the site's folder, and the folders above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes a file into the drop.
    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        self.write(&format!("drop/{path}"), content);
    }

    /// Writes a JSON manifest with these documents into the drop.
    pub(crate) fn put_documents(&self, path: &str, documents: &[Value]) {
        self.put(path, json!({"version": 1, "documents": documents}).to_string());
    }

    /// Writes a document's image and manifest, both named by the number, into a folder of the site.
    pub(crate) fn put_folder(&self, folder: &str, number: u32) {
        self.write(&format!("{folder}/{number}.png"), image(Format::Png, number));
        let documents = [entry(&number.to_string(), number, &format!("{number}.png"))];
        let manifest = json!({ "version": 1, "documents": documents });
        self.write(&format!("{folder}/{number}.manifest.json"), manifest.to_string());
    }

    /// Replaces a part of the configuration.
    #[track_caller]
    pub(crate) fn edit_config(&self, from: &str, to: &str) {
        let config = fs::read_to_string(self.at("config.toml")).unwrap();
        assert!(config.contains(from), "the configuration has no {from}");
        self.write("config.toml", config.replace(from, to));
    }

    /// Adds a drop in the site's folder of the same name, with these lines.
    pub(crate) fn another_drop(&self, name: &str, lines: &str) {
        fs::create_dir(self.at(name)).unwrap();
        let config = fs::read_to_string(self.at("config.toml")).unwrap();
        let path = self.at(name);
        let drop = format!(
            "\n[[drop]]\nname = '{name}'\npath = '{}'\nsettle = '50ms'\nrescan_every = '1s'\n{lines}\n",
            path.display()
        );
        self.write("config.toml", config + &drop);
    }

    /// Gives the first drop these lines too.
    pub(crate) fn configure_drop(&self, lines: &str) {
        let config = fs::read_to_string(self.at("config.toml")).unwrap();
        self.write("config.toml", config.replacen("name = 'partner'\n", &format!("name = 'partner'\n{lines}\n"), 1));
    }

    /// Writes a JSON manifest with `documents` documents into the drop, `document-0` and so on, each of one image,
    /// `0.png` and so on, and on a profile of its own.
    pub(crate) fn put_batch(&self, path: &str, documents: u32) {
        let documents: Vec<Value> = (0..documents)
            .map(|number| {
                let name = format!("{number}.png");
                self.put(&name, image(Format::Png, number));
                entry(&format!("document-{number}"), number, &name)
            })
            .collect();
        self.put_documents(path, &documents);
    }

    /// Changes the key that commands are given from now on.
    pub(crate) fn use_key(&mut self, key: &str) {
        key.clone_into(&mut self.key);
    }
}

/// The program.
impl Site {
    /// The program with this site's configuration and key, and nothing of the test's own environment that it reads.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_by("config.toml", arguments)
    }

    /// The same with another configuration in the site's folder.
    pub(crate) fn command_by(&self, config: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passfort-ingest"));
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("PASSFORT") || name_text.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("PASSFORT_API_KEY", &self.key).current_dir(self.folder.path());
        command.arg("--config").arg(self.at(config)).args(arguments);
        command
    }

    /// Starts the program and leaves it running.
    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        Daemon::start(self.command(arguments), &self.at("log"))
    }

    /// The program as a newcomer runs it in this folder of the site: no configuration, no key, an empty environment.
    pub(crate) fn bare_command(&self, folder: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passfort-ingest"));
        command.env_clear().env("TMPDIR", self.at("")).current_dir(self.at(folder)).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, command: Command) -> Finished {
        Daemon::start(command, &self.at("log")).finish()
    }

    /// Starts the daemon.
    pub(crate) fn daemon(&self) -> Daemon {
        self.start(&["run"])
    }

    /// Starts the daemon of a site that serves its page, and finds out where.
    pub(crate) fn daemon_with_page(&self) -> (Daemon, SocketAddr) {
        let mut daemon = self.daemon();
        let mut address = None;
        daemon.wait_until("the page is served", || {
            let logs = fs::read_dir(self.at("log")).unwrap();
            let said = logs.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
            address = said.filter_map(|said| page_in(&said)).next();
            address.is_some()
        });
        (daemon, address.unwrap())
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// What a command prints that is asked for JSON.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.run(arguments).expect(0);
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error} in {}", finished.stdout))
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// How the first drop is watched, as `status` says.
    pub(crate) fn watching(&self) -> String {
        self.status()["queue"]["drops"][0]["watching"].as_str().unwrap_or_default().to_owned()
    }

    /// What is wrong with drops, as `status` says.
    pub(crate) fn trouble(&self) -> String {
        self.status()["queue"]["troubled"].to_string()
    }

    /// The jobs in one of these states, divided by commas.
    #[track_caller]
    pub(crate) fn jobs(&self, states: &str) -> Vec<Value> {
        self.json(&["jobs", "--json", "--state", states]).as_array().unwrap().clone()
    }

    /// Takes what is in the drop, to its end, as soon as it counts as complete.
    pub(crate) fn run_once(&self) -> Finished {
        self.wait_until_settled();
        self.run(&["run", "--once"])
    }

    /// The same, but the process ends as by `kill -9` when it comes to this place: see `killpoint`.
    #[track_caller]
    pub(crate) fn run_once_killed_at(&self, place: &str) {
        self.wait_until_settled();
        let mut command = self.command(&["run", "--once"]);
        command.env(killpoint::VARIABLE, place);
        assert_eq!(self.finish(command).code, None, "it was not killed at {place}");
    }

    /// Takes what is in the drop until nothing there is waited for any longer.
    pub(crate) fn run_until_given_up(&self) -> Finished {
        let mut finished = self.run_once();
        wait_until("the worker has given up what does not come", || {
            if finished.code == Some(3) {
                finished = self.run_once();
            }
            finished.code != Some(3)
        });
        finished
    }

    /// Waits until the worker must take every file in the drop for complete.
    pub(crate) fn wait_until_settled(&self) {
        wait_until("the files in the drop have settled", || {
            self.files().iter().all(|file| {
                // What has gone in the meantime, or has a name that is no UTF-8, keeps nobody waiting.
                let changed = fs::symlink_metadata(self.in_drop(file)).and_then(|metadata| metadata.modified());
                changed.map_or(true, |changed| changed.elapsed().is_ok_and(|age| age > SETTLE))
            })
        });
    }
}

/// The stand-in.
impl Site {
    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().expect("the stand-in runs")
    }

    /// Puts these faults in the place of the old ones.
    pub(crate) fn faults(&self, rules: &[&str]) {
        self.sandbox().set_faults(rules.iter().map(|rule| rule.parse().unwrap()).collect());
    }

    pub(crate) fn ledger(&self) -> Vec<LedgerEntry> {
        self.sandbox().ledger()
    }

    /// The calls of one operation.
    pub(crate) fn calls(&self, operation: ApiCall) -> Vec<LedgerEntry> {
        self.ledger().into_iter().filter(|call| call.operation == operation).collect()
    }

    pub(crate) fn summary(&self) -> LedgerSummary {
        self.sandbox().summary()
    }

    pub(crate) fn documents(&self) -> Vec<DocumentView> {
        self.sandbox().documents()
    }

    /// The digests of everything that documents are made of, sorted.
    pub(crate) fn image_digests(&self) -> Vec<String> {
        let images = self.documents().into_iter().flat_map(|document| document.images);
        let mut digests: Vec<String> = images.map(|image| image.sha256).collect();
        digests.sort();
        digests
    }

    /// Stops the stand-in; its port is dead then, and what it held is forgotten.
    pub(crate) fn stop_api(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            self.runtime.block_on(sandbox.stop());
        }
    }

    /// Starts a new stand-in at the same address.
    pub(crate) fn start_api(&mut self) {
        self.sandbox = Some(self.runtime.block_on(sandbox::start(self.options.clone())).unwrap());
    }

    /// Starts another API that takes every call and answers 200 with this body; it ends with the site.
    pub(crate) fn answer_everything(&self, body: &Value) -> SocketAddr {
        let body = body.to_string();
        let answer = move |_: axum::body::Bytes| async move { ([("content-type", "application/json")], body) };
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        self.runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        addr
    }

    /// Starts another API that answers each call with the status and the body for its number.
    pub(crate) fn answer_in_turn(
        &self,
        answer: impl Fn(usize) -> (u16, Value) + Clone + Send + Sync + 'static,
    ) -> SocketAddr {
        let calls = Arc::new(AtomicUsize::new(0));
        let answer = move |_: axum::body::Bytes| async move {
            let (status, body) = answer(calls.fetch_add(1, Ordering::Relaxed));
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            (status, [("content-type", "application/json")], body.to_string())
        };
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        self.runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        addr
    }

    /// Configures the worker for another API than the stand-in.
    pub(crate) fn use_api_at(&self, addr: SocketAddr) {
        let config = fs::read_to_string(self.at("config.toml")).unwrap();
        let own = self.sandbox().addr().to_string();
        self.write("config.toml", config.replace(&own, &addr.to_string()));
    }

    /// What the API answers to a GET.
    pub(crate) fn get(&self, path: &str) -> Value {
        get(self.sandbox().addr(), &format!("/4.0{path}"))
    }

    /// The same as the text that it is.
    pub(crate) fn get_text(&self, path: &str) -> String {
        get_text(self.sandbox().addr(), &format!("/4.0{path}"))
    }
}

/// What others do with the same key.
impl Site {
    /// Posts to the stand-in.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.sandbox().addr()).unwrap();
        write!(
            stream,
            "POST /4.0{path} HTTP/1.0\r\napikey: test\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer}"))
    }

    /// Puts an image onto a profile that no manifest names, and returns its ID.
    pub(crate) fn post_image(&self, number: u32) -> String {
        let body = json!({ "data": BASE64.encode(image(Format::Png, 1000 + number)), "image_type": "FRONT" });
        let posted = self.post(&format!("/profiles/{}/document_images", profile(number)), &body);
        posted["id"].as_str().unwrap_or_else(|| panic!("{posted}")).to_owned()
    }
}

fn get(addr: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&get_text(addr, path)).unwrap()
}

fn get_text(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\napikey: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// What the worker leaves in the drop.
impl Site {
    /// The receipts of a manifest, by name: `batch.manifest.json.receipt.json` and those with a number.
    pub(crate) fn receipt_paths(&self, manifest: &str) -> Vec<PathBuf> {
        receipt_paths(&self.in_drop("receipts").join(manifest))
    }

    /// The one receipt of a manifest.
    #[track_caller]
    pub(crate) fn receipt(&self, manifest: &str) -> Value {
        let paths = self.receipt_paths(manifest);
        assert_eq!(paths.len(), 1, "one receipt for {manifest}, in the drop: {:#?}", self.files());
        read_receipt(&paths[0])
    }

    /// The receipts of a manifest that was dropped several times, none of `known` among them.
    #[track_caller]
    pub(crate) fn newer_receipt(&self, manifest: &str, known: &[PathBuf]) -> Value {
        let paths: Vec<PathBuf> =
            self.receipt_paths(manifest).into_iter().filter(|path| !known.contains(path)).collect();
        assert_eq!(paths.len(), 1, "one more receipt for {manifest}, in the drop: {:#?}", self.files());
        read_receipt(&paths[0])
    }

    /// Whether a manifest has its receipt.
    pub(crate) fn is_settled(&self, manifest: &str) -> bool {
        !self.receipt_paths(manifest).is_empty()
    }

    /// Every file in the drop but texts for people, relative to it, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        files(&self.at("drop"))
    }

    /// What is still in the drop itself: not in done, failed, or receipts.
    pub(crate) fn left(&self) -> Vec<String> {
        let settled = ["done/", "failed/", "receipts/"];
        self.files().into_iter().filter(|file| !settled.iter().any(|folder| file.starts_with(folder))).collect()
    }

    /// The files under `done` or `failed`, without the date's folder; that it is a date is checked.
    #[track_caller]
    pub(crate) fn moved_to(&self, folder: &str) -> Vec<String> {
        let under = format!("{folder}/");
        let moved = self.files().into_iter().filter_map(|file| file.strip_prefix(&under).map(str::to_owned));
        moved
            // A worker that starts at this moment tries the folder with a hidden file.
            .filter(|file| !file.starts_with('.'))
            .map(|file| {
                let (date, rest) = file.split_once('/').unwrap();
                let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
                assert_eq!(shape, "9999-99-99", "the folder under {folder} is a date: {date}");
                rest.to_owned()
            })
            .collect()
    }
}

/// The receipts beside this path, by name.
fn receipt_paths(stem: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (stem.parent(), stem.file_name()) else { return Vec::new() };
    let wanted = format!("{}.receipt", name.to_string_lossy());
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = listing
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&wanted) && (name.ends_with(".json") || name.ends_with(".jsonl"))
        })
        .collect();
    paths.sort();
    paths
}

/// Reads a receipt in either form, as the one of JSON.
pub(crate) fn read_receipt(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut header = lines.next().unwrap();
        header["entries"] = lines.collect();
        return header;
    }
    serde_json::from_str(&text).unwrap()
}

/// Whether it is a receipt, among the marks and the lists of failed entries beside it.
pub(crate) fn is_receipt(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".receipt.")) && !is_text(path)
}

/// Whether it is a text for people beside receipts, which tests of anything else pass over.
pub(crate) fn is_text(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".txt") && [".receipt.", ".waiting.", ".taken."].iter().any(|part| name.contains(part))
}

/// Whether it is the worker's own mark among receipts, which no sender sees.
pub(crate) fn is_mark(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".passfort-ingest-start-"))
}

fn files(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        let Ok(listing) = fs::read_dir(folder) else { return };
        for entry in listing.map(Result::unwrap) {
            // The worker may move it away in the middle of this.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                walk(root, &entry.path(), found);
            } else if !is_mark(&entry.path()) && !is_text(&entry.path()) {
                found.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// Renames as a sender does, over what is there.
#[expect(clippy::disallowed_methods, reason = "as a sender does it")]
pub(crate) fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}
