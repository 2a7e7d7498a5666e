//! The connections: accepting them, wrapping them in TLS, and closing them when a fault says so.
//!
//! hyper has no way to close a connection without an answer. So every connection is wrapped in a [`Wire`] that fails
//! each read and write once its [`ConnectionControl`] is closed: hyper then gives up and drops the socket before a byte of an answer
//! has left. Handshakes run in tasks of their own, so a client that is slow at one keeps nobody waiting.

use std::{
    fs, io,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::raw::Raw;

/// How long a handshake may take. A client on the same machine needs milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a call can do to the connection that it came on.
#[derive(Debug, Default)]
pub(super) struct ConnectionControl {
    closed: AtomicBool,
    reset: AtomicBool,
    /// Raised when hyper took the answer; lowered where it could not be written.
    answered: Mutex<Option<Arc<AtomicBool>>>,
    /// What goes out in the place of hyper's next answer.
    raw: Mutex<Option<Raw>>,
}

impl ConnectionControl {
    /// Closes the connection the next time that hyper touches it.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The same, but with a reset instead of an orderly end.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
        self.close();
    }

    /// Records which answer is written next.
    pub(super) fn answering(&self, answered: Arc<AtomicBool>) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered);
    }

    /// Has these bytes go out in the place of the answer that hyper writes next, which must have no body.
    pub(super) fn say(&self, raw: Raw) {
        *self.raw.lock().unwrap_or_else(PoisonError::into_inner) = Some(raw);
    }

    fn take_raw(&self) -> Option<Raw> {
        self.raw.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn write_failed(&self) {
        if let Some(answered) = self.answered.lock().unwrap_or_else(PoisonError::into_inner).take() {
            answered.store(false, Ordering::Release);
        }
    }
}

/// A connection, plain or encrypted.
pub(super) struct Wire {
    stream: Stream,
    line: Arc<ConnectionControl>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What goes out in the place of an answer, and how much of it has.
    raw: Option<(Raw, usize)>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    fn new(stream: Stream, stopped: &CancellationToken) -> Self {
        Self { stream, line: Arc::default(), stopped: Box::pin(stopped.clone().cancelled_owned()), raw: None }
    }

    /// Fails where the connection is to be closed, or the sandbox stops.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let stopped = self.stopped.as_mut().poll(cx).is_ready();
        if !stopped && !self.line.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.line.reset.load(Ordering::Acquire) {
            let tcp = match &self.stream {
                Stream::Plain(tcp) => tcp,
                Stream::Tls(tls) => tls.get_ref().0,
            };
            // Where this fails, the connection still closes.
            tcp.set_zero_linger().ok();
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Writes out what replaces an answer; returns whether there was anything.
    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.raw = self.raw.take().or_else(|| self.line.take_raw().map(|raw| (raw, 0)));
        let Some((raw, written)) = &mut self.raw else { return Poll::Ready(Ok(false)) };
        while let Some(rest) = raw.bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            *written += ready!(match &mut self.stream {
                Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, rest),
                Stream::Tls(tls) => Pin::new(tls).poll_write(cx, rest),
            })?;
        }
        ready!(match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        })?;
        if let Some(taken) = raw.taken.take() {
            taken.store(true, Ordering::Release);
        }
        if !raw.keeps {
            self.line.close();
        }
        self.raw = None;
        Poll::Ready(Ok(true))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let raw = match self.check(cx) {
            Err(closed) => Err(closed),
            Ok(()) => ready!(self.poll_raw(cx)),
        };
        let written = match raw {
            Err(failed) => Err(failed),
            // Hyper's own answer is taken for written, and never goes out.
            Ok(true) => Ok(buf.len()),
            Ok(false) => ready!(match &mut self.stream {
                Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
                Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            }),
        };
        if written.is_err() {
            self.line.write_failed();
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// Hands out connections that are ready for HTTP.
pub(super) struct Wires {
    ready: mpsc::Receiver<Wire>,
}

impl Wires {
    /// Accepts connections until the token is cancelled.
    pub(super) fn accept_from(listener: TcpListener, tls: Option<TlsAcceptor>, stopped: CancellationToken) -> Self {
        let (sender, ready) = mpsc::channel(64);
        tokio::spawn(async move {
            stopped.clone().run_until_cancelled_owned(accept_all(listener, tls, sender, stopped)).await;
        });
        Self { ready }
    }
}

async fn accept_all(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    sender: mpsc::Sender<Wire>,
    stopped: CancellationToken,
) {
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Mostly too many open files: others must close theirs first.
                tracing::warn!(%error, "the sandbox cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Only speed is at stake.
        tcp.set_nodelay(true).ok();
        let Some(tls) = &tls else {
            if sender.send(Wire::new(Stream::Plain(tcp), &stopped)).await.is_err() {
                return;
            }
            continue;
        };
        let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(tcp));
        let (sender, stopped) = (sender.clone(), stopped.clone());
        tokio::spawn(async move {
            if let Some(Ok(Ok(tls))) = stopped.run_until_cancelled(handshake).await {
                // Nobody to take it means that the sandbox has stopped.
                sender.send(Wire::new(Stream::Tls(Box::new(tls)), &stopped)).await.ok();
            }
        });
    }
}

impl Listener for Wires {
    type Io = Wire;
    type Addr = Arc<ConnectionControl>;

    async fn accept(&mut self) -> (Wire, Arc<ConnectionControl>) {
        match self.ready.recv().await {
            Some(wire) => {
                let line = Arc::clone(&wire.line);
                (wire, line)
            }
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Arc<ConnectionControl>> {
        Ok(Arc::default())
    }
}

/// The line of the connection that a request came on.
#[derive(Clone)]
pub(super) struct OnLine(pub Arc<ConnectionControl>);

impl Connected<IncomingStream<'_, Wires>> for OnLine {
    fn connect_info(stream: IncomingStream<'_, Wires>) -> Self {
        Self(Arc::clone(stream.remote_addr()))
    }
}

/// Reads a certificate chain and its key.
///
/// # Errors
///
/// Which file is wrong, and why.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let wrong = |path: &Path, why: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("cannot use '{}' for TLS: {why}", path.display()))
    };
    let read = |path: &Path| fs::read(path).map_err(|error| wrong(path, &error));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| wrong(key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| wrong(certificate, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
