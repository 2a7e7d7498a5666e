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
    limits,
    progress::{BodyProgress, Failure, Sight},
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

/// How much longer than any other answer a list may take to arrive, because it can be that much larger.
const LIST_FACTOR: u32 = 10;

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
            Ok(read(operation, response, timeouts).await)
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
    Exchange {
        operation,
        sent_bytes: stop.0.as_ref().map_or(0, BodyProgress::bytes),
        handed_over: stop.0.as_ref().map_or(!certainly_not_sent, BodyProgress::is_complete),
        result,
        started,
        took: clock.elapsed(),
        answered_after,
    }
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

/// Reads an answer's body, up to a bound in size and time.
async fn read(operation: Operation, mut response: Response, timeouts: Timeouts) -> Answer {
    let status = response.status();
    let limits = limits::read(response.headers());
    let list = operation.is_list() && status.is_success();
    let largest = if list { LIST_ANSWER_BYTES } else { SINGLE_ANSWER_BYTES };
    let timeout = if list { timeouts.response.saturating_mul(LIST_FACTOR) } else { timeouts.response };
    let deadline = Instant::now() + timeout;
    let mut body = Vec::new();
    let ending = loop {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) if body.len().saturating_add(chunk.len()) > largest => break Ending::TooLarge,
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            Ok(Ok(None)) => break Ending::Whole,
            Ok(Err(_)) => break Ending::Cut,
            Err(_) => break Ending::Silent,
        }
    };
    Answer { status: status.as_u16(), limits, body, ending }
}
