//! A client that does nothing but send: hyper and rustls, nothing recorded.
//!
//! Its bodies are encoded beforehand; or, with files, it does what any client has to do for each: it reads the file, takes
//! its SHA-256, and encodes it. It is the ceiling that the worker is measured against, in a process of its own for the same
//! reasons as the sink.

use std::{
    fs::File,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Command, Stdio},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use base64::{
    Engine as _,
    engine::{Simd, general_purpose::PAD},
};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    Request,
    body::{Body, Bytes, Frame, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, pki_types::CertificateDer, pki_types::ServerName, pki_types::pem::PemObject as _},
};

use crate::{
    material::{self, Kind},
    sink::Sink,
};

/// Different bodies at most: enough that they do not all fit into the processor's caches, few enough for memory.
const BODIES: u32 = 64;

/// Bytes of different bodies at most.
const BODY_BYTES: usize = 512 * 1024 * 1024;

/// What is to be sent, and how.
#[derive(clap::Args, Debug, Clone)]
pub struct Load {
    /// Where the sink listens.
    #[arg(long)]
    pub address: SocketAddr,
    /// The sink's certificate; without it, plain HTTP.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// Connections, each with one request at a time.
    #[arg(long)]
    pub connections: u32,
    /// Documents in all.
    #[arg(long)]
    pub documents: u32,
    /// Images of each document.
    #[arg(long)]
    pub images: u32,
    /// Size of each image, in bytes before Base64.
    #[arg(long)]
    pub image_bytes: usize,
    /// Profiles that the documents are spread over.
    #[arg(long)]
    pub profiles: u32,
    /// Threads that the client runs on.
    #[arg(long)]
    pub threads: usize,
    /// The folder whose files are sent, read and encoded meanwhile.
    #[arg(long)]
    pub files: Option<PathBuf>,
}

/// How long it took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Took {
    /// From the first connection to the last answer, in seconds. Making the bodies is not in it.
    pub requests: f64,
    /// From the start of the program, in seconds.
    pub in_all: f64,
}

impl Load {
    /// Has a process of its own send this.
    pub fn send(&self) -> Result<Took> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare").arg("--address").arg(self.address.to_string());
        if let Some(path) = &self.ca_file {
            command.arg("--ca-file").arg(path);
        }
        if let Some(path) = &self.files {
            command.arg("--files").arg(path);
        }
        for (name, value) in [
            ("--connections", self.connections.to_string()),
            ("--documents", self.documents.to_string()),
            ("--images", self.images.to_string()),
            ("--image-bytes", self.image_bytes.to_string()),
            ("--profiles", self.profiles.to_string()),
            ("--threads", self.threads.to_string()),
        ] {
            command.arg(name).arg(value);
        }
        let output = command.stderr(Stdio::inherit()).output().context("cannot start the bare client")?;
        ensure!(output.status.success(), "the bare client failed: {}", output.status);
        serde_json::from_slice(&output.stdout).context("the bare client did not say how long it took")
    }

    /// The same documents as a run of the worker, to the same sink.
    pub fn beside(shape: &material::Shape, sink: &Sink, connections: u32, threads: u8, files: Option<&Path>) -> Self {
        Self {
            address: sink.address,
            ca_file: sink.ca_file.clone(),
            connections,
            documents: shape.documents,
            images: shape.images,
            image_bytes: shape.image_bytes,
            profiles: shape.profiles,
            threads: threads.into(),
            files: files.map(Path::to_owned),
        }
    }
}

/// A request's body.
type AnyBody = Either<Full<Bytes>, FileBody>;

/// What all connections share.
struct Work {
    load: Load,
    host: String,
    next: AtomicU32,
    bodies: Vec<Bytes>,
    document: Bytes,
}

/// Sends everything and prints how long it took.
pub fn run(load: &Load) -> Result<()> {
    let started = Instant::now();
    let connector = load.ca_file.as_deref().map(connector).transpose()?;
    let fit = if load.files.is_some() {
        0
    } else {
        u32::try_from(BODY_BYTES / (load.image_bytes * 4 / 3).max(1)).unwrap_or(u32::MAX)
    };
    let bodies = (0..fit.min(BODIES))
        .map(|seed| Bytes::from(material::image_body(&material::content(Kind::Jpeg, load.image_bytes, seed.into()))))
        .collect();
    let work = Arc::new(Work {
        load: load.clone(),
        host: load.address.to_string(),
        next: AtomicU32::new(0),
        bodies,
        document: material::document_body(load.images).into(),
    });
    let runtime = match load.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
    };
    let first = Instant::now();
    runtime.block_on(async {
        let mut connections = JoinSet::new();
        for _ in 0..load.connections {
            connections.spawn(connect(Arc::clone(&work), connector.clone()));
        }
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })?;
    let took = Took { requests: first.elapsed().as_secs_f64(), in_all: started.elapsed().as_secs_f64() };
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

fn connector(ca_file: &Path) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).context("cannot read the sink's certificate")?)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn connect(work: Arc<Work>, connector: Option<TlsConnector>) -> Result<()> {
    let stream = TcpStream::connect(work.load.address).await.context("cannot reach the sink")?;
    stream.set_nodelay(true)?;
    match connector {
        Some(connector) => {
            let name = ServerName::IpAddress(work.load.address.ip().into());
            send_documents(&work, connector.connect(name, stream).await?).await
        }
        None => send_documents(&work, stream).await,
    }
}

/// Sends documents over one connection until there are no more.
async fn send_documents(work: &Work, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let frames = Frames::default();
    loop {
        let document = work.next.fetch_add(1, Relaxed);
        if document >= work.load.documents {
            return Ok(());
        }
        let profile = material::profile(document % work.load.profiles.max(1));
        for image in 0..work.load.images {
            let body = match &work.load.files {
                Some(folder) => {
                    let path = material::image_path(work.load.profiles, document, image, Kind::Jpeg);
                    Either::Right(FileBody::open(&folder.join(path), &frames)?)
                }
                None => {
                    let at = (document * work.load.images + image) as usize % work.bodies.len().max(1);
                    Either::Left(Full::new(work.bodies.get(at).cloned().unwrap_or_default()))
                }
            };
            post(&mut sender, &work.host, format!("/4.0/profiles/{profile}/document_images"), body).await?;
        }
        let path = format!("/4.0/profiles/{profile}/collected_data/documents");
        post(&mut sender, &work.host, path, Either::Left(Full::new(work.document.clone()))).await?;
    }
}

async fn post(sender: &mut http1::SendRequest<AnyBody>, host: &str, path: String, body: AnyBody) -> Result<()> {
    let request = Request::post(path)
        .header("host", host)
        .header("apikey", "bench")
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(body)?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "the sink answered {}", response.status());
    response.into_body().collect().await?;
    Ok(())
}

/// How much of a file makes one frame, as in the worker.
const CHUNK_BYTES: usize = 48 * 1024;

const HEAD: &[u8] = b"{\"image_type\":\"FRONT\",\"data\":\"";
const TAIL: &[u8] = b"\"}";

/// The encoder that the worker uses.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// The memory of frames that were written, to be used again.
type Frames = Arc<Mutex<Vec<Vec<u8>>>>;

/// A frame that is being written.
struct Lent {
    frame: Vec<u8>,
    frames: Frames,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}

/// A file that is read, hashed and encoded while it is sent.
struct FileBody {
    file: File,
    /// Bytes of the file that are still to be read, and of the body that are still to be sent.
    unread: usize,
    left: u64,
    piece: Vec<u8>,
    hash: Sha256,
    frames: Frames,
}

impl FileBody {
    fn open(path: &Path, frames: &Frames) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let bytes = usize::try_from(file.metadata()?.len())?;
        let left = (HEAD.len() + bytes.div_ceil(3) * 4 + TAIL.len()) as u64;
        let (piece, hash) = (vec![0; CHUNK_BYTES.min(bytes)], Sha256::new());
        Ok(Self { file, unread: bytes, left, piece, hash, frames: Arc::clone(frames) })
    }

    fn next_frame(&mut self, is_first: bool) -> io::Result<Bytes> {
        self.piece.truncate(self.unread);
        self.file.read_exact(&mut self.piece)?;
        self.hash.update(&self.piece);
        self.unread -= self.piece.len();
        let head = if is_first { HEAD } else { &[] };
        let tail = if self.unread == 0 { TAIL } else { &[] };
        let end = head.len() + self.piece.len().div_ceil(3) * 4;
        let mut frame = self.frames.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        frame.resize(end + tail.len(), 0);
        let parts = [(0..head.len(), head), (end..end + tail.len(), tail)];
        parts.into_iter().for_each(|(at, part)| frame.get_mut(at).unwrap_or_default().copy_from_slice(part));
        let target = frame.get_mut(head.len()..end).unwrap_or_default();
        BASE64.encode_slice(&self.piece, target).map_err(io::Error::other)?;
        if self.unread == 0 {
            // Else the compiler could leave it out.
            std::hint::black_box(self.hash.finalize_reset());
        }
        Ok(Bytes::from_owner(Lent { frame, frames: Arc::clone(&self.frames) }))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let is_first = this.unread > 0 && this.left > (this.unread.div_ceil(3) * 4 + TAIL.len()) as u64;
        let frame = this.next_frame(is_first)?;
        this.left = this.left.saturating_sub(frame.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
