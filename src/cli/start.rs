//! What commands share at their start and end: logs, the runtime, signals, exit codes.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

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

/// Ends at the first SIGTERM or SIGINT after the call, whether or not anybody waits for it by then. Within a runtime only.
pub(super) fn signalled() -> impl Future<Output = ()> + Send {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signals cannot be received: stop with SIGKILL, which loses nothing");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
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
