//! A stand-in for the PassFort API 4.0 on loopback, to rehearse with and to test against.
//!
//! It implements what public sources say of the API, checks requests as strictly as they allow, and injects faults by
//! rules. It keeps hashes and ids, never content, so bodies of any size pass in constant memory. It is not a server for
//! others: it refuses to listen on anything but loopback, and everybody there may change its rules.
//!
//! Invariants:
//! - a call takes effect and is recorded in the ledger in one step, before a byte of its answer goes out;
//! - a call that a fault keeps from taking effect changes nothing but the ledger;
//! - a call that takes effect late is recorded when it does, not when its client was turned away;
//! - no key is ever written down.

mod answer_body;
mod body;
mod calls;
mod control;
mod data;
mod dice;
mod fault_kind;
mod faults;
mod ledger;
mod limits;
mod list_fault;
mod operation;
mod options;
mod raw;
mod reply;
mod serve;
mod store;
mod syntax;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::Router;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{
    dice::Dice,
    fault_kind::{FaultKind, FaultStatus, LateDeed},
    faults::{FaultRule, When},
    ledger::{LedgerEntry, LedgerSummary},
    limits::{LimitRule, LimitSays, LimitShape},
    list_fault::ListFault,
    operation::{ApiCall, FileReadMethod},
    options::{IdOrder, ImageIds, ListShape, Options},
    store::{DocumentView, ImageView},
    syntax::{RuleError, parse_duration},
};
use self::{
    faults::Faults,
    ledger::Ledger,
    limits::Limits,
    store::Store,
    wire::{OnLine, Wires},
};

/// How long [`Sandbox::stop`] waits for connections that were asked to close.
const STOP: Duration = Duration::from_secs(5);

/// What every call shares.
struct SandboxState {
    options: Options,
    /// Cancelled when the sandbox is to stop.
    stopped: CancellationToken,
    started: Instant,
    world: Mutex<World>,
}

impl SandboxState {
    fn world(&self) -> MutexGuard<'_, World> {
        // What a panic left behind is consistent: every change is made in one step.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that calls change.
struct World {
    keys: Vec<String>,
    faults: Faults,
    limits: Limits,
    store: Store,
    ledger: Ledger,
    /// Calls that were given up by their clients and are still to be done.
    deferred: u64,
    /// How long a document that is created now stays invisible to reads.
    visible_after: Duration,
}

impl World {
    fn summary(&self) -> LedgerSummary {
        LedgerSummary { calls: self.ledger.calls(), deferred: self.deferred, ..self.store.holdings() }
    }
}

/// A running sandbox; it stops when this is dropped.
pub struct Sandbox {
    addr: SocketAddr,
    shared: Arc<SandboxState>,
    server: JoinHandle<()>,
    _stop_on_drop: DropGuard,
}

/// Starts a sandbox on the current runtime.
///
/// # Errors
///
/// An address that is not loopback or cannot be bound, a ledger that cannot be opened, a certificate that cannot be
/// used: each with what to do about it where that is known.
pub async fn start(options: Options) -> io::Result<Sandbox> {
    if !options.listen.ip().is_loopback() {
        let reason = format!(
            "the sandbox listens on loopback only, not on {}: it has no real keys; use 127.0.0.1 or [::1]",
            options.listen
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let base_path = options.base_path.trim_end_matches('/').to_owned();
    if !base_path.is_empty() && !base_path.starts_with('/') {
        let reason = format!("the base path '{base_path}' does not begin with a slash: write e.g. /4.0");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let options = Options { base_path, ..options };
    let tls = options.tls.as_ref().map(|(certificate, key)| wire::acceptor(certificate, key)).transpose()?;
    let ledger = Ledger::open(options.ledger.as_deref(), options.kept_calls)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", options.listen)))?;
    let addr = listener.local_addr()?;

    let stopped = CancellationToken::new();
    let world = World {
        keys: options.keys.clone(),
        faults: Faults::new(options.faults.clone(), options.seed),
        limits: Limits::new(options.limits.clone()),
        store: Store::default(),
        ledger,
        deferred: 0,
        visible_after: options.visible_after,
    };
    let shared =
        Arc::new(SandboxState { options, stopped: stopped.clone(), started: Instant::now(), world: Mutex::new(world) });
    let app = Router::new().fallback(serve::serve).with_state(Arc::clone(&shared));
    let wires = Wires::accept_from(listener, tls, stopped.clone());
    let server = axum::serve(wires, app.into_make_service_with_connect_info::<OnLine>())
        .with_graceful_shutdown(stopped.clone().cancelled_owned());
    let server = tokio::spawn(async move {
        // It ends only when it is stopped; its listener reports no errors.
        server.await.ok();
    });
    Ok(Sandbox { addr, shared, server, _stop_on_drop: stopped.drop_guard() })
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a client is configured with, e.g. `http://127.0.0.1:41234/4.0`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}{}", self.origin(), self.shared.options.base_path)
    }

    /// Where the control calls are, e.g. `http://127.0.0.1:41234/_sandbox/`.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("{}{}", self.origin(), control::PREFIX)
    }

    fn origin(&self) -> String {
        let scheme = if self.shared.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Every call that is kept, the oldest first.
    #[must_use]
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.shared.world().ledger.entries()
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub fn summary(&self) -> LedgerSummary {
        self.shared.world().summary()
    }

    /// Every document with its images, whether reads show it yet or not.
    #[must_use]
    pub fn documents(&self) -> Vec<DocumentView> {
        self.shared.world().store.documents()
    }

    /// Puts what these calls of another sandbox created onto its profiles, under the same ids: this one continues where
    /// that one was. The ledger of this one does not contain them.
    pub fn restore(&self, calls: &[LedgerEntry]) {
        let mut world = self.shared.world();
        let now = Instant::now();
        calls.iter().for_each(|call| world.store.restore(call, now));
    }

    /// Removes a document as a person does in the portal; its images stay. Returns whether it was there.
    #[must_use]
    pub fn remove_document(&self, id: &str) -> bool {
        self.shared.world().store.remove_document(id)
    }

    /// Replaces the faults; their counts restart.
    pub fn set_faults(&self, rules: Vec<FaultRule>) {
        self.shared.world().faults.replace(rules);
    }

    /// Puts these limits in the place of the old ones; their buckets are full.
    pub fn set_limits(&self, rules: Vec<LimitRule>) {
        self.shared.world().limits = Limits::new(rules);
    }

    /// From now on, a created document stays invisible to reads for so long.
    pub fn set_visible_after(&self, visible_after: Duration) {
        self.shared.world().visible_after = visible_after;
    }

    /// Puts these accepted keys in the place of the old ones.
    pub fn set_keys(&self, keys: Vec<String>) {
        self.shared.world().keys = keys;
    }

    /// Closes every connection, whatever it waits for, and frees the address.
    pub async fn stop(mut self) {
        self.shared.stopped.cancel();
        if tokio::time::timeout(STOP, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}
