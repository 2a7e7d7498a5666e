//! How another process wakes the worker after it changed the queue: a datagram socket beside the database.
//!
//! A notification is only a hint; a worker that misses one polls the queue after a while.

use std::{fs, io, os::unix::net, path::Path};

use tokio::net::UnixDatagram;

use super::beside;

/// How the name of the socket ends.
const ENDING: &str = ".bell";

/// Wakes the worker on this database, if there is one.
pub(crate) fn notify(database: &Path) {
    let sent = net::UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(b"!", beside(database, ENDING))
    });
    if let Err(error) = sent {
        tracing::trace!(%error, "no worker listens");
    }
}

/// The worker's end of the socket.
#[derive(Debug)]
pub struct WakeSocket {
    socket: UnixDatagram,
}

impl WakeSocket {
    /// Listens beside the database, whose lock the caller holds.
    ///
    /// # Errors
    ///
    /// Where the socket cannot be made, e.g. because the path is longer than the 107 bytes that a socket's may have.
    pub(crate) fn bind(database: &Path) -> io::Result<Self> {
        let path = beside(database, ENDING);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { socket: UnixDatagram::bind(path)? })
    }

    /// Returns when somebody notified; several notifications may count as one. Cancel safe.
    pub(crate) async fn notified(&self) {
        let mut byte = [0; 8];
        if let Err(error) = self.socket.recv(&mut byte).await {
            tracing::warn!(%error, "the wake socket is broken");
            std::future::pending::<()>().await;
        }
        while self.socket.try_recv(&mut byte).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_notification_wakes_the_worker_and_without_one_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        notify(&database);
        let socket = WakeSocket::bind(&database).unwrap();
        notify(&database);
        notify(&database);
        socket.notified().await;
        drop(socket);
        assert!(WakeSocket::bind(&database).is_ok());
    }
}
