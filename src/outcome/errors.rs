//! Finds and sorts the errors in an answer's body.
//!
//! It does not decide what follows from them. Only a top-level `errors` is an error; deeper ones are data. What the
//! API says is quoted, but bounded and cleaned, because it ends in logs, receipts and on terminals.

use serde_json::Value;

use super::Reply;
use crate::printable::escape;

/// The longest message that is kept, in characters.
const LONGEST_MESSAGE: usize = 300;

/// The longest run of letters without a space that is quoted: longer ones are not words, but perhaps a file's content.
const LONGEST_WORD: usize = 100;

/// Fields at the top of an answer that a gateway gives in the API's place.
pub(super) const FOREIGN_FIELDS: [&str; 5] = ["error", "message", "detail", "status", "code"];

/// What an answer's body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// What was asked for.
    Reply(Reply),
    Error(ApiError),
    /// An error that does not refuse, beside an id: something may have been created all the same.
    Doubtful(ApiError),
    /// What went wrong, in words that are not the API's own.
    Foreign(ApiError),
    /// Neither.
    Unreadable,
}

/// An error as the API words it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ApiError {
    pub(super) code: Option<i64>,
    pub(super) message: Option<String>,
}

/// What an error's code means for the worker; the later, the more it decides where an answer has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Not set up, or new: the status decides.
    Unknown,
    /// It may work later.
    Transient,
    /// It never works for this entry.
    Refused,
    /// The account's limit is reached.
    Quota,
    /// The key is missing or invalid.
    Key,
}

impl ApiError {
    /// What its code means (guide and spec: the table of error codes).
    pub(super) const fn class(&self) -> Class {
        match self.code {
            Some(203 | 204) => Class::Key,
            Some(104 | 107) => Class::Quota,
            Some(101 | 102 | 103 | 105 | 106 | 201 | 202) => Class::Refused,
            Some(301 | 302 | 303 | 401 | 402 | 501) => Class::Transient,
            Some(_) | None => Class::Unknown,
        }
    }
}

/// Reads the body of an answer whose status is not a success.
pub(super) fn read(body: &[u8]) -> Parsed {
    let Ok(Value::Object(answer)) = serde_json::from_slice(without_bom(body)) else { return Parsed::Unreadable };
    let errors = answer.get("errors");
    if let Some(error) = errors.and_then(worst) {
        return if errors.is_some_and(is_own) { Parsed::Error(error) } else { Parsed::Foreign(error) };
    }
    // Gateways have words of their own; their codes are not the API's.
    let message = ["message", "error", "detail", "title"].into_iter().find_map(|field| answer.get(field)?.as_str());
    match message {
        Some(message) => Parsed::Foreign(ApiError { code: None, message: Some(message.to_owned()) }),
        None => Parsed::Unreadable,
    }
}

/// The error that decides, of a top-level `errors` in any of the shapes that were seen; none where it is empty.
pub(super) fn worst(errors: &Value) -> Option<ApiError> {
    match errors {
        Value::Null | Value::Bool(false) => None,
        Value::Array(list) => most_decisive(list.iter().map(one)),
        Value::Object(fields) if fields.contains_key("code") || fields.contains_key("message") => Some(one(errors)),
        Value::Object(fields) => most_decisive(fields.iter().map(|(field, value)| {
            let error = match value {
                Value::Array(list) => most_decisive(list.iter().map(one)).unwrap_or_default(),
                value => one(value),
            };
            let message = error.message.map_or_else(|| field.clone(), |message| format!("{field}: {message}"));
            ApiError { code: error.code, message: Some(message) }
        })),
        Value::String(text) if text.is_empty() => None,
        Value::Bool(true) | Value::Number(_) | Value::String(_) => Some(one(errors)),
    }
}

/// Whether `errors` are the API's own: objects with a code or a message (guide: the section on errors). Gateways write
/// bare texts there.
fn is_own(errors: &Value) -> bool {
    match errors {
        Value::Array(list) => list.iter().any(is_own),
        Value::Object(fields) => {
            fields.contains_key("code") || fields.contains_key("message") || fields.values().any(is_own)
        }
        _ => false,
    }
}

fn most_decisive(errors: impl Iterator<Item = ApiError>) -> Option<ApiError> {
    // The first of equals, because that is what the API names first.
    errors.reduce(|kept, next| if next.class() > kept.class() { next } else { kept })
}

fn one(error: &Value) -> ApiError {
    match error {
        Value::Object(fields) => ApiError {
            code: fields.get("code").and_then(code),
            message: fields.get("message").and_then(Value::as_str).map(str::to_owned),
        },
        Value::String(text) => ApiError { code: None, message: Some(text.clone()) },
        Value::Number(_) => ApiError { code: code(error), message: None },
        Value::Null | Value::Bool(_) | Value::Array(_) => ApiError::default(),
    }
}

fn code(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_i64().or_else(|| {
            // A float with an integral value prints as an integer.
            value.as_f64().filter(|number| number.fract() == 0.0).and_then(|number| format!("{number:.0}").parse().ok())
        }),
    }
}

/// A text, bounded for logs and receipts.
pub(super) fn bounded(text: &str) -> String {
    let mut clean = String::new();
    // What comes later could not be kept anyway, and an answer may be large.
    let start: String = text.chars().take(LONGEST_MESSAGE * 4).collect();
    for word in start.split_inclusive(' ') {
        let length = word.chars().count();
        if length > LONGEST_WORD {
            clean.push_str("[text without spaces left out] ");
            continue;
        }
        clean.push_str(&escape(word));
    }
    let clean = clean.trim_end();
    if clean.chars().count() <= LONGEST_MESSAGE {
        return clean.to_owned();
    }
    clean.chars().take(LONGEST_MESSAGE - 1).chain(['…']).collect()
}

pub(super) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(code: impl Into<Option<i64>>, message: &str) -> Option<ApiError> {
        Some(ApiError { code: code.into(), message: (!message.is_empty()).then(|| message.to_owned()) })
    }

    #[test]
    fn errors_are_found_in_every_shape() {
        for (errors, expected) in [
            (json!(null), None),
            (json!([]), None),
            (json!({}), None),
            (json!(""), None),
            (json!(false), None),
            (json!([{"code": 201, "message": "m", "source": "API", "info": {}}]), error(201, "m")),
            (json!({"code": 201, "message": "m"}), error(201, "m")),
            (json!([{"code": "201", "message": 5}]), error(201, "")),
            (json!([{"code": 201.0}]), error(201, "")),
            (json!([{"code": 201.5}]), error(None, "")),
            (json!([{"code": null}]), error(None, "")),
            (json!(["m"]), error(None, "m")),
            (json!("m"), error(None, "m")),
            (json!(201), error(201, "")),
            (json!(true), error(None, "")),
            (json!([null]), error(None, "")),
            (json!({"images": ["missing"]}), error(None, "images: missing")),
            (json!({"images": {"code": 101, "message": "missing"}}), error(101, "images: missing")),
            (json!({"images": []}), error(None, "images")),
        ] {
            assert_eq!(worst(&errors), expected, "{errors}");
        }
    }

    #[test]
    fn of_several_errors_the_most_decisive_counts() {
        for (codes, expected) in
            [([301, 201], 201), ([201, 104], 104), ([104, 204], 204), ([999, 301], 301), ([201, 101], 201)]
        {
            let errors = codes.map(|code| json!({"code": code}));
            assert_eq!(worst(&json!(errors)).unwrap().code, Some(expected));
        }
    }

    #[test]
    fn messages_are_bounded_and_printable() {
        assert_eq!(bounded("a\nb\u{1b}[31m\u{202e}"), "a\\nb\\u{1b}[31m\\u{202e}");
        assert_eq!(bounded(&"word ".repeat(1000)).chars().count(), LONGEST_MESSAGE);
        let leaked = format!("cannot decode {} here", "iVBORw0K".repeat(100));
        assert_eq!(bounded(&leaked), "cannot decode [text without spaces left out] here");
        let uuid = "profile a2c4393a-e219-67a4-5ab4-2186952e9038 is unknown";
        assert_eq!(bounded(uuid), uuid);
    }

    #[test]
    fn only_objects_with_a_code_or_a_message_are_the_apis_own() {
        for (errors, own) in [
            (json!([{"code": 201}]), true),
            (json!([{"message": "m"}]), true),
            (json!({"code": 999, "message": "m"}), true),
            (json!({"images": [{"code": 101}]}), true),
            (json!(["m"]), false),
            (json!("m"), false),
            (json!(404), false),
            (json!({"images": ["missing"]}), false),
            (json!([null]), false),
        ] {
            let read = read(json!({ "errors": errors }).to_string().as_bytes());
            assert_eq!(matches!(read, Parsed::Error(_)), own, "{errors}: {read:?}");
            assert_eq!(matches!(read, Parsed::Foreign(_)), !own, "{errors}: {read:?}");
        }
    }

    #[test]
    fn a_gateways_words_are_quoted_without_a_code() {
        for body in [r#"{"message":"m","code":203}"#, r#"{"error":"m"}"#, "\u{feff}{\"detail\":\"m\",\"errors\":[]}"] {
            assert_eq!(Some(read(body.as_bytes())), error(None, "m").map(Parsed::Foreign), "{body}");
        }
        for body in ["", "<html>", "[]", "{}", "null", "{\"error\":{}}", "\u{0}"] {
            assert_eq!(read(body.as_bytes()), Parsed::Unreadable, "{body}");
        }
    }
}
