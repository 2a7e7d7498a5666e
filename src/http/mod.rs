//! The page for people and monitoring: `/`, `/status.json`, `/metrics`, `/healthz`, and `/readyz`.
//!
//! It shows and changes nothing. There is no login, so it is meant for this machine; what it shows is what `status`
//! shows, and the metrics identify nobody.
//!
//! # Invariants
//!
//! - Only GET and HEAD are answered, and only to names that no other site can make a browser use: a page elsewhere that
//!   points its own name at this address (DNS rebinding) reads nothing.
//! - Clients cannot slow the worker down, nor silent ones the page: connections are few, end by themselves, make room
//!   while their request has not come, and carry one request each; at most one at a time reads the database, on a
//!   thread of its own.
//! - The page puts texts into the document as texts only: names of files are hostile.

mod guard;
mod host;

use std::{
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};

use self::guard::Guarded;
use crate::{clock::Timestamp, config, service::Vitals, status, telemetry};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

const RELOADING: &str = "the configuration is read again; ask again in a moment\n";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// On every answer: nothing from elsewhere is loaded, nothing is guessed, kept, framed, or read by other sites.
const HEADERS: [(header::HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONNECTION, "close"),
];

/// A bound address, on which nothing is answered yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// The page is served; dropping this ends it.
pub struct Serving {
    task: JoinHandle<()>,
    shared: Arc<HttpState>,
}

struct HttpState {
    /// `None` while the configuration is read again.
    vitals: RwLock<Option<Vitals>>,
    stopping: AtomicBool,
    listen: SocketAddr,
    /// Held while the database is read.
    reading: Arc<Mutex<()>>,
}

impl Bound {
    /// Takes the configured address.
    ///
    /// # Errors
    ///
    /// Where it is taken or cannot be used; with what to do about it.
    pub async fn bind(config: &config::Http) -> Result<Self, String> {
        let unusable = |error: std::io::Error| {
            format!(
                "cannot listen on {}: {error}: set [http] listen to a free address of this machine, or leave [http] out",
                config.listen
            )
        };
        let listener = TcpListener::bind(config.listen).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the page has no login, and other machines can reach it");
        }
        Ok(Self { listener, address })
    }

    /// Answers from now on.
    #[must_use]
    pub fn serve(self, vitals: Vitals) -> Serving {
        let shared = Arc::new(HttpState {
            vitals: RwLock::new(Some(vitals)),
            stopping: AtomicBool::new(false),
            listen: self.address,
            reading: Arc::default(),
        });
        let app = router(Arc::clone(&shared));
        tracing::info!(address = %self.address, "the page is served");
        let task = tokio::spawn(async move {
            // It ends only by being aborted; its listener reports no errors.
            axum::serve(Guarded::new(self.listener), app).await.ok();
        });
        Serving { task, shared }
    }
}

impl Serving {
    /// Records that the service is stopping because it was asked to: it is alive, and not ready.
    pub fn stopping(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// From now on this service is shown; with `None`, that there is none at present.
    pub fn show(&self, vitals: Option<Vitals>) {
        *self.shared.vitals.write().unwrap_or_else(PoisonError::into_inner) = vitals;
    }
}

impl HttpState {
    fn vitals(&self) -> Result<Vitals, Response> {
        let vitals = self.vitals.read().unwrap_or_else(PoisonError::into_inner).clone();
        vitals.ok_or_else(|| answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, RELOADING))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(shared: Arc<HttpState>) -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", PAGE)))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/page.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/status.json", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(async || {
            answer(StatusCode::NOT_FOUND, TEXT, "there are /, /status.json, /metrics, /healthz, and /readyz\n")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), check))
        .with_state(shared)
}

/// Refuses requests that do not come from a person or a monitor of this machine.
async fn check(State(shared): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let mut response = if !host::is_ours(&request, shared.listen) {
        let text = format!("ask by address, for example as http://{}/: other names are not answered\n", shared.listen);
        answer(StatusCode::MISDIRECTED_REQUEST, TEXT, text)
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered\n");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        refused
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn healthz(State(shared): State<Arc<HttpState>>) -> Response {
    if shared.stopping.load(Ordering::Relaxed) {
        return answer(StatusCode::OK, TEXT, "stopping\n");
    }
    match shared.vitals() {
        Ok(vitals) => verdict(vitals.trouble(), "well\n"),
        Err(_) => answer(StatusCode::OK, TEXT, RELOADING),
    }
}

async fn readyz(State(shared): State<Arc<HttpState>>) -> Response {
    if shared.stopping.load(Ordering::Relaxed) {
        return answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n");
    }
    let vitals = match shared.vitals() {
        Ok(vitals) => vitals,
        Err(reloading) => return reloading,
    };
    verdict(vitals.unready(), "ready\n")
}

fn verdict(trouble: Option<String>, well: &'static str) -> Response {
    match trouble {
        Some(why) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        None => answer(StatusCode::OK, TEXT, well),
    }
}

async fn status(State(shared): State<Arc<HttpState>>) -> Response {
    let read = |vitals: &Vitals| {
        let status = status::read(vitals.database(), Timestamp::now()).map_err(|error| error.to_string())?;
        serde_json::to_string(&status).map_err(|error| error.to_string())
    };
    reading(&shared, JSON, read).await
}

async fn metrics(State(shared): State<Arc<HttpState>>) -> Response {
    let read = |vitals: &Vitals| vitals.numbers(Timestamp::now()).map_err(|error| error.to_string());
    reading(&shared, telemetry::MEDIA_TYPE, read).await
}

/// Reads the database on a thread that may block, one reader at a time.
async fn reading(
    shared: &HttpState,
    media_type: &'static str,
    read: impl FnOnce(&Vitals) -> Result<String, String> + Send + 'static,
) -> Response {
    let turn = Arc::clone(&shared.reading).lock_owned().await;
    let vitals = match shared.vitals() {
        Ok(vitals) => vitals,
        Err(reloading) => return reloading,
    };
    let read = tokio::task::spawn_blocking(move || {
        // Kept to the end of the query, even if the client has gone.
        let _turn = turn;
        read(&vitals)
    });
    match read.await {
        Ok(Ok(text)) => answer(StatusCode::OK, media_type, text),
        Ok(Err(why)) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("the queue cannot be read: {why}\n")),
        Err(_) => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "reading the queue failed of a defect: see the log\n")
        }
    }
}

fn file(media_type: &'static str, text: &'static str) -> Response {
    answer(StatusCode::OK, media_type, text)
}

fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, media_type)], body.into()).into_response()
}

#[cfg(test)]
mod tests;
