//! `verify --history`: replays what the queue recorded against the rule for sending a document a second time.

use std::time::Duration;

use super::output::{Exit, Output, escape};
use crate::{
    history::{UnprovenSending, unproven_sendings},
    queue::Reader,
};

/// Checks every document that was sent more than once; nothing is asked of the API.
pub(super) fn check(reader: &Reader, bound: Duration, json: bool, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    let (mut again, mut unproven) = (0_u64, 0_u64);
    let sent = reader.sent_more_than_once(|job, calls| -> anyhow::Result<()> {
        again += 1;
        for UnprovenSending { sent_at, reason } in unproven_sendings(&calls, bound) {
            unproven += 1;
            if json {
                let line = serde_json::json!({ "job": job, "sent_at": sent_at.to_string(), "reason": reason });
                writeln!(output.out, "{line}")?;
            } else {
                writeln!(output.out, "unproven  job {job} sent at {sent_at}: {}", escape(&reason))?;
            }
        }
        Ok(())
    })?;
    if json {
        let sum = serde_json::json!({ "documents": sent, "sent_again": again, "unproven": unproven });
        writeln!(output.out, "{}", serde_json::json!({ "sum": sum }))?;
    } else {
        let bound = bound.as_secs_f64();
        writeln!(
            output.out,
            "{sent} documents were sent, {again} of them more than once, {unproven} times without the proof of absence \
             that the bound of {bound} s asks for"
        )?;
    }
    Ok(if unproven == 0 { Exit::Well } else { Exit::Refused })
}
