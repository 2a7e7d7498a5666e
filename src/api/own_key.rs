//! Blanks the account's key in what the API answers: some gateways quote the key that they refuse.

use aho_corasick::AhoCorasick;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::exchange::{Answer, Exchange, Fault};

/// What is written in the key's place.
const BLANK: &str = "[key]";

/// A shorter key is a word, not a secret, and would be found everywhere.
const SHORTEST_KEY: usize = 6;

/// The largest body whose escapes are read: lists are larger, and nothing of them is quoted.
const LARGEST_BODY: usize = 4 << 20;

/// Finds a key, as it is and in the forms in which it is likely to be quoted.
///
/// Its `Debug` shows nothing of it.
pub(super) struct OwnKey(Option<AhoCorasick>);

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnKey")
    }
}

impl OwnKey {
    pub(super) fn new(key: &SecretString) -> Self {
        let key = key.expose_secret();
        if key.len() < SHORTEST_KEY {
            return Self(None);
        }
        let percent = |plain: fn(&u8) -> bool| -> String {
            let byte = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
            key.bytes().map(byte).collect()
        };
        let json = Value::from(key).to_string();
        let json = json.trim_matches('"').to_owned();
        let forms = [
            key.to_owned(),
            percent(u8::is_ascii_alphanumeric),
            percent(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)),
            json.replace('/', "\\/"),
            json,
            STANDARD_NO_PAD.encode(key),
            URL_SAFE_NO_PAD.encode(key),
        ];
        // Without a finder nothing would be blanked, but seven short texts always make one.
        Self(AhoCorasick::builder().ascii_case_insensitive(true).build(forms).ok())
    }

    /// The exchange without the key.
    pub(super) fn blank(&self, mut exchange: Exchange) -> Exchange {
        match &mut exchange.result {
            Ok(Answer { body, .. }) => self.blank_body(body),
            Err(fault) => self.blank_fault(fault),
        }
        exchange
    }

    fn text(&self, text: &str) -> Option<String> {
        let finder = self.0.as_ref()?;
        finder.is_match(text).then(|| finder.replace_all(text, &vec![BLANK; finder.patterns_len()]))
    }

    fn blank_body(&self, body: &mut Vec<u8>) {
        let Some(finder) = &self.0 else { return };
        if finder.is_match(&*body) {
            *body = finder.replace_all_bytes(body, &vec![BLANK; finder.patterns_len()]);
        }
        // Any letter may be written as an escape, which only shows once the text is read.
        if body.contains(&b'\\')
            && body.len() <= LARGEST_BODY
            && let Ok(mut value) = serde_json::from_slice::<Value>(body)
            && self.blank_value(&mut value)
        {
            *body = value.to_string().into_bytes();
        }
    }

    /// Whether there was something to blank.
    fn blank_value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => self.text(text).is_some_and(|blank| {
                *text = blank;
                true
            }),
            Value::Array(items) => items.iter_mut().fold(false, |found, item| self.blank_value(item) | found),
            Value::Object(fields) => {
                // A name with the key in it is rare enough to lose the field.
                let before = fields.len();
                fields.retain(|name, _| self.text(name).is_none());
                let renamed = fields.len() < before;
                fields.values_mut().fold(renamed, |found, field| self.blank_value(field) | found)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn blank_fault(&self, fault: &mut Fault) {
        match fault {
            Fault::Resolve(text)
            | Fault::Connect(text)
            | Fault::Tls(text)
            | Fault::Reset(text)
            | Fault::SourceUnreadable(text)
            | Fault::Local(text) => {
                if let Some(blank) = self.text(text) {
                    *text = blank;
                }
            }
            Fault::Stalled(_) | Fault::NoAnswer(_) | Fault::SourceChanged => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_blanked_in_every_form_in_which_it_may_be_quoted() {
        let key = "Ab/c+d\"e f9-x";
        let own = OwnKey::new(&SecretString::from(key));
        for quoted in [
            key.to_owned(),
            key.to_uppercase(),
            "Ab%2Fc%2Bd%22e%20f9-x".to_owned(),
            "Ab%2fc%2bd%22e%20f9%2dx".to_owned(),
            STANDARD_NO_PAD.encode(key),
            format!("{}=", URL_SAFE_NO_PAD.encode(key)),
        ] {
            let body = serde_json::json!({"errors": [{"code": 204, "message": format!("'{quoted}' is no key")}]});
            let mut body = body.to_string().into_bytes();
            own.blank_body(&mut body);
            let value: Value = serde_json::from_slice(&body).unwrap();
            let message = value["errors"][0]["message"].as_str().unwrap();
            assert!(message.starts_with("'[key]"), "{quoted}: {message}");
            let mut html = format!("<p>{quoted}</p>").into_bytes();
            own.blank_body(&mut html);
            assert!(String::from_utf8(html).unwrap().starts_with("<p>[key]"), "{quoted}");
        }
        let mut escaped = br#"{"message":"\u0041b\/c\u002bd\"e f9-x!"}"#.to_vec();
        own.blank_body(&mut escaped);
        assert_eq!(String::from_utf8(escaped).unwrap(), r#"{"message":"[key]!"}"#);
        let mut fault = Fault::Reset(format!("header {key}"));
        own.blank_fault(&mut fault);
        assert_eq!(fault, Fault::Reset("header [key]".to_owned()));
    }

    #[test]
    fn what_does_not_have_the_key_stays_as_it_is() {
        let own = OwnKey::new(&SecretString::from("key-5f1c9b"));
        let before = br#"{"id":"9a92","name":"a\"b","key":"key-5f1c9"}"#.to_vec();
        let mut body = before.clone();
        own.blank_body(&mut body);
        assert_eq!(body, before);
        let mut body = b"a test".to_vec();
        OwnKey::new(&SecretString::from("test")).blank_body(&mut body);
        assert_eq!(body, b"a test");
    }
}
