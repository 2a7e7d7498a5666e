//! Limits the connections of the page in number and duration, so that a client that opens many, or sends nothing on
//! one, takes no files or memory from the worker.
//!
//! Further connections wait in the system's own backlog, which is bounded.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
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

/// Connections at once. A browser opens six, a monitor one.
const MOST: usize = 32;

/// How long a connection may last: one request and its answer take milliseconds, and a database that is being written
/// by others is waited for ten seconds.
const LONGEST: Duration = Duration::from_secs(20);

/// Between two tries where no connection can be accepted: mostly too many files are open.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Accepts no more connections than it has places.
pub(super) struct Guarded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    longest: Duration,
}

impl Guarded {
    /// Guards a listener.
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MOST)), longest: LONGEST }
    }
}

impl Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The semaphore is never closed; if it were, no connection would be accepted.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let end = Box::pin(tokio::time::sleep(self.longest));
                    return (Connection { stream, end, _place: place }, address);
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
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Fails once its time is over; until then it wakes the task when that is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn guarded(places: usize, longest: Duration) -> Guarded {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Guarded { listener, places: Arc::new(Semaphore::new(places)), longest }
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
    async fn who_comes_when_all_places_are_taken_waits_for_one() {
        let mut guarded = guarded(1, LONGEST).await;
        let address = guarded.local_addr().unwrap();
        let _clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (first, _) = guarded.accept().await;
        let next = tokio::time::timeout(Duration::from_millis(50), guarded.accept());
        assert!(next.await.is_err());
        drop(first);
        guarded.accept().await;
    }
}
