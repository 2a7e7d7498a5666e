//! One request from its first byte to the last of its answer: the I/O around [`calls`] and the faults.
//!
//! A call takes effect and is recorded in one step, under one lock, before anything of its answer goes out. If the
//! client leaves earlier, hyper drops the handler; the call's [`CallRecorder`] then records that by itself.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use axum::{
    body::{Body as HttpBody, Bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method},
    response::Response,
};
use tokio::time::{Instant, sleep_until};

use super::{
    SandboxState, World,
    answer_body::{AnswerBody, next_frame, plain_response, response},
    body::{Body, BodyReader},
    calls::{self, CallMoment, Done, KeyCheck},
    control,
    fault_kind::{FaultKind, FaultStatus},
    faults::FaultRule,
    ledger::LedgerEntry,
    limits::Allowance,
    operation::{ApiCall, Route},
    raw::Raw,
    reply::HttpReply,
    wire::{ConnectionControl, OnLine},
};
use crate::clock::Timestamp;

/// How long the body is still read after an early answer, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_secs(5);

/// Serves every request: the control calls, then the API.
pub(super) async fn serve(
    State(shared): State<Arc<SandboxState>>,
    ConnectInfo(OnLine(line)): ConnectInfo<OnLine>,
    request: Request,
) -> Response {
    let stopped = shared.stopped.clone();
    let served = async {
        if request.uri().path().starts_with(control::PREFIX) {
            return control::serve(&shared, request).await;
        }
        answer(&shared, &line, request).await
    };
    match stopped.run_until_cancelled(served).await {
        Some(response) => response,
        None => {
            line.close();
            withheld()
        }
    }
}

async fn answer(shared: &Arc<SandboxState>, line: &ConnectionControl, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let options = &shared.options;
    let route = Route::find(&options.base_path, options.file_read_method, parts.method.as_str(), parts.uri.path());
    let (key, fault) = {
        let mut world = shared.world();
        let fault = world.faults.arrive(route.operation, route.profile.as_ref(), Instant::now());
        (world.key(&parts.headers), fault)
    };
    let mut call = CallRecorder::new(Arc::clone(shared), &route, &parts.method, key, fault.as_ref());
    let kind = fault.map(|rule| rule.kind);
    if let Some(FaultKind::Early(status)) = &kind {
        tokio::spawn(drain(body));
        let mut reply = HttpReply::fault(*status);
        reply.headers.push(("connection", "close".to_owned()));
        return call.answer(line, reply, None);
    }

    let mut reader = BodyReader::new();
    match read(body, &mut reader, kind.as_ref(), &mut call.entry.request_bytes).await {
        BodyRead::Whole => {}
        BodyRead::UpToTheReset => {
            call.record(None, None);
            line.reset();
            return withheld();
        }
        BodyRead::BrokenOff => {
            line.close();
            return withheld();
        }
    }
    let body = reader.finish();
    call.describe(&body);
    match kind {
        Some(FaultKind::QuoteKey) => {
            let given = parts.headers.get("apikey").and_then(|key| key.to_str().ok()).unwrap_or_default();
            call.answer(line, HttpReply::quoting_key(given), None)
        }
        Some(FaultKind::Late(deed)) => {
            defer(shared, call, route, key, body, deed.after, deed.status.map(|known| known.status));
            match deed.status {
                Some(FaultStatus { status, code: None }) => plain_response(&HttpReply::gateway_json(status)),
                Some(status) => plain_response(&HttpReply::fault(status)),
                None => {
                    line.close();
                    withheld()
                }
            }
        }
        Some(FaultKind::LateHang(after)) => {
            defer(shared, call, route, key, body, after, None);
            std::future::pending().await
        }
        Some(kind) if !kind.commits() => refuse(call, line, kind).await,
        kind => perform(shared, call, line, &route, key, &body, kind).await,
    }
}

/// Answers as a fault says that keeps the call from taking effect.
async fn refuse(mut call: CallRecorder, line: &ConnectionControl, kind: FaultKind) -> Response {
    let now = Timestamp::now();
    let reply = match kind {
        FaultKind::StatusBefore(status) => HttpReply::fault(status),
        FaultKind::Throttle(seconds) => too_many(Allowance::refused_for(seconds).headers(now)),
        FaultKind::ThrottleRetryAfter(seconds) => too_many(vec![("retry-after", seconds.to_string())]),
        FaultKind::Errors200(code) => {
            HttpReply::errors(200, code, "the sandbox is set to give this answer", serde_json::Value::Null)
        }
        FaultKind::Html => HttpReply::html(502),
        FaultKind::Gateway(status) => HttpReply::html(status),
        FaultKind::GatewayJson(status) => HttpReply::gateway_json(status),
        FaultKind::Maintenance(seconds) => HttpReply::maintenance(seconds),
        FaultKind::QuotePerson => HttpReply::quoting_person(),
        FaultKind::Bare(status) => HttpReply::bare(status),
        FaultKind::Redirect(status) => HttpReply::redirect(status),
        _ => {
            call.record(None, None);
            return std::future::pending().await;
        }
    };
    call.answer(line, reply, None)
}

/// Does the call later, whatever its client was told; not at all where the sandbox is stopped before.
fn defer(
    shared: &Arc<SandboxState>,
    mut call: CallRecorder,
    route: Route,
    key: KeyCheck,
    body: Result<Body, &'static str>,
    after: Duration,
    status: Option<u16>,
) {
    shared.world().deferred += 1;
    let (shared, stopped) = (Arc::clone(shared), shared.stopped.clone());
    tokio::spawn(async move {
        if stopped.run_until_cancelled(tokio::time::sleep(after)).await.is_none() {
            return;
        }
        let mut world = shared.world();
        world.deferred = world.deferred.saturating_sub(1);
        let Done { reply, id } = world.perform(&shared, &route, key, &body, None);
        call.entry.note = reply.note;
        call.record_in(&mut world, status, id);
    });
}

/// Does the call, records it, and answers it as far as a fault lets the answer through.
async fn perform(
    shared: &SandboxState,
    mut call: CallRecorder,
    line: &ConnectionControl,
    route: &Route,
    key: KeyCheck,
    body: &Result<Body, &'static str>,
    kind: Option<FaultKind>,
) -> Response {
    let (reply, answered) = {
        let mut world = shared.world();
        let Done { reply, id } = world.perform(shared, route, key, body, kind.as_ref());
        call.entry.note.clone_from(&reply.note);
        let mut reply = match &kind {
            Some(FaultKind::StatusAfter(status)) => HttpReply { headers: reply.headers, ..HttpReply::fault(*status) },
            Some(FaultKind::Html200) => HttpReply { headers: reply.headers, ..HttpReply::html(200) },
            Some(FaultKind::BareAfter(status)) => HttpReply { headers: reply.headers, ..HttpReply::bare(*status) },
            Some(FaultKind::RedirectAfter(status)) => HttpReply::redirect(*status),
            Some(FaultKind::Errors200After(code)) => HttpReply::bare(200).beside_error(200, *code),
            Some(FaultKind::ErrorsId(FaultStatus { status, code })) => reply.beside_error(*status, code.unwrap_or(201)),
            Some(FaultKind::Cut | FaultKind::Garbled) => HttpReply { status: 200, ..reply },
            _ => reply,
        };
        if kind == Some(FaultKind::Garbled) {
            reply.body = format!("{}\u{fffd}{{", first_half(&reply.body));
        }
        let is_silent = matches!(
            kind,
            Some(
                FaultKind::Lost
                    | FaultKind::HangAfter
                    | FaultKind::ResetAfter
                    | FaultKind::CutStatus
                    | FaultKind::CutHead
            )
        );
        let status = (!is_silent).then_some(reply.status);
        call.entry.answered = !is_silent && !matches!(kind, Some(FaultKind::Cut | FaultKind::Length(_)));
        (reply, call.record_in(&mut world, status, id))
    };
    let wait = match kind {
        Some(FaultKind::Slow(wait)) => wait,
        _ => Duration::ZERO,
    };
    let wait = wait.max(shared.options.latency);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    match kind {
        Some(FaultKind::Lost) => {
            line.close();
            withheld()
        }
        Some(FaultKind::ResetAfter) => {
            line.reset();
            withheld()
        }
        Some(FaultKind::HangAfter) => std::future::pending().await,
        Some(FaultKind::Cut) => {
            let length = reply.body.len();
            let half = Bytes::copy_from_slice(first_half(&reply.body).as_bytes());
            response(&reply, AnswerBody::cut(half, length))
        }
        Some(FaultKind::Drip(per_second)) => {
            line.answering(Arc::clone(&answered));
            response(&reply, AnswerBody::drip(&reply, answered, per_second))
        }
        kind => match kind.and_then(|kind| Raw::of(&kind, &reply, &answered)) {
            Some(raw) => {
                line.say(raw);
                withheld()
            }
            None => {
                line.answering(Arc::clone(&answered));
                response(&reply, AnswerBody::whole(&reply, answered))
            }
        },
    }
}

impl World {
    fn key(&self, headers: &HeaderMap) -> KeyCheck {
        match headers.get("apikey") {
            None => KeyCheck::Missing,
            Some(given) if self.keys.iter().any(|known| known.as_bytes() == given.as_bytes()) => KeyCheck::Accepted,
            Some(_) => KeyCheck::Wrong,
        }
    }

    /// Lets the call through its limits, or answers in its place.
    fn perform(
        &mut self,
        shared: &SandboxState,
        route: &Route,
        key: KeyCheck,
        body: &Result<Body, &'static str>,
        kind: Option<&FaultKind>,
    ) -> Done {
        if let Err(refusal) = calls::gate(&shared.options, route, key) {
            return refusal.into();
        }
        let clock = Instant::now();
        let wall = Timestamp::now();
        let allowance = self.limits.take(route.operation, clock.duration_since(shared.started));
        let headers = allowance.map(|allowance| allowance.headers(wall)).unwrap_or_default();
        if allowance.is_some_and(|allowance| allowance.retry.is_some()) {
            return too_many(headers).into();
        }
        let (list, age) = match kind {
            Some(FaultKind::List(fault)) => (Some(*fault), Duration::ZERO),
            Some(FaultKind::Stale(age)) => (None, *age),
            _ => (None, Duration::ZERO),
        };
        let new_id = uuid::Uuid::new_v4().to_string();
        let now = CallMoment { wall, clock, new_id, visible_after: self.visible_after, list, age };
        let mut done = calls::perform(&mut self.store, &shared.options, route, body, now);
        done.reply.headers.extend(headers);
        done
    }
}

fn too_many(headers: Vec<(&'static str, String)>) -> HttpReply {
    HttpReply { headers, ..HttpReply::errors(429, 301, "too many calls: come again later", serde_json::Value::Null) }
}

/// The first half of a text, at least one character short of all of it.
fn first_half(text: &str) -> &str {
    text.get(..text.floor_char_boundary(text.len() / 2)).unwrap_or_default()
}

/// An in-flight call; if it is dropped unrecorded, its client has gone.
struct CallRecorder {
    shared: Arc<SandboxState>,
    entry: LedgerEntry,
    arrived: Instant,
    recorded: bool,
}

impl CallRecorder {
    fn new(
        shared: Arc<SandboxState>,
        route: &Route,
        method: &Method,
        key: KeyCheck,
        fault: Option<&FaultRule>,
    ) -> Self {
        let entry = LedgerEntry {
            seq: 0,
            at_ms: 0,
            took_ms: 0,
            operation: route.operation,
            method: method.to_string(),
            profile: route.profile.as_ref().map(ToString::to_string),
            key_ok: key == KeyCheck::Accepted,
            request_bytes: 0,
            sha256: None,
            bytes: None,
            format: None,
            image_type: None,
            name: None,
            category: None,
            document_type: None,
            image_ids: Vec::new(),
            status: None,
            committed: false,
            id: None,
            fault: fault.map(ToString::to_string),
            answered: false,
            note: None,
        };
        Self { shared, entry, arrived: Instant::now(), recorded: false }
    }

    /// Notes what the request asked for.
    fn describe(&mut self, body: &Result<Body, &'static str>) {
        let Ok(body) = body else { return };
        let text = |name: &str| body.fields.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        self.entry.image_type = text("image_type");
        self.entry.name = text("name");
        self.entry.category = text("category");
        self.entry.document_type = text("document_type");
        if self.entry.operation == ApiCall::CreateDocument {
            let images = body.fields.get("images").and_then(|images| images.as_array());
            self.entry.image_ids = images.into_iter().flatten().filter_map(calls::image_id).collect();
        }
        if let Some(Ok(content)) = &body.data {
            self.entry.sha256 = Some(content.sha256.to_string());
            self.entry.bytes = Some(content.bytes);
            self.entry.format = content.image_format.map(str::to_owned);
        }
    }

    fn record(&mut self, status: Option<u16>, id: Option<String>) -> Arc<AtomicBool> {
        let shared = Arc::clone(&self.shared);
        self.record_in(&mut shared.world(), status, id)
    }

    fn record_in(&mut self, world: &mut World, status: Option<u16>, id: Option<String>) -> Arc<AtomicBool> {
        self.recorded = true;
        self.entry.status = status;
        self.entry.committed = id.is_some();
        self.entry.id = id;
        self.entry.at_ms = Timestamp::now().0;
        self.entry.took_ms = u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX);
        world.ledger.record(self.entry.clone())
    }

    /// Records the call and makes its answer.
    fn answer(mut self, line: &ConnectionControl, reply: HttpReply, id: Option<String>) -> Response {
        self.entry.answered = true;
        self.entry.note.clone_from(&reply.note);
        let answered = self.record(Some(reply.status), id);
        line.answering(Arc::clone(&answered));
        response(&reply, AnswerBody::whole(&reply, answered))
    }
}

impl Drop for CallRecorder {
    fn drop(&mut self) {
        if !self.recorded {
            self.entry.note = Some("the client left before its request was whole".to_owned());
            self.record(None, None);
        }
    }
}

enum BodyRead {
    Whole,
    UpToTheReset,
    BrokenOff,
}

/// Reads a body, as slowly or as far as a fault says.
async fn read(mut body: HttpBody, reader: &mut BodyReader, kind: Option<&FaultKind>, bytes: &mut u64) -> BodyRead {
    let began = Instant::now();
    loop {
        if let Some(FaultKind::ResetBody(most)) = kind
            && *bytes >= *most
        {
            return BodyRead::UpToTheReset;
        }
        let frame = match next_frame(&mut body).await {
            None => break,
            Some(Err(_)) => return BodyRead::BrokenOff,
            Some(Ok(frame)) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        *bytes = bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        reader.push(&piece);
        if let Some(FaultKind::SlowBody(per_second)) = kind {
            let due = bytes.saturating_mul(1000) / (*per_second).max(1);
            if let Some(due) = began.checked_add(Duration::from_millis(due)) {
                sleep_until(due).await;
            }
        }
    }
    match kind {
        Some(FaultKind::ResetBody(_)) => BodyRead::UpToTheReset,
        _ => BodyRead::Whole,
    }
}

/// Takes the rest of a body that nobody wants, for a while.
async fn drain(mut body: HttpBody) {
    let rest = async { while let Some(Ok(_)) = next_frame(&mut body).await {} };
    // A client that still sends after that has had time to read the answer.
    tokio::time::timeout(LINGER, rest).await.ok();
}

/// A placeholder for an answer on a connection that is closed before it could be sent.
fn withheld() -> Response {
    Response::new(HttpBody::empty())
}
