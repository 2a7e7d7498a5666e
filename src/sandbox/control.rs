//! The sandbox's own calls, outside of the API: reading its ledger, and switching faults, limits, and keys.

use std::sync::Arc;

use axum::{body::Body as HttpBody, extract::Request, response::Response};

use super::{
    SandboxState,
    answer_body::{next_frame, plain_response},
    faults::FaultRule,
    limits::{LimitRule, Limits},
    reply::HttpReply,
    syntax::{RuleError, rules},
};

/// Where these calls live.
pub(super) const PREFIX: &str = "/_sandbox/";

/// No text of rules is longer.
const MOST_BYTES: usize = 1024 * 1024;

/// Serves one of these calls; they are not in the ledger.
pub(super) async fn serve(shared: &Arc<SandboxState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let name = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let reply = match (parts.method.as_str(), name) {
        ("GET", "ledger") => {
            let entries = shared.world().ledger.entries();
            let lines: Vec<String> =
                entries.iter().filter_map(|entry| serde_json::to_string(entry).ok()).map(|line| line + "\n").collect();
            HttpReply { content_type: "application/jsonl", ..HttpReply::json(200, lines.concat()) }
        }
        ("GET", "summary") => as_json(&shared.world().summary()),
        ("GET", "documents") => as_json(&shared.world().store.documents()),
        ("POST", "faults" | "limits" | "keys") => {
            let set = read_text(body).await.and_then(|text| replace(shared, name, &text));
            match set {
                Ok(count) => HttpReply::text(200, format!("{count} {name} in force\n")),
                Err(error) => HttpReply::text(400, format!("{error}\n")),
            }
        }
        _ => HttpReply::text(
            404,
            "known here: GET ledger, summary, documents; POST faults, limits, keys (one a line)\n".to_owned(),
        ),
    };
    plain_response(&reply)
}

fn as_json(value: &impl serde::Serialize) -> HttpReply {
    match serde_json::to_string(value) {
        Ok(body) => HttpReply::json(200, body),
        Err(error) => HttpReply::text(500, format!("{error}\n")),
    }
}

/// Puts what the lines say in the place of what was; says how many there are.
fn replace(shared: &SandboxState, name: &str, text: &str) -> Result<usize, RuleError> {
    match name {
        "faults" => {
            let rules: Vec<FaultRule> = rules(text)?;
            let count = rules.len();
            shared.world().faults.replace(rules);
            Ok(count)
        }
        "limits" => {
            let rules: Vec<LimitRule> = rules(text)?;
            let count = rules.len();
            shared.world().limits = Limits::new(rules);
            Ok(count)
        }
        _ => {
            let keys: Vec<String> =
                text.lines().map(|line| line.trim().to_owned()).filter(|key| !key.is_empty()).collect();
            let count = keys.len();
            shared.world().keys = keys;
            Ok(count)
        }
    }
}

async fn read_text(mut body: HttpBody) -> Result<String, RuleError> {
    let mut text = Vec::new();
    while let Some(frame) = next_frame(&mut body).await {
        let frame = frame.map_err(|error| RuleError(format!("the request broke off: {error}")))?;
        if let Ok(piece) = frame.into_data() {
            text.extend_from_slice(&piece);
        }
        if text.len() > MOST_BYTES {
            return Err(RuleError("the text is longer than 1 MiB".to_owned()));
        }
    }
    String::from_utf8(text).map_err(|_| RuleError("the text is not UTF-8".to_owned()))
}
