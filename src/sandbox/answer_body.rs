//! The body of an answer: it says when the HTTP library took it, and may break off in the middle.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body as HttpBody, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::reply::HttpReply;

/// The body of an answer, which says when it was taken, and may break off.
pub(super) struct AnswerBody {
    rest: Option<Bytes>,
    /// What the header `Content-Length` says.
    length: u64,
    taken: Option<Arc<AtomicBool>>,
    end: AnswerEnd,
    /// How long each byte takes, and the wait for the next.
    drip: Option<(Duration, Pin<Box<Sleep>>)>,
}

#[derive(PartialEq)]
enum AnswerEnd {
    Orderly,
    /// Let hyper write out what it has, then fail.
    BreaksOffNext,
    BreaksOff,
}

impl AnswerBody {
    pub(super) fn whole(reply: &HttpReply, taken: Arc<AtomicBool>) -> Self {
        let bytes = Bytes::copy_from_slice(reply.body.as_bytes());
        Self { length: length(bytes.len()), rest: Some(bytes), taken: Some(taken), end: AnswerEnd::Orderly, drip: None }
    }

    /// The same, at so many bytes a second.
    pub(super) fn drip(reply: &HttpReply, taken: Arc<AtomicBool>, per_second: u64) -> Self {
        let each = Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX);
        Self { drip: Some((each, Box::pin(sleep(each)))), ..Self::whole(reply, taken) }
    }

    pub(super) fn cut(half: Bytes, whole: usize) -> Self {
        Self { rest: Some(half), length: length(whole), taken: None, end: AnswerEnd::BreaksOffNext, drip: None }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let more = self.rest.is_some();
        if let Some((each, wait)) = self.drip.as_mut().filter(|_| more) {
            ready!(wait.as_mut().poll(cx));
            *wait = Box::pin(sleep(*each));
        }
        let is_drip = self.drip.is_some();
        if let Some(mut bytes) = self.rest.take() {
            if is_drip && bytes.len() > 1 {
                let first = bytes.split_to(1);
                self.rest = Some(bytes);
                return Poll::Ready(Some(Ok(Frame::data(first))));
            }
            if let Some(taken) = self.taken.take() {
                taken.store(true, Ordering::Release);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match self.end {
            AnswerEnd::Orderly => Poll::Ready(None),
            AnswerEnd::BreaksOffNext => {
                self.end = AnswerEnd::BreaksOff;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            AnswerEnd::BreaksOff => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.end == AnswerEnd::Orderly
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() && self.drip.is_none() { SizeHint::with_exact(self.length) } else { SizeHint::default() }
    }
}

/// An answer with headers and body as a reply says.
pub(super) fn plain_response(reply: &HttpReply) -> Response {
    response(reply, AnswerBody::whole(reply, Arc::default()))
}

pub(super) fn response(reply: &HttpReply, body: AnswerBody) -> Response {
    let mut response = Response::new(HttpBody::new(body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    for (name, value) in &reply.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

pub(super) async fn next_frame(body: &mut HttpBody) -> Option<Result<Frame<Bytes>, axum::Error>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
