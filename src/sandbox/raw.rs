//! Answers as bytes, where a fault asks for what no HTTP library would send.
//!
//! They go out in the place of the library's own answer: see [`Wire`](super::wire::Wire).

use std::sync::{Arc, atomic::AtomicBool};

use axum::http::StatusCode;

use super::{fault_kind::FaultKind, reply::HttpReply};

/// No flood of interim answers has more; these are 28 MB.
const MOST_INTERIM: usize = 1_000_000;

/// Bytes in the place of an answer.
#[derive(Debug)]
pub(super) struct Raw {
    pub bytes: Vec<u8>,
    /// Whether the connection serves more calls after it.
    pub keeps: bool,
    /// Raised when all of it has gone out and it holds the complete answer.
    pub taken: Option<Arc<AtomicBool>>,
}

impl Raw {
    /// What a fault makes of an answer; none where the library can send it.
    pub(super) fn of(kind: &FaultKind, reply: &HttpReply, taken: &Arc<AtomicBool>) -> Option<Self> {
        let whole = || whole(reply, reply.body.len());
        let cut = |bytes: Vec<u8>, at: usize| {
            let bytes = bytes.get(..at).unwrap_or_default().to_vec();
            Self { bytes, keeps: false, taken: None }
        };
        let kept = |bytes| Self { bytes, keeps: true, taken: Some(Arc::clone(taken)) };
        Some(match kind {
            FaultKind::CutStatus => cut(whole(), "HTTP/1.1 2".len()),
            FaultKind::CutHead => cut(whole(), whole().len() - reply.body.len() - "7\r\n\r\n".len()),
            FaultKind::Twice => kept([whole(), whole()].concat()),
            FaultKind::Interim(status) => {
                kept([format!("HTTP/1.1 {status} {}\r\n\r\n", words(*status)).into_bytes(), whole()].concat())
            }
            FaultKind::InterimFlood(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX).min(MOST_INTERIM);
                kept([b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count), whole()].concat())
            }
            FaultKind::Length(difference) => {
                let length = reply.body.len().saturating_add_signed(isize::try_from(*difference).unwrap_or_default());
                // A client that is promised more than it gets would wait for it.
                Self { bytes: self::whole(reply, length), keeps: *difference < 0, taken: None }
            }
            _ => return None,
        })
    }
}

/// An answer whose header `Content-Length` says so much.
fn whole(reply: &HttpReply, length: usize) -> Vec<u8> {
    let mut head =
        format!("HTTP/1.1 {} {}\r\ncontent-type: {}\r\n", reply.status, words(reply.status), reply.content_type);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {length}\r\n\r\n"));
    [head.as_bytes(), reply.body.as_bytes()].concat()
}

fn words(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Status")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: &FaultKind) -> String {
        let raw = Raw::of(kind, &HttpReply::json(200, "{\"id\":\"7\"}".to_owned()), &Arc::default()).unwrap();
        String::from_utf8(raw.bytes).unwrap()
    }

    #[test]
    fn answers_are_cut_doubled_and_given_a_wrong_length_as_set() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"id\":\"7\"}";
        assert_eq!(text(&FaultKind::Twice), [whole, whole].concat());
        assert_eq!(text(&FaultKind::Interim(103)), ["HTTP/1.1 103 Early Hints\r\n\r\n", whole].concat());
        assert_eq!(text(&FaultKind::CutStatus), "HTTP/1.1 2");
        assert!(text(&FaultKind::CutHead).ends_with("content-length: 1"), "{}", text(&FaultKind::CutHead));
        assert_eq!(text(&FaultKind::Length(5)), whole.replace(": 10", ": 15"));
        assert_eq!(text(&FaultKind::Length(-4)), whole.replace(": 10", ": 6"));
        assert!(Raw::of(&FaultKind::Lost, &HttpReply::bare(200), &Arc::default()).is_none());
    }
}
