//! Why an entry did not make it, and the line of JSON Lines that says so beside what its sender wrote.

use std::io::{self, Write};

use serde_json::value::RawValue;

use crate::entry::ProfileId;

use super::{object::FAILURE_FIELDS, value::Fields};

/// Why an entry did not make it, as a list of failed entries says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EntryFailure {
    /// The stable name of the reason, or how the entry ended.
    pub code: String,
    /// What is wrong.
    pub reason: String,
    /// What its sender can do about it.
    pub cure: String,
    /// The digests of its files as they were taken, in their order; empty where they are not known.
    pub sha256: Vec<String>,
}

impl EntryFailure {
    /// What is added to an entry, in the order of [`FAILURE_FIELDS`].
    pub(super) fn fields(&self) -> [&str; 3] {
        [&self.code, &self.reason, &self.cure]
    }

    /// Writes the line of an entry: what its sender wrote, `sha256` where it is known, and why it failed. What is no object
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// Those of the output.
    pub(super) fn write_line(
        &self,
        entry: Option<&[u8]>,
        profile_id: Option<&ProfileId>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let text = entry.unwrap_or(b"{}");
        match str::from_utf8(text).ok().and_then(|text| self.line(text, profile_id)) {
            Some(line) => out.write_all(line.as_bytes())?,
            None => out.write_all(text)?,
        }
        out.write_all(b"\n")
    }

    fn line(&self, entry: &str, profile_id: Option<&ProfileId>) -> Option<String> {
        let Fields(fields) = serde_json::from_str(entry).ok()?;
        let is_given = |wanted: &str| fields.iter().any(|(name, value)| name == wanted && value.get() != "null");
        let mut line = WrittenObject::default();
        if let Some(profile_id) = profile_id.filter(|_| !is_given("profile_id")) {
            line.add("profile_id", &quoted(profile_id.as_str()));
        }
        let is_filled = |name: &str| match name {
            "profile_id" => profile_id.is_some() && !is_given(name),
            "sha256" => self.sha256_of_file(&fields).is_some() && !is_given(name),
            name => FAILURE_FIELDS.contains(&name),
        };
        for (name, value) in fields.iter().filter(|(name, _)| !is_filled(name)) {
            let images = if name == "images" { self.images(value) } else { None };
            line.add(name, &images.unwrap_or_else(|| on_one_line(value.get())));
        }
        if let Some(sha256) = self.sha256_of_file(&fields).filter(|_| !is_given("sha256")) {
            line.add("sha256", &quoted(sha256));
        }
        for (name, value) in FAILURE_FIELDS.iter().zip(self.fields()).filter(|(_, value)| !value.is_empty()) {
            line.add(name, &quoted(value));
        }
        Some(line.end())
    }

    /// The digest of the one file of an entry that is no document.
    fn sha256_of_file(&self, fields: &[(String, &RawValue)]) -> Option<&String> {
        if fields.iter().any(|(name, _)| name == "images") { None } else { self.sha256.first() }
    }

    /// The images of a document, with their digests.
    fn images(&self, images: &RawValue) -> Option<String> {
        let images: Vec<&RawValue> = serde_json::from_str(images.get()).ok()?;
        if images.len() != self.sha256.len() {
            return None;
        }
        let one = |(image, sha256): (&&RawValue, &String)| {
            let Fields(fields) = serde_json::from_str(image.get()).ok()?;
            let is_given = fields.iter().any(|(name, value)| name == "sha256" && value.get() != "null");
            let mut object = WrittenObject::default();
            for (name, value) in fields.iter().filter(|(name, _)| is_given || name != "sha256") {
                object.add(name, &on_one_line(value.get()));
            }
            if !is_given {
                object.add("sha256", &quoted(sha256));
            }
            Some(object.end())
        };
        let images = images.iter().zip(&self.sha256).map(one).collect::<Option<Vec<_>>>()?;
        Some(format!("[{}]", images.join(",")))
    }
}

/// A JSON object in the making.
#[derive(Default)]
struct WrittenObject(String);

impl WrittenObject {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(value);
    }

    fn end(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// JSON without the white space between its parts, so that its numbers keep their digits and a line has all of it.
fn on_one_line(json: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    json.chars()
        .filter(|character| {
            let is_quote = *character == '"' && !is_escaped;
            is_escaped = is_text && !is_escaped && *character == '\\';
            is_text ^= is_quote;
            is_text || is_quote || !character.is_ascii_whitespace()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sha256: &[&str]) -> EntryFailure {
        let sha256 = sha256.iter().map(|text| (*text).to_owned()).collect();
        EntryFailure { code: "failed".into(), reason: "\"a\" is\nwrong".into(), cure: "mend it".into(), sha256 }
    }

    #[track_caller]
    fn assert_line(entry: &str, sha256: &[&str], expected: &str) {
        let profile_id = ProfileId::parse("a2c4393a-e219-67a4-5ab4-2186952e9038");
        let mut line = Vec::new();
        failure(sha256).write_line(Some(entry.as_bytes()), profile_id.as_ref(), &mut line).unwrap();
        let why = r#""code":"failed","reason":"\"a\" is\nwrong","cure":"mend it"}"#;
        let id = r#""profile_id":"a2c4393a-e219-67a4-5ab4-2186952e9038""#;
        assert_eq!(String::from_utf8(line).unwrap(), format!("{}\n", expected.replace("WHY}", why).replace("ID", id)));
    }

    #[test]
    fn an_entry_is_as_its_sender_wrote_it() {
        for (entry, expected) in [
            ("{}", "{ID,WHY}"),
            (
                "{ \"path\" :\n \"a \\\" b\" , \"x\": [1.10, {\"y\": \"\\\\\"}] }",
                r#"{ID,"path":"a \" b","x":[1.10,{"y":"\\"}],WHY}"#,
            ),
            (r#"{"profile_id": null, "path": "a", "path": "b"}"#, r#"{ID,"path":"a","path":"b",WHY}"#),
            (r#"{"profile_id": "p", "n": 1e999}"#, r#"{"profile_id":"p","n":1e999,WHY}"#),
            (r#"{"code": 1, "reason": "old", "cure": null, "path": "a"}"#, r#"{ID,"path":"a",WHY}"#),
        ] {
            assert_line(entry, &[], expected);
        }
    }

    #[test]
    fn digests_are_filled_in_where_none_is_given() {
        for (entry, sha256, expected) in [
            (r#"{"path": "a"}"#, &["00"][..], r#"{ID,"path":"a","sha256":"00",WHY}"#),
            (r#"{"path": "a", "sha256": null}"#, &["00"], r#"{ID,"path":"a","sha256":"00",WHY}"#),
            (r#"{"path": "a", "sha256": "FF"}"#, &["00"], r#"{ID,"path":"a","sha256":"FF",WHY}"#),
            (
                r#"{"images": [{"path": "a"}, {"sha256": "FF", "path": "b"}, {"sha256": null, "path": "c"}]}"#,
                &["00", "01", "02"],
                r#"{ID,"images":[{"path":"a","sha256":"00"},{"sha256":"FF","path":"b"},{"path":"c","sha256":"02"}],WHY}"#,
            ),
            (r#"{"images": [{"path": 1}, 5]}"#, &[], r#"{ID,"images":[{"path":1},5],WHY}"#),
        ] {
            assert_line(entry, sha256, expected);
        }
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for text in [&b"[1, 2]"[..], b"{\"a\": ", b"\xFF", b"null"] {
            let mut line = Vec::new();
            failure(&["00"]).write_line(Some(text), None, &mut line).unwrap();
            assert_eq!(line, [text, b"\n"].concat());
        }
    }
}
