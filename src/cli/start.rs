//! What commands share at their start and end: logs, the runtime, signals, exit codes.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::Exit;
use crate::{config::ConfigError, queue::QueueError, service::ServiceError};

/// The exit code of a command that could not be carried out.
pub(super) fn exit_for(error: &anyhow::Error) -> Exit {
    let usage = error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || matches!(
                cause.downcast_ref(),
                Some(
                    ServiceError::Config(_)
                        | ServiceError::Client(_)
                        | ServiceError::AdoptionUnfinished
                        | ServiceError::Queue(QueueError::Lineage { .. })
                )
            )
            || matches!(
                cause.downcast_ref(),
                Some(
                    QueueError::Foreign { .. }
                        | QueueError::Newer { .. }
                        | QueueError::Older { .. }
                        | QueueError::Damaged { .. }
                        | QueueError::Lineage { .. }
                        | QueueError::Shared { .. }
                        | QueueError::OtherName { .. }
                        | QueueError::Absent { .. }
                        | QueueError::Io { .. }
                        | QueueError::Pragma { .. }
                )
            )
            || cause.is::<Usage>()
    });
    if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ServiceError::AccountUnknown { .. }))) {
        Exit::Unreachable
    } else if error.chain().any(|cause| cause.is::<Interrupted>()) {
        Exit::WorkLeft
    } else if usage {
        Exit::Usage
    } else {
        Exit::Refused
    }
}

/// Work had begun when this came between.
#[derive(Debug, thiserror::Error)]
#[error("stopped with work left: {0}; nothing is lost; the next start continues")]
pub struct Interrupted(String);

impl Interrupted {
    /// With the cause in full.
    pub(super) fn by(error: impl Into<anyhow::Error>) -> Self {
        Self(format!("{:#}", error.into()))
    }
}

/// A person did not want to wait for the orderly end.
#[derive(Debug, thiserror::Error)]
#[error("a second signal")]
pub struct SecondSignal;

/// Something about how the command was called; nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Runs a command's future. One thread makes all calls: for small documents that is faster than several, and what may
/// block runs on threads of its own.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    // A thread that waits for a mount which does not answer must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read the configuration again. A command that is no daemon stops.
    Reload,
}

/// The signals that arrive after this was made, whether or not anybody waits for them by then.
pub(super) struct SignalInbox {
    signals: std::io::Result<[Signal; 3]>,
}

impl SignalInbox {
    /// Within a runtime only.
    pub(super) fn open() -> Self {
        let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let [terminate, interrupt, hangup] = signals;
        Self { signals: (|| Ok([terminate?, interrupt?, hangup?]))() }
    }

    /// The next signal. Cancellation loses none.
    pub(super) async fn next(&mut self) -> Asked {
        let Ok([terminate, interrupt, hangup]) = &mut self.signals else {
            tracing::error!("signals cannot be received: stop with SIGKILL, which loses nothing");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => Asked::Stop,
            _ = interrupt.recv() => Asked::Stop,
            _ = hangup.recv() => Asked::Reload,
        }
    }

    /// Ends at the next signal that asks for a stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }

    /// What `ending` comes to, or `None` where a further signal asks not to wait for it.
    pub(super) async fn unless_again<T>(&mut self, ending: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            ended = ending => Some(ended),
            () = self.stop() => {
                tracing::warn!("a second signal: calls under way are not waited for; the next start finds out what became of them");
                None
            }
        }
    }
}

/// Ends at the first signal after the call, whether or not anybody waits for it by then. Within a runtime only.
pub(super) fn signalled() -> impl Future<Output = ()> + Send {
    let mut signals = SignalInbox::open();
    async move {
        signals.next().await;
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    #[tokio::test]
    async fn a_signal_that_comes_before_anybody_waits_for_it_is_not_lost_and_ends_nothing() {
        let signalled = super::signalled();
        kill_process(getpid(), Signal::TERM).unwrap();
        signalled.await;
    }
}
