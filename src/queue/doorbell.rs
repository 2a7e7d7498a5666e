//! How another process tells the worker that it changed the queue: a datagram socket beside the database.
//!
//! The ring is only a hint to look; a worker that misses one looks again by itself after a while.

use std::{
    fs, io,
    os::unix::net,
    path::{Path, PathBuf},
};

use tokio::net::UnixDatagram;

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".bell");
    name.into()
}

/// Tells the worker on this database, if there is one, that something changed.
pub fn ring(database: &Path) {
    let rung = net::UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(b"!", beside(database))
    });
    if let Err(error) = rung {
        tracing::trace!(%error, "nobody hears the doorbell");
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Doorbell {
    socket: UnixDatagram,
}

impl Doorbell {
    /// Listens beside the database; whoever holds its lock may do so.
    ///
    /// # Errors
    ///
    /// Where the socket cannot be made, e.g. because the path is longer than the 107 bytes that a socket's may have.
    pub fn hang(database: &Path) -> io::Result<Self> {
        let path = beside(database);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { socket: UnixDatagram::bind(path)? })
    }

    /// Returns when somebody rang; several rings may count as one. Safe to drop.
    pub async fn rung(&self) {
        let mut byte = [0; 8];
        if let Err(error) = self.socket.recv(&mut byte).await {
            tracing::warn!(%error, "the doorbell is broken");
            std::future::pending::<()>().await;
        }
        while self.socket.try_recv(&mut byte).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_is_heard_and_rings_without_a_worker_are_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        ring(&database);
        let bell = Doorbell::hang(&database).unwrap();
        ring(&database);
        ring(&database);
        bell.rung().await;
        drop(bell);
        assert!(Doorbell::hang(&database).is_ok());
    }
}
