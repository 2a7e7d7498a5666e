//! What the page asks besides the status: lists of jobs, one job, one manifest, and where something is. The same as `jobs`,
//! `show` and `why` say, bounded in rows and in time.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    clock::Timestamp,
    job::JobState,
    printable::shell_word,
    queue::{
        QueueError, Reader,
        views::{
            jobs::{AttemptRow, JobRow},
            lists::{BatchView, ListFilter, MOST},
        },
    },
    waits::{ExplainedJob, SendingWaits},
};

/// Rows of a page, where nothing else is asked for.
const ROWS: u32 = 50;

/// The first and the last calls of a job that are shown.
const CALLS: (usize, usize) = (20, 80);

/// Images of a job that are shown.
const UPLOADS: usize = 200;

/// How long a search may take.
const SEARCH: Duration = Duration::from_millis(200);

/// The longest text that is searched for.
const LONGEST: usize = 1_024;

/// The longest text of others that is shown.
const WORDS: usize = 300;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum LookupError {
    /// There is no such thing.
    Unknown(String),
    /// The question is not understood.
    Malformed(String),
    Queue(QueueError),
}

impl From<QueueError> for LookupError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

/// The names and values after the `?`.
pub(super) fn parameters(query: Option<&str>) -> Vec<(String, String)> {
    reqwest::Url::parse("http://localhost/")
        .map(|mut url| {
            url.set_query(query);
            url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
        })
        .unwrap_or_default()
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, LookupError> {
    value.parse().map_err(|_| LookupError::Malformed(format!("{name} is not a number")))
}

/// `/jobs.json`: the newest first.
pub(super) fn jobs(reader: &Reader, query: Option<&str>, now: Timestamp) -> Result<String, LookupError> {
    let mut filter = ListFilter { limit: ROWS, ..ListFilter::default() };
    for (name, value) in parameters(query).into_iter().filter(|(_, value)| !value.is_empty()) {
        match name.as_str() {
            "state" => {
                let state = JobState::parse(&value);
                filter.state = Some(state.ok_or_else(|| LookupError::Malformed("there is no such state".to_owned()))?);
            }
            "drop" => filter.drop = Some(value),
            "manifest" => filter.batch = Some(number(&name, &value)?),
            "profile" => filter.profile = Some(value),
            "reference" => filter.reference = Some(value),
            "before" => filter.before = Some(number(&name, &value)?),
            "limit" => filter.limit = number::<u32>(&name, &value)?.clamp(1, MOST),
            _ => {
                let known = "state, drop, manifest, profile, reference, before and limit";
                return Err(LookupError::Malformed(format!(
                    "it can be asked for by {known}; for more use `passfort-ingest jobs`"
                )));
            }
        }
    }
    let page = reader.job_page(&filter)?;
    let waits = SendingWaits::read(reader, now)?;
    Ok(text(&json!({ "jobs": explained(&page.jobs, &waits, now), "next": page.next })))
}

/// `/job/ID`: all about one job.
pub(super) fn job(reader: &Reader, id: &str, now: Timestamp) -> Result<String, LookupError> {
    let id = number("the job", id)?;
    let mut detail = reader.job(id)?.ok_or_else(|| LookupError::Unknown(format!("there is no job {id}")))?;
    let left_out = detail.calls.len().saturating_sub(CALLS.0 + CALLS.1);
    if left_out > 0 {
        detail.calls.drain(CALLS.0..CALLS.0 + left_out);
    }
    for AttemptRow { detail, .. } in &mut detail.calls {
        if let Some(words) = detail {
            cut(words);
        }
    }
    let images = detail.uploads.len();
    detail.uploads.truncate(UPLOADS);
    let why = SendingWaits::read(reader, now)?.why(&detail.job, now);
    let batch = reader.batch_of(id)?;
    let mut value = serde_json::to_value(&detail).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("why".to_owned(), why.into());
        object.insert("batch".to_owned(), batch.into());
        object.insert("calls_left_out".to_owned(), left_out.into());
        object.insert("images".to_owned(), images.into());
    }
    Ok(text(&value))
}

/// `/manifest/ID`: a batch, and a page of its entries.
pub(super) fn manifest(reader: &Reader, id: &str, query: Option<&str>, now: Timestamp) -> Result<String, LookupError> {
    let id = number("the manifest", id)?;
    let (mut after, mut limit) = (-1, ROWS);
    for (name, value) in parameters(query) {
        match name.as_str() {
            "after" => after = number(&name, &value)?,
            "limit" => limit = number::<u32>(&name, &value)?.clamp(1, MOST),
            _ => return Err(LookupError::Malformed("it can be asked for by after and limit".to_owned())),
        }
    }
    let view = reader.batch_view(id, after, limit)?;
    let view = view.ok_or_else(|| LookupError::Unknown(format!("there is no manifest {id}")))?;
    let waits = SendingWaits::read(reader, now)?;
    let BatchView { unwell, entries, .. } = &view;
    let (unwell, entries) = (explained(unwell, &waits, now), explained(entries, &waits, now));
    let mut value = serde_json::to_value(&view).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("unwell".to_owned(), unwell);
        object.insert("entries".to_owned(), entries);
    }
    Ok(text(&value))
}

/// `/search?q=`: where it is.
pub(super) fn search(reader: &Reader, query: Option<&str>) -> Result<String, LookupError> {
    let wanted = parameters(query).into_iter().find(|(name, _)| name == "q").map(|(_, value)| value.trim().to_owned());
    let wanted = wanted.filter(|wanted| !wanted.is_empty() && wanted.len() <= LONGEST);
    let wanted = wanted.ok_or_else(|| LookupError::Malformed("ask as /search?q=…".to_owned()))?;
    let result = reader.search(&wanted, SEARCH)?;
    let command = format!("passfort-ingest why {}", plain_or_quoted(&wanted));
    Ok(text(&json!({ "q": wanted, "found": result.found, "partial": result.partial, "command": command })))
}

/// A text as one word of a shell, quoted where it has to be.
fn plain_or_quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-=:".contains(letter);
    if text.chars().all(is_plain) { text.to_owned() } else { shell_word(text) }
}

fn explained(jobs: &[JobRow], waits: &SendingWaits, now: Timestamp) -> Value {
    let one = |job: &JobRow| {
        let mut why = waits.why(job, now);
        cut(&mut why);
        serde_json::to_value(ExplainedJob { job, why }).unwrap_or_default()
    };
    jobs.iter().map(one).collect()
}

/// Cuts the words of others at a length that can be read.
fn cut(words: &mut String) {
    if let Some((at, _)) = words.char_indices().nth(WORDS) {
        words.truncate(at);
        words.push('…');
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
