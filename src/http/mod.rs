//! The page for people and monitoring: `/`, `/status.json`, `/metrics`, `/healthz`, and `/readyz`; and what the page asks for
//! besides: `/series.json`, `/jobs.json`, `/job/ID`, `/manifest/ID`, and `/search`.
//!
//! It shows and changes nothing. What it shows is what `status`, `jobs`, `show` and `why` show, so beyond this machine it needs
//! a token; the metrics identify nobody.
//!
//! # Invariants
//!
//! - Only GET and HEAD are answered, and only to names that no other site can make a browser use: a page elsewhere that
//!   points its own name at this address (DNS rebinding) reads nothing.
//! - Clients cannot slow the worker down, nor silent ones the page: connections are few, end by themselves, make room
//!   while their request has not come, and carry one request each; at most one at a time reads the database, on a
//!   thread of its own.
//! - The page puts texts into the document as texts only: names of files are hostile.

mod access;
mod guard;
mod host;
mod lookups;

use std::{
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};

use self::{
    access::{PageAccess, Permitted},
    guard::Guarded,
    lookups::LookupError,
};
use crate::{clock::Timestamp, config, queue::Reader, service::Vitals, status, telemetry};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

const RELOADING: &str = "the configuration is read again; ask again in a moment\n";

/// How long an answer to `/status.json` is given again.
const STATUS_LASTS: Duration = Duration::from_secs(1);

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
    access: PageAccess,
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
    access: PageAccess,
    /// The last answer to `/status.json`, and when it was read: however many look on, the queue is read once a second.
    last_status: std::sync::Mutex<Option<(Instant, Arc<str>)>>,
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
        let access = PageAccess::of(config.token_file.as_deref(), address.ip().is_loopback())?;
        if access == PageAccess::NumbersOnly {
            tracing::warn!(
                %address,
                "other machines can reach this address, so only /metrics, /healthz and /readyz are served: set [http] \
                 token_file to serve the page too"
            );
        }
        Ok(Self { listener, address, access })
    }

    /// Answers from now on.
    #[must_use]
    pub fn serve(self, vitals: Vitals) -> Serving {
        let shared = Arc::new(HttpState {
            vitals: RwLock::new(Some(vitals)),
            stopping: AtomicBool::new(false),
            listen: self.address,
            access: self.access,
            last_status: std::sync::Mutex::default(),
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
    /// The last answer to `/status.json`, where it is new enough.
    fn last_status(&self) -> Option<String> {
        let last = self.last_status.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(read, _)| read.elapsed() < STATUS_LASTS).map(|(_, text)| text.to_string())
    }

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
        .route("/series.json", get(series))
        .route("/jobs.json", get(jobs))
        .route("/job/{id}", get(job))
        .route("/manifest/{id}", get(manifest))
        .route("/search", get(search))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(async || {
            answer(StatusCode::NOT_FOUND, TEXT, "there are /, /status.json, /series.json, /jobs.json, /job/ID, /manifest/ID, /search?q=, /metrics, /healthz, and /readyz\n")
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
        match shared.access.admits(request.uri().path(), request.headers()) {
            Permitted::Answer => next.run(request).await,
            Permitted::AskForToken => {
                let text = "send the token of [http] token_file: Authorization: Bearer TOKEN, or as a password\n";
                let mut asked = answer(StatusCode::UNAUTHORIZED, TEXT, text);
                let how = HeaderValue::from_static("Basic realm=\"passfort-ingest\", charset=\"UTF-8\"");
                asked.headers_mut().insert(header::WWW_AUTHENTICATE, how);
                asked
            }
            Permitted::NotServed => {
                let text =
                    "beyond this machine only /metrics, /healthz and /readyz are served without [http] token_file\n";
                answer(StatusCode::FORBIDDEN, TEXT, text)
            }
        }
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
    if let Some(text) = shared.last_status() {
        return answer(StatusCode::OK, JSON, text);
    }
    let state = Arc::clone(&shared);
    let read = move |vitals: &Vitals| {
        // Whoever waited for their turn meanwhile has the answer of whoever had it.
        if let Some(text) = state.last_status() {
            return Ok(text);
        }
        let status = status::read(vitals.database(), Timestamp::now()).map_err(|error| error.to_string())?;
        let text = serde_json::to_string(&status).map_err(|error| error.to_string())?;
        let last = Some((Instant::now(), text.as_str().into()));
        *state.last_status.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(text)
    };
    reading(&shared, JSON, read).await
}

async fn series(State(shared): State<Arc<HttpState>>) -> Response {
    looked_up(&shared, |reader, now| {
        let series = reader.series(now).map_err(LookupError::Queue)?;
        Ok(serde_json::to_string(&series).unwrap_or_default())
    })
    .await
}

async fn jobs(State(shared): State<Arc<HttpState>>, RawQuery(query): RawQuery) -> Response {
    looked_up(&shared, move |reader, now| lookups::jobs(reader, query.as_deref(), now)).await
}

async fn job(State(shared): State<Arc<HttpState>>, Path(id): Path<String>) -> Response {
    looked_up(&shared, move |reader, now| lookups::job(reader, &id, now)).await
}

async fn manifest(State(shared): State<Arc<HttpState>>, Path(id): Path<String>, RawQuery(query): RawQuery) -> Response {
    looked_up(&shared, move |reader, now| lookups::manifest(reader, &id, query.as_deref(), now)).await
}

async fn search(State(shared): State<Arc<HttpState>>, RawQuery(query): RawQuery) -> Response {
    looked_up(&shared, move |reader, _| lookups::search(reader, query.as_deref())).await
}

/// Answers one question of the queue.
async fn looked_up(
    shared: &HttpState,
    look: impl FnOnce(&Reader, Timestamp) -> Result<String, LookupError> + Send + 'static,
) -> Response {
    let (sent, found) = tokio::sync::oneshot::channel();
    let read = move |vitals: &Vitals| {
        let reader = Reader::open(vitals.database()).map_err(|error| error.to_string())?;
        match look(&reader, Timestamp::now()) {
            Ok(text) => Ok(text),
            Err(LookupError::Queue(error)) => Err(error.to_string()),
            Err(other) => {
                sent.send(other).ok();
                Ok(String::new())
            }
        }
    };
    let read = reading(shared, JSON, read).await;
    match found.await {
        Ok(LookupError::Unknown(what)) => answer(StatusCode::NOT_FOUND, TEXT, format!("{what}\n")),
        Ok(LookupError::Malformed(why)) => answer(StatusCode::BAD_REQUEST, TEXT, format!("{why}\n")),
        _ => read,
    }
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
