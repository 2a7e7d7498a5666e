//! The log's lines: what they may say, and how hostile text is shown.
//!
//! By default a line has numbers, and the texts of the fields in [`PLAIN`], which no sender and no API words. Names of
//! files, references, profiles and the API's words are added by `-v`. New fields are left out until they are listed here.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::{LogFormat, output::escape};
use crate::clock::Timestamp;

/// Fields whose texts come from this program or its configuration.
const PLAIN: [&str; 24] = [
    "account",
    "address",
    "answer",
    "call",
    "cause",
    "code",
    "database",
    "drop",
    "due",
    "error",
    "folder",
    "jobs",
    "kind",
    "message",
    "operation",
    "origin",
    "outcome",
    "state",
    "status",
    "waits",
    "warning",
    "watching",
    "what",
    "why",
];

/// Starts logging to standard error, with names and words or without. `$RUST_LOG` overrides the level.
pub(super) fn start(format: LogFormat, loudness: i16, words: bool) {
    let level = match loudness {
        ..=-2 => "error",
        -1 => "warn",
        0 => "info",
        1 => "passfort_ingest=debug,info",
        2.. => "passfort_ingest=trace,debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let lines = LogLines { format, words, journal: is_read_by_the_journal() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).event_format(lines);
    // A second start, as in tests within one process, keeps the first.
    builder.try_init().ok();
}

/// Writes events as lines.
#[derive(Debug, Clone, Copy)]
struct LogLines {
    format: LogFormat,
    /// Whether names and words are written too.
    words: bool,
    /// Whether each line begins with its priority, as `journald` reads it; it has its own time then.
    journal: bool,
}

/// Whether standard error is the stream that systemd gave to the journal (`JOURNAL_STREAM`, see systemd.exec(5)).
fn is_read_by_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let ours = rustix::fs::fstat(std::io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    ours.is_ok_and(|ours| ours == stream)
}

/// The error that a command ends with, as standard error takes it: `journalctl -p err` is where a service's operator looks for
/// the reason why it does not start.
pub(super) fn with_error_priority(text: &str) -> String {
    if is_read_by_the_journal() { error_lines(text) } else { text.to_owned() }
}

fn error_lines(text: &str) -> String {
    text.lines().map(|line| format!("<{}>{line}\n", priority(Level::ERROR))).collect()
}

/// The priority of a level, as in syslog(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl<S, N> FormatEvent<S, N> for LogLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut seen = LineFields { words: self.words, ..LineFields::default() };
        event.record(&mut seen);
        let level = *event.metadata().level();
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        }
        let now = Timestamp::now();
        let now = format!("{}.{:03}Z", now.to_string().trim_end_matches('Z'), now.0.rem_euclid(1000));
        writeln!(writer, "{}", seen.line(self.format, (!self.journal).then_some(&now), level.as_str()))
    }
}

/// An event's fields, as far as they are written.
#[derive(Debug, Default)]
struct LineFields {
    words: bool,
    message: String,
    others: Map<String, Value>,
}

impl LineFields {
    fn text(&mut self, field: &Field, text: String) {
        if !self.words && !PLAIN.contains(&field.name()) {
            return;
        }
        if field.name() == "message" {
            self.message = text;
        } else {
            self.others.insert(field.name().to_owned(), text.into());
        }
    }

    fn number(&mut self, field: &Field, number: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), number.into());
    }

    fn line(self, format: LogFormat, now: Option<&String>, level: &str) -> String {
        if format == LogFormat::Json {
            let mut object = Map::new();
            object.extend(now.map(|now| ("timestamp".to_owned(), now.as_str().into())));
            object.insert("level".to_owned(), level.into());
            object.insert("message".to_owned(), escape(&self.message).into());
            let shown = self.others.into_iter().map(|(name, value)| match value {
                Value::String(text) => (name, escape(&text).into()),
                number => (name, number),
            });
            object.extend(shown);
            return Value::Object(object).to_string();
        }
        let mut line = match now {
            Some(now) => format!("{now} {level:>5} {}", escape(&self.message)),
            None => escape(&self.message).into_owned(),
        };
        for (name, value) in self.others {
            let text = match value {
                Value::String(text) if text.contains([' ', '"', '=']) => format!("\"{}\"", text.replace('"', "'")),
                Value::String(text) => text,
                number => number.to_string(),
            };
            // Writing to a text does not fail.
            write!(line, " {name}={}", escape(&text)).ok();
        }
        line
    }
}

impl Visit for LineFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[test]
    fn each_line_of_an_error_has_its_priority_in_the_journal() {
        assert_eq!(error_lines("error: a\n  because: b\n"), "<3>error: a\n<3>  because: b\n");
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one event.
    fn logged(format: LogFormat, words: bool, journal: bool) -> String {
        let out = Shared::default();
        let writer = out.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(LogLines { format, words, journal })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let path = "Müller\u{202e}.png";
            tracing::warn!(job = 7, drop = "a b", path, error = %"bad\u{1b}[2J", reason = %"no such person", "refused\nhere");
        });
        String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn names_and_words_are_written_only_where_they_are_asked_for() {
        let text = logged(LogFormat::Text, false, false);
        let said = text.split_once(' ').unwrap().1;
        assert_eq!(said, " WARN refused\\nhere drop=\"a b\" error=bad\\u{1b}[2J job=7\n");
        let text = logged(LogFormat::Text, true, false);
        assert!(text.contains("path=Müller\\u{202e}.png") && text.contains("reason=\"no such person\""), "{text}");
        let json: Value = serde_json::from_str(&logged(LogFormat::Json, false, false)).unwrap();
        assert_eq!((&json["message"], &json["job"]), (&"refused\\nhere".into(), &7.into()), "{json}");
        assert!(json.get("path").is_none() && json.get("reason").is_none(), "{json}");
        let json: Value = serde_json::from_str(&logged(LogFormat::Json, true, false)).unwrap();
        assert_eq!(json["path"], "Müller\\u{202e}.png", "{json}");
    }

    #[test]
    fn the_journal_gets_the_priority_and_no_second_time() {
        let text = logged(LogFormat::Text, false, true);
        assert_eq!(text, "<4>refused\\nhere drop=\"a b\" error=bad\\u{1b}[2J job=7\n");
        let json: Value =
            serde_json::from_str(logged(LogFormat::Json, false, true).strip_prefix("<4>").unwrap()).unwrap();
        assert!(json.get("timestamp").is_none() && json["level"] == "WARN", "{json}");
        let priorities = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE].map(priority);
        assert_eq!(priorities, [3, 4, 6, 7, 7]);
    }
}
