//! Limits the connections of the page in number and duration, so that a client that opens many, or sends nothing on
//! one, takes neither files nor memory from the worker, nor places from others.
//!
//! Where all places are taken, the next connection takes that of the oldest one whose request has not come: whoever
//! means to ask does so within a round trip. Where all of them wait for their answers, it waits too.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections at once. A browser opens six, a monitor one.
const MOST: usize = 32;

/// How long a connection may last: one request and its answer take milliseconds, and a database that is being written
/// by others is waited for ten seconds.
const LONGEST: Duration = Duration::from_secs(20);

/// Between two tries where no connection can be accepted: mostly too many files are open.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The end of a request's head.
const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// Accepts connections, and keeps no more of them than it has places.
pub(super) struct Guarded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// In the order in which they came.
    guests: Vec<Guest>,
    longest: Duration,
}

/// What the listener keeps of a connection.
#[derive(Clone, Default)]
struct Guest {
    /// Its request's head is there.
    asked: Arc<AtomicBool>,
    /// It has ended, or has to.
    left: CancellationToken,
}

impl Guarded {
    /// Guards a listener.
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with(listener, MOST, LONGEST)
    }

    fn with(listener: TcpListener, places: usize, longest: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)), guests: Vec::new(), longest }
    }

    /// Has the oldest connection end whose request has not come, where no place is free.
    fn make_room(&mut self) {
        self.guests.retain(|guest| !guest.left.is_cancelled());
        let silent = self.guests.iter().find(|guest| !guest.asked.load(Ordering::Relaxed));
        if let Some(guest) = silent.filter(|_| self.places.available_permits() == 0) {
            guest.left.cancel();
        }
    }
}

impl Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.make_room();
                    // The semaphore is never closed; if it were, no connection would be accepted.
                    let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                        return std::future::pending().await;
                    };
                    let guest = Guest::default();
                    self.guests.push(guest.clone());
                    return (Connection::new(stream, self.longest, guest, place), address);
                }
                Err(error) => {
                    tracing::debug!(%error, "the page cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself.
pub(super) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    sent_away: Pin<Box<WaitForCancellationFutureOwned>>,
    guest: Guest,
    /// How many bytes of the end of a head the last bytes are.
    matched: usize,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, longest: Duration, guest: Guest, place: OwnedSemaphorePermit) -> Self {
        let sent_away = Box::pin(guest.left.clone().cancelled_owned());
        Self { stream, end: Box::pin(tokio::time::sleep(longest)), sent_away, guest, matched: 0, _place: place }
    }

    /// Fails once its time is over, or its place is needed; until then it wakes the task when that is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let over = self.end.as_mut().poll(cx).is_ready() || self.sent_away.as_mut().poll(cx).is_ready();
        if over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Notes the end of a request's head among what was received.
    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.matched = match HEAD_END.get(self.matched) {
                Some(next) if next == byte => self.matched + 1,
                _ => usize::from(*byte == b'\r'),
            };
            if self.matched == HEAD_END.len() {
                self.guest.asked.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.guest.left.cancel();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(buf.filled().get(before..).unwrap_or_default());
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn guarded(places: usize, longest: Duration) -> Guarded {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Guarded::with(listener, places, longest)
    }

    #[tokio::test]
    async fn a_connection_on_which_nothing_is_sent_ends() {
        let mut guarded = guarded(1, Duration::from_millis(20)).await;
        let _silent = TcpStream::connect(guarded.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = guarded.accept().await;
        let mut buffer = [0; 1];
        let ended = connection.read(&mut buffer).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_takes_that_of_a_silent_one() {
        let mut guarded = guarded(2, LONGEST).await;
        let address = guarded.local_addr().unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        let (mut asked, _) = guarded.accept().await;
        for part in [&b"GET / HTTP/1.1\r\nA: \r\r\n"[..], b"\r\n"] {
            assert!(!asked.guest.asked.load(Ordering::Relaxed));
            asking.write_all(part).await.unwrap();
            let mut buffer = [0; 100];
            assert_eq!(asked.read(&mut buffer).await.unwrap(), part.len());
        }
        assert!(asked.guest.asked.load(Ordering::Relaxed));
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut silent, _) = guarded.accept().await;
        let _next = TcpStream::connect(address).await.unwrap();
        let sent_away = tokio::spawn(async move { silent.read(&mut [0; 1]).await.unwrap_err().kind() });
        let (next, _) = guarded.accept().await;
        assert_eq!(sent_away.await.unwrap(), io::ErrorKind::TimedOut);
        assert!(!asked.guest.left.is_cancelled() && !next.guest.left.is_cancelled());
    }

    #[tokio::test]
    async fn who_comes_when_all_wait_for_answers_waits_too() {
        let mut guarded = guarded(1, LONGEST).await;
        let address = guarded.local_addr().unwrap();
        let _clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (first, _) = guarded.accept().await;
        first.guest.asked.store(true, Ordering::Relaxed);
        assert!(tokio::time::timeout(Duration::from_millis(50), guarded.accept()).await.is_err());
        assert!(!first.guest.left.is_cancelled());
    }
}
