//! Answers as values: a status, header fields, and a body of text.
//!
//! Records are put together as text, not as maps of serde, because their fields have an order that a reader of the
//! answers must not rely on, and which [`IdOrder`] turns round.

use serde_json::{Value, json};

use super::{
    fault_kind::{ELSEWHERE, FaultStatus},
    options::IdOrder,
};

/// An answer that is ready to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpReply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub content_type: &'static str,
    pub body: String,
    /// For the ledger: why the call was refused.
    pub note: Option<String>,
}

impl HttpReply {
    pub(super) const fn json(status: u16, body: String) -> Self {
        Self { status, headers: Vec::new(), content_type: "application/json", body, note: None }
    }

    pub(super) fn text(status: u16, body: String) -> Self {
        Self { content_type: "text/plain; charset=utf-8", ..Self::json(status, body) }
    }

    /// A refusal in the API's own form.
    pub(super) fn errors(status: u16, code: u16, message: impl Into<String>, info: Value) -> Self {
        let message = message.into();
        let body = json!({"errors": [{"code": code, "message": message, "source": "API", "info": info}]}).to_string();
        Self { note: Some(message), ..Self::json(status, body) }
    }

    /// What a fault answers with.
    ///
    /// Without a code of its own, a 5xx has a body that the table of codes does not know, because a known one would
    /// show whether the call took effect.
    pub(super) fn fault(FaultStatus { status, code }: FaultStatus) -> Self {
        let code = code.or(match status {
            401 => Some(203),
            403 => Some(204),
            408 | 425 | 429 => Some(301),
            400..=499 => Some(201),
            _ => None,
        });
        match code {
            Some(code) => Self::errors(status, code, "the sandbox is set to give this answer", Value::Null),
            None => Self::json(status, json!({"message": "the sandbox is set to give this answer"}).to_string()),
        }
    }

    /// Nothing but a status.
    pub(super) const fn bare(status: u16) -> Self {
        Self::json(status, String::new())
    }

    /// A page that sends elsewhere.
    pub(super) fn redirect(status: u16) -> Self {
        Self { headers: vec![("location", ELSEWHERE.to_owned())], ..Self::html(status) }
    }

    /// A page that says when to come again.
    pub(super) fn maintenance(seconds: u64) -> Self {
        Self { headers: vec![("retry-after", seconds.to_string())], ..Self::html(503) }
    }

    /// A gateway's answer in JSON, which is not the API's.
    pub(super) fn gateway_json(status: u16) -> Self {
        Self::json(status, json!({"message": "no Route matched with those values"}).to_string())
    }

    /// A refusal that quotes the key; the ledger does not.
    pub(super) fn quoting_key(key: &str) -> Self {
        let message = format!("the API key '{key}' is not valid for this institution");
        Self { note: None, ..Self::errors(401, 204, message, json!({"apikey": key})) }
    }

    /// A refusal that quotes a person's data.
    pub(super) fn quoting_person() -> Self {
        let message = "the name Erika Mustermann, born 1964-08-12, is not that of the document";
        Self::errors(400, 201, message, json!({"given_name": "Erika", "family_name": "Mustermann"}))
    }

    /// The same answer with one of the API's errors beside what it has.
    pub(super) fn beside_error(self, status: u16, code: u16) -> Self {
        let error = Self::errors(status, code, "the sandbox is set to give this answer", Value::Null);
        let Some(rest) = error.body.strip_suffix('}').filter(|_| self.body.len() > 2) else { return error };
        let body = format!("{rest},{}", self.body.strip_prefix('{').unwrap_or_default());
        Self { status, body, ..self }
    }

    /// A page as a gateway shows it.
    pub(super) fn html(status: u16) -> Self {
        let body =
            "<!DOCTYPE html>\n<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>\n";
        Self { content_type: "text/html", ..Self::json(status, body.to_owned()) }
    }
}

/// A string as JSON.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// An object with an `id`; the values of `rest` are JSON already.
pub(super) fn record(order: IdOrder, id: &str, rest: &[(&str, String)]) -> String {
    let id = ("id", quote(id));
    let fields: Vec<&(&str, String)> = match order {
        IdOrder::First => std::iter::once(&id).chain(rest).collect(),
        IdOrder::Last => rest.iter().chain([&id]).collect(),
    };
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{}:{value}", quote(name))).collect();
    format!("{{{}}}", fields.join(","))
}

/// An array; the items are JSON already.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_where_it_is_set_to_be() {
        let rest = [("name", quote("a \"b\""))];
        assert_eq!(record(IdOrder::First, "7", &rest), r#"{"id":"7","name":"a \"b\""}"#);
        assert_eq!(record(IdOrder::Last, "7", &rest), r#"{"name":"a \"b\"","id":"7"}"#);
    }

    #[test]
    fn a_server_error_reveals_nothing_unless_it_is_set_to() {
        assert!(!HttpReply::fault(FaultStatus { status: 503, code: None }).body.contains("errors"));
        assert!(HttpReply::fault(FaultStatus { status: 503, code: Some(301) }).body.contains("301"));
        assert!(HttpReply::fault(FaultStatus { status: 401, code: None }).body.contains("203"));
    }
}
