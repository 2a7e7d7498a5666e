//! A server that takes every body, discards it, and answers as the API would with as little work as possible.
//!
//! A process of its own, so that its CPU time and memory are nobody else's. It knows nothing of keys, limits, or faults:
//! for those there is the worker's sandbox. It counts what it was sent, so that a run which did not do its work shows.
//!
//! It obeys lines on standard input (`reset`, `tally`, and those of [`obey`]) and ends with it, so that it never outlives its parent.

use std::{
    convert::Infallible,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::{TlsAcceptor, rustls};
use uuid::Uuid;

/// How the sink is started.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// Where the certificate is written.
    #[arg(long)]
    folder: PathBuf,
    /// Plain HTTP instead of TLS.
    #[arg(long)]
    plain: bool,
}

/// What the sink was sent since the last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Uploads of images.
    pub images: u64,
    /// Uploads of files.
    pub files: u64,
    /// Created documents.
    pub documents: u64,
    /// Everything else, probes and read-backs included.
    pub others: u64,
    /// Of all bodies.
    pub bytes: u64,
    /// From the head of the first POST to the answer to the last, in nanoseconds.
    pub sending_ns: u64,
    /// The most uploads that were under way at once.
    #[serde(default)]
    pub at_once: u64,
    /// When the head of the first POST came, and when the last was answered, in microseconds since 1970.
    pub first_us: u64,
    pub last_us: u64,
    /// For how long answers were held back, in nanoseconds, by `delay`.
    pub delayed_ns: u64,
}

impl Tally {
    /// From the first request to the last answer, in seconds.
    pub fn sending_seconds(&self) -> f64 {
        Duration::from_nanos(self.sending_ns).as_secs_f64()
    }
}

/// What the sink says of itself when it is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ready {
    base_url: String,
    address: SocketAddr,
    ca_file: Option<PathBuf>,
}

struct Counters {
    start: Instant,
    /// `start`, in microseconds since 1970.
    start_us: u64,
    /// In nanoseconds after `start`; the maximum where there was no request yet.
    first: AtomicU64,
    last: AtomicU64,
    images: AtomicU64,
    files: AtomicU64,
    documents: AtomicU64,
    others: AtomicU64,
    bytes: AtomicU64,
    next_id: AtomicU64,
    under_way: AtomicU64,
    at_once: AtomicU64,
    arrived: AtomicU64,
    /// The first uploads wait in their middle until this many have arrived.
    gather: AtomicU64,
    /// For how long each answer to a POST is held back, in milliseconds.
    delay: AtomicU64,
    delayed: AtomicU64,
}

impl Counters {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            start: Instant::now(),
            start_us: unix_us(),
            first: AtomicU64::new(u64::MAX),
            last: zero(),
            images: zero(),
            files: zero(),
            documents: zero(),
            others: zero(),
            bytes: zero(),
            next_id: AtomicU64::new(1),
            under_way: zero(),
            at_once: zero(),
            arrived: zero(),
            gather: zero(),
            delay: zero(),
            delayed: zero(),
        }
    }

    /// Holds an answer back. A timer that fires late counts as a longer delay, not as the client's time.
    async fn hold_back(&self) {
        let delay = self.delay.load(Relaxed);
        if delay > 0 {
            let began = self.now();
            tokio::time::sleep(Duration::from_millis(delay)).await;
            self.delayed.fetch_add(self.now() - began, Relaxed);
        }
    }

    /// An upload has begun: it waits for others, if it is to.
    async fn arrive(&self) {
        self.at_once.fetch_max(self.under_way.fetch_add(1, Relaxed) + 1, Relaxed);
        self.arrived.fetch_add(1, Relaxed);
        let patience = Instant::now() + GATHERING;
        while self.arrived.load(Relaxed) < self.gather.load(Relaxed) && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Blocks until so many documents were created, or nobody can expect that any more.
    fn wait_for_documents(&self, documents: u64) {
        self.wait_until(|| self.documents.load(Relaxed) >= documents);
    }

    /// Blocks until a POST has begun after `since`, in microseconds since 1970.
    fn wait_for_begin(&self, since: u64) {
        self.wait_until(|| self.tally().first_us >= since);
    }

    fn wait_until(&self, is_so: impl Fn() -> bool) {
        let patience = Instant::now() + PATIENCE;
        while !is_so() && Instant::now() < patience {
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn reset(&self) {
        self.first.store(u64::MAX, Relaxed);
        let sums = [&self.last, &self.images, &self.files, &self.documents, &self.others, &self.bytes];
        for counter in sums.into_iter().chain([&self.at_once, &self.arrived, &self.delayed]) {
            counter.store(0, Relaxed);
        }
    }

    fn tally(&self) -> Tally {
        Tally {
            images: self.images.load(Relaxed),
            files: self.files.load(Relaxed),
            documents: self.documents.load(Relaxed),
            others: self.others.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            sending_ns: self.last.load(Relaxed).saturating_sub(self.first.load(Relaxed)),
            at_once: self.at_once.load(Relaxed),
            first_us: match self.first.load(Relaxed) {
                u64::MAX => 0,
                first => self.start_us + first / 1000,
            },
            last_us: self.start_us + self.last.load(Relaxed) / 1000,
            delayed_ns: self.delayed.load(Relaxed),
        }
    }
}

/// How long a run may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Microseconds since 1970: what processes on one machine can compare.
#[expect(clippy::disallowed_methods, reason = "the program's own clock counts milliseconds")]
pub fn unix_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// How long uploads wait for each other at most; longer than a client may hesitate to send many at once.
const GATHERING: Duration = Duration::from_secs(10);

async fn answer(counters: Arc<Counters>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let post = request.method() == Method::POST;
    if post {
        counters.first.fetch_min(counters.now(), Relaxed);
    }
    let (parts, mut body) = request.into_parts();
    let mut bytes = 0;
    let mut whole = true;
    let upload = post && parts.uri.path().ends_with("/document_images");
    let mut arriving = upload;
    while let Some(frame) = body.frame().await {
        if std::mem::take(&mut arriving) {
            counters.arrive().await;
        }
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(_) => whole = false,
        }
    }
    if upload && !arriving {
        counters.under_way.fetch_sub(1, Relaxed);
    }
    let path = parts.uri.path();
    let id =
        Uuid::from_u128(0x5afe_0000_0000_4000_8000_0000_0000_0000 + u128::from(counters.next_id.fetch_add(1, Relaxed)));
    let (counter, text) = if !whole || !post {
        let text = if path.ends_with("/collected_data") { "{\"documents\":[]}" } else { "{}" };
        (&counters.others, text.to_owned())
    } else if path.ends_with("/document_images") {
        (&counters.images, format!("{{\"id\":\"{id}\",\"image_type\":\"FRONT\"}}"))
    } else if path.ends_with("/collected_data/documents") {
        (&counters.documents, format!("{{\"id\":\"{id}\",\"images\":[]}}"))
    } else if path.ends_with("/files") {
        (&counters.files, format!("{{\"id\":\"{id}\",\"name\":\"\",\"decrypted_data\":\"\"}}"))
    } else {
        (&counters.others, "{}".to_owned())
    };
    if post {
        counters.hold_back().await;
    }
    counters.bytes.fetch_add(bytes, Relaxed);
    if post {
        counters.last.fetch_max(counters.now(), Relaxed);
    }
    counter.fetch_add(1, Relaxed);
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn connection(counters: Arc<Counters>, acceptor: Option<TlsAcceptor>, stream: TcpStream) {
    let service = service_fn(move |request| answer(Arc::clone(&counters), request));
    // A client that leaves early is seen in the tally, not here.
    let served = match acceptor {
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
        None => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
    };
    drop(served);
}

/// Makes a certificate for loopback, and writes it for the clients to trust.
fn acceptor(ca_file: &Path) -> Result<TlsAcceptor> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    fs::write(ca_file, made.cert.pem()).with_context(|| format!("cannot write {}", ca_file.display()))?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until standard input ends.
pub fn serve(options: &Options) -> Result<()> {
    let ca_file = options.folder.join("sink.pem");
    let acceptor = if options.plain { None } else { Some(acceptor(&ca_file)?) };
    let counters = Arc::new(Counters::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    let scheme = if options.plain { "http" } else { "https" };
    let ready = Ready {
        base_url: format!("{scheme}://{address}/4.0"),
        address,
        ca_file: acceptor.as_ref().map(|_| ca_file.clone()),
    };
    println!("{}", serde_json::to_string(&ready)?);

    let ended = Arc::new(Notify::new());
    let (theirs, over) = (Arc::clone(&counters), Arc::clone(&ended));
    thread::spawn(move || {
        obey(&theirs);
        over.notify_one();
    });
    runtime.block_on(async {
        let accept = async {
            loop {
                // Out of descriptors, for example: the clients then wait, and the run shows it.
                let Ok((stream, _)) = listener.accept().await else { continue };
                drop(stream.set_nodelay(true));
                tokio::spawn(connection(Arc::clone(&counters), acceptor.clone(), stream));
            }
        };
        tokio::select! { () = accept => {}, () = ended.notified() => {} }
    });
    runtime.shutdown_background();
    Ok(())
}

fn obey(counters: &Counters) {
    for line in std::io::stdin().lock().lines() {
        let answer = match line.as_deref() {
            Ok("reset") => {
                counters.reset();
                "{}".to_owned()
            }
            Ok("tally") => serde_json::to_string(&counters.tally()).unwrap_or_default(),
            Ok(line) => {
                let (word, number) = line.split_once(' ').unwrap_or_default();
                let Ok(number) = number.parse() else { return };
                match word {
                    "gather" => counters.gather.store(number, Relaxed),
                    "delay" => counters.delay.store(number, Relaxed),
                    "await" => counters.wait_for_documents(number),
                    "begun" => counters.wait_for_begin(number),
                    _ => return,
                }
                serde_json::to_string(&counters.tally()).unwrap_or_default()
            }
            Err(_) => return,
        };
        println!("{answer}");
    }
}

/// A sink that runs; it is ended when this is dropped.
pub struct Sink {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The prefix of every path of the API.
    pub base_url: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate to trust; none for plain HTTP.
    pub ca_file: Option<PathBuf>,
}

impl Sink {
    /// Starts one and waits until it listens.
    pub fn start(folder: &Path, plain: bool) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sink").arg("--folder").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        if plain {
            command.arg("--plain");
        }
        let mut child = command.spawn().context("cannot start the sink")?;
        let commands = child.stdin.take().context("the sink has no input")?;
        let mut answers = BufReader::new(child.stdout.take().context("the sink has no output")?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let Ready { base_url, address, ca_file } =
            serde_json::from_str(&line).context("the sink did not say where it listens")?;
        Ok(Self { child, commands, answers, base_url, address, ca_file })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Forgets what it was sent.
    pub fn reset(&mut self) -> Result<()> {
        self.ask("reset").map(drop)
    }

    /// Makes the first uploads of a run wait in their middle until `uploads` have arrived.
    pub fn gather(&mut self, uploads: u32) -> Result<()> {
        self.ask(&format!("gather {uploads}")).map(drop)
    }

    /// Holds each answer to a POST back for so many milliseconds from now on.
    pub fn delay(&mut self, milliseconds: u32) -> Result<()> {
        self.ask(&format!("delay {milliseconds}")).map(drop)
    }

    /// Waits until so many documents were created since the last reset.
    pub fn wait_for_documents(&mut self, documents: u64) -> Result<Tally> {
        let tally: Tally = serde_json::from_str(&self.ask(&format!("await {documents}"))?)?;
        ensure!(tally.documents >= documents, "only {} of {documents} documents came within a minute", tally.documents);
        Ok(tally)
    }

    /// Waits for the first POST since the last reset, and returns when it began, in microseconds since 1970.
    pub fn wait_for_begin(&mut self) -> Result<u64> {
        let tally: Tally = serde_json::from_str(&self.ask("begun 1")?)?;
        ensure!(tally.first_us > 0, "nothing was sent within a minute");
        Ok(tally.first_us)
    }

    /// What it was sent since the last reset; an error where that is not all that was to be sent.
    pub fn tally(&mut self, images: u64, documents: u64) -> Result<Tally> {
        let tally: Tally = serde_json::from_str(&self.ask("tally")?)?;
        if tally.images != images || tally.documents != documents {
            bail!("the sink was to see {images} images and {documents} documents, but its tally is {tally:?}");
        }
        Ok(tally)
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        writeln!(self.commands, "{command}").context("the sink is gone")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It ends by itself with its input; this only hastens it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
