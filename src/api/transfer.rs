//! Runs one request to its end: watches that it makes progress, reads the answer, and reports what happened.
//!
//! Invariants: every wait has an end; once this returns, or its future is dropped, nothing more of the body is sent;
//! and whether the body was handed over is read only after that. The HTTP library's own timeouts are not used: one over
//! the complete call would kill a large upload on a slow line, and its read timeout kills uploads that make progress.

use std::{pin::pin, time::Duration};

use reqwest::{RequestBuilder, Response};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    fault::classify,
    limits, pages,
    progress::{BodyProgress, Failure, Sight},
    sieve::Sieve,
};
use crate::{
    clock::Timestamp,
    exchange::{Answer, Ending, Exchange, Fault},
    killpoint,
    operation::Operation,
};

/// The largest answer to a call about one thing: real ones are below 1 KiB.
pub(super) const SINGLE_ANSWER_BYTES: usize = 1024 * 1024;

/// The largest list: about 300,000 images.
pub(super) const LIST_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What is kept of an answer's body.
pub(super) enum Keep {
    /// All of it; of a list, so many bytes at most.
    All(usize),
    /// Of a list, what passes the sieve.
    Sifted(Sieve),
}

/// How fast an answer has to arrive, at least, beyond what every answer may take: so one that is sent byte by byte ends
/// as early as one that is not sent, and the largest list has a quarter of an hour.
const SLOWEST_BYTES_PER_SECOND: usize = 75_000;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// For a connection.
    pub(super) connect: Duration,
    /// For the server to take more of the body.
    pub(super) stall: Duration,
    /// For the answer's head after the last byte, and then for its body.
    pub(super) response: Duration,
}

/// Cancels the body on every way out, also when the future is dropped.
struct Stop(Option<BodyProgress>);

impl Stop {
    fn now(&self) {
        if let Some(progress) = &self.0 {
            progress.cancel();
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.now();
    }
}

/// Sends `request`, whose body, if it has one, reports to `progress`. Dropping the future stops the request.
pub(super) async fn run(
    operation: Operation,
    request: RequestBuilder,
    progress: Option<BodyProgress>,
    keep: Keep,
    timeouts: Timeouts,
) -> Exchange {
    killpoint::before("call", operation.as_str());
    let (started, clock) = (Timestamp::now(), Instant::now());
    let stop = Stop(progress);
    let head = send(request, stop.0.as_ref(), timeouts).await;
    let answered_after = head.is_ok().then(|| clock.elapsed());
    let result = match head {
        Ok(response) => {
            if let Some(progress) = &stop.0 {
                progress.hold();
            }
            Ok(read(operation, response, keep, timeouts).await)
        }
        Err(fault) => Err(fault),
    };
    // Only now can nothing more be handed over.
    stop.now();
    let failure = stop.0.as_ref().and_then(BodyProgress::failure);
    let result = result.map_err(|fault| match failure {
        Some(Failure::Changed) => Fault::SourceChanged,
        Some(Failure::Unreadable(cause)) => Fault::SourceUnreadable(cause),
        None => fault,
    });
    killpoint::after("call", operation.as_str());
    let certainly_not_sent = result.as_ref().is_err_and(Fault::certainly_not_sent);
    let exchange = Exchange {
        operation,
        sent_bytes: stop.0.as_ref().map_or(0, BodyProgress::bytes),
        handed_over: stop.0.as_ref().map_or(!certainly_not_sent, BodyProgress::is_complete),
        result,
        started,
        took: clock.elapsed(),
        answered_after,
    };
    log(&exchange);
    exchange
}

/// Names the call in the log of `-vv`: no ID, and nothing of what was sent or answered.
fn log(exchange: &Exchange) {
    tracing::trace!(
        call = exchange.operation.request_line(),
        status = exchange.status(),
        fault = exchange.result.as_ref().err().map(ToString::to_string),
        took_ms = u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX),
        sent_bytes = exchange.sent_bytes,
        answer_bytes = exchange.result.as_ref().map_or(0, |answer| answer.body.len()),
        "called"
    );
}

/// Waits for the answer's head for as long as the body moves.
async fn send(request: RequestBuilder, progress: Option<&BodyProgress>, timeouts: Timeouts) -> Result<Response, Fault> {
    let begun = Instant::now();
    let mut sending = pin!(request.send());
    loop {
        let sight = progress.map(BodyProgress::sight);
        let (deadline, fault) = deadline(sight, begun, timeouts);
        let turned = async {
            match progress {
                Some(progress) => progress.turned().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = &mut sending => return answer.map_err(classify),
            () = turned => {}
            // The body may have moved while this slept; then the deadline has moved too.
            () = sleep_until(deadline) => if progress.map(BodyProgress::sight) == sight { return Err(fault) },
        }
    }
}

/// Until when to wait for something to happen, and what is wrong if nothing does.
fn deadline(sight: Option<Sight>, begun: Instant, timeouts: Timeouts) -> (Instant, Fault) {
    match sight {
        None => {
            // When the connection was established is not visible, so the connect timeout is added.
            let total = timeouts.connect.saturating_add(timeouts.response);
            (begun + total, Fault::NoAnswer(total))
        }
        // The connector has a timeout of its own; this is the net below it.
        Some(Sight::Idle) => (begun + timeouts.connect + timeouts.stall, Fault::Stalled(timeouts.stall)),
        Some(Sight::Sending { pulled_at, waits_for_disk: false }) => {
            (pulled_at + timeouts.stall, Fault::Stalled(timeouts.stall))
        }
        Some(Sight::Sending { pulled_at, waits_for_disk: true }) => {
            let seconds = timeouts.stall.as_secs_f32();
            let fault = Fault::SourceUnreadable(format!("the disk gave nothing for {seconds} seconds"));
            (pulled_at + timeouts.stall, fault)
        }
        Some(Sight::Over { at }) => (at + timeouts.response, Fault::NoAnswer(timeouts.response)),
    }
}

/// An answer's body, as far as it came.
enum Received {
    All { body: Vec<u8>, most: usize },
    Sifted(Sieve),
}

impl Received {
    /// Returns whether it is still as large as an answer of its kind can be.
    fn take(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::All { body, most } if body.len().saturating_add(bytes.len()) <= *most => {
                body.extend_from_slice(bytes);
                true
            }
            Self::All { .. } => false,
            Self::Sifted(sieve) => sieve.feed(bytes).is_ok(),
        }
    }
}

/// Reads an answer's body, up to a bound in size and time.
async fn read(operation: Operation, mut response: Response, keep: Keep, timeouts: Timeouts) -> Answer {
    let status = response.status();
    let (limits, pages) = (limits::read(response.headers()), pages::read(response.headers()));
    let list = operation.is_list() && status.is_success();
    let largest = if list { LIST_ANSWER_BYTES } else { SINGLE_ANSWER_BYTES };
    let begun = Instant::now();
    let mut received = match keep {
        Keep::Sifted(sieve) if list => Received::Sifted(sieve),
        Keep::All(most) if list => Received::All { body: Vec::new(), most },
        _ => Received::All { body: Vec::new(), most: SINGLE_ANSWER_BYTES },
    };
    let mut bytes = 0_usize;
    let ending = loop {
        match timeout_at(begun + time_for(bytes, timeouts.response), response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                bytes = bytes.saturating_add(chunk.len());
                if bytes > largest || !received.take(&chunk) {
                    break Ending::TooLarge;
                }
            }
            Ok(Ok(None)) => break Ending::Whole,
            Ok(Err(_)) => break Ending::Cut,
            Err(_) => break Ending::Silent,
        }
    };
    let (body, omitted) = match received {
        Received::All { body, .. } => (body, Vec::new()),
        Received::Sifted(sieve) => sieve.finish(),
    };
    Answer { status: status.as_u16(), limits, pages, body, omitted, ending }
}

/// How long an answer may take of which so many bytes have come.
fn time_for(bytes: usize, response: Duration) -> Duration {
    let seconds = u32::try_from(bytes / SLOWEST_BYTES_PER_SECOND).unwrap_or(u32::MAX);
    response.saturating_add(Duration::from_secs(1).saturating_mul(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_answer_has_time_to_arrive_and_a_slow_one_has_not() {
        let response = Duration::from_secs(90);
        for (bytes, seconds) in [(0, 90), (90, 90), (150_000, 92), (LIST_ANSWER_BYTES, 984)] {
            assert_eq!(time_for(bytes, response).as_secs(), seconds, "{bytes}");
        }
    }
}
