//! What failures have in common: the call that was refused and how, or this program's own reason, without what differs
//! from entry to entry.
//!
//! A wrong profile in a list of 300,000 entries is one thing to mend. Pure; what is found in the text of a [`Problem`] is
//! found in those that an earlier release stored, too.

use crate::{operation::Operation, problem::Problem};

/// What became of the entries, or manifests, that have a cause in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CauseStatus {
    /// Jobs that were refused, or given up.
    Failed,
    /// Entries that were not good enough to become jobs.
    Invalid,
    /// Manifests that were refused as a whole.
    Rejected,
}

impl CauseStatus {
    pub const ALL: [Self; 3] = [Self::Failed, Self::Invalid, Self::Rejected];

    /// The word in the queue and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Rejected => "rejected",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// What shows all of a cause, what sends it again, and what says that a person knows.
    #[must_use]
    pub fn commands(self, cause: i64) -> Vec<String> {
        let commands: &[&str] = match self {
            Self::Failed => &["jobs --cause", "retry --cause", "seen"],
            Self::Invalid | Self::Rejected => &["jobs --invalid --cause", "seen"],
        };
        commands.iter().map(|command| format!("passfort-ingest {command} {cause}")).collect()
    }
}

/// A cause, and how it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureCause {
    /// Equal for failures that have it in common.
    pub key: String,
    /// A stable name without anything that a sender or the API worded: the reason's own code, or the answer's numbers.
    pub code: Option<String>,
    /// The API's words about the first failure, or this program's own without the file's path.
    pub title: String,
    /// What its reader can do about it.
    pub cure: String,
}

/// The longest key and title, in characters: the API's words are at most 300.
const LONGEST: usize = 400;

/// An entry that ends with one that was refused has the cause of that one.
const EQUAL_REFUSED: &str = "equal-refused";

/// A gateway's words change with its mood.
const WITHOUT_REASON: &str = "refused-without-reason";

impl FailureCause {
    /// The cause of an end with these problems, of which the first error counts.
    #[must_use]
    pub fn of(status: CauseStatus, problems: &[Problem]) -> Self {
        let unknown = || Problem::error("no reason is recorded", "see the receipt");
        let problem = problems.iter().find(|problem| problem.is_error()).cloned().unwrap_or_else(unknown);
        let own_code = problem.code.as_deref().filter(|code| *code != EQUAL_REFUSED);
        let answer = ApiAnswer::find(&problem.reason);
        let (words, title, numbers) = match &answer {
            Some(answer) => {
                let words = if own_code == Some(WITHOUT_REASON) { String::new() } else { normal(answer.message) };
                let numbers = answer.numbers();
                let parts = [Some(answer.operation), numbers.as_deref(), Some(answer.message)];
                let title = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
                (format!("{} {} {words}", answer.operation, numbers.as_deref().unwrap_or("-")), title, numbers)
            }
            None => {
                let (reason, path) = (without_line(&problem.reason), problem.path.as_deref());
                let title = match path.filter(|path| !path.is_empty()) {
                    Some(path) => reason.replace(path, "…"),
                    None => reason.to_owned(),
                };
                let words = if own_code.is_some() { String::new() } else { normal(&without_path(reason, path)) };
                (words, title, None)
            }
        };
        let key = format!("{} {} {words}", status.as_str(), own_code.unwrap_or("-"));
        Self {
            key: cut(key.trim_end()),
            code: own_code.map(str::to_owned).or(numbers),
            title: cut(&title),
            cure: of_any_job(&problem.cure),
        }
    }

    /// The one for what is left once so many causes are known that no more are kept apart.
    #[must_use]
    pub fn other(status: CauseStatus) -> Self {
        let title = match status {
            CauseStatus::Failed => "other reasons, too many to be kept apart: see `jobs --state failed`",
            CauseStatus::Invalid | CauseStatus::Rejected => {
                "other reasons, too many to be kept apart: see `jobs --invalid`"
            }
        };
        Self {
            key: format!("{} other", status.as_str()),
            code: Some("other".to_owned()),
            title: title.to_owned(),
            cure: "mend what the others name first".to_owned(),
        }
    }
}

/// What the API answered, as the words of `crate::verdict` have it.
#[derive(Debug, PartialEq, Eq)]
struct ApiAnswer<'a> {
    operation: &'static str,
    status: Option<&'a str>,
    code: Option<&'a str>,
    message: &'a str,
}

impl<'a> ApiAnswer<'a> {
    fn find(reason: &'a str) -> Option<Self> {
        let (at, operation) = Operation::ALL
            .into_iter()
            .map(Operation::as_str)
            .filter_map(|operation| {
                let at = reason.find(&format!("{operation}: "))?;
                (at == 0 || reason.get(..at)?.ends_with(": ")).then_some((at, operation))
            })
            .min()?;
        let before = reason.get(..at)?;
        let mut rest = reason.get(at + operation.len() + 2..)?;
        let mut code = before.find("(code ").and_then(|at| leading_number(before.get(at + "(code ".len()..)?));
        let mut status = None;
        if let Some(answer) = rest.strip_prefix("HTTP ")
            && let Some(number) = leading_number(answer)
        {
            status = Some(number);
            rest = answer.get(number.len()..).unwrap_or_default();
            if let Some(of_answer) = rest.strip_prefix(", code ")
                && let Some(number) = leading_number(of_answer)
            {
                code = Some(number);
                rest = of_answer.get(number.len()..).unwrap_or_default();
            }
            rest = rest.trim_start_matches(':').trim_start();
        }
        Some(Self { operation, status, code, message: rest })
    }

    /// As `HTTP 404, code 201`.
    fn numbers(&self) -> Option<String> {
        match (self.status, self.code) {
            (Some(status), Some(code)) => Some(format!("HTTP {status}, code {code}")),
            (Some(status), None) => Some(format!("HTTP {status}")),
            (None, Some(code)) => Some(format!("code {code}")),
            (None, None) => None,
        }
    }
}

/// The digits that a text begins with, with their sign.
fn leading_number(text: &str) -> Option<&str> {
    let digits = text.trim_start_matches('-').bytes().take_while(u8::is_ascii_digit).count();
    let sign = text.len() - text.trim_start_matches('-').len();
    (digits > 0 && sign <= 1).then(|| text.get(..sign + digits)).flatten()
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// A cure that names the job to be retried, for all of them.
fn of_any_job(cure: &str) -> String {
    let mut parts = cure.split("`retry ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        let job = if rest.len() < part.len() { "JOB" } else { "" };
        format!("{all}`retry {job}{rest}")
    })
}

/// Without the line that a manifest's problem begins with.
fn without_line(reason: &str) -> &str {
    let rest = reason.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    rest.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())).map_or(reason, |(_, rest)| rest)
}

fn without_path(text: &str, path: Option<&str>) -> String {
    match path.filter(|path| !path.is_empty()) {
        Some(path) => text.replace(path, " "),
        None => text.to_owned(),
    }
}

/// The words that differently phrased messages share: without digits, UUIDs, paths, addresses, quoted values, case and
/// punctuation.
#[must_use]
pub fn normal(message: &str) -> String {
    let text = without_uuids(&without_quoted(message));
    let mut words: Vec<String> = Vec::new();
    for token in text.split_whitespace().filter(|token| !is_name(token)) {
        for word in token.split(|character: char| !character.is_alphanumeric()) {
            if !word.is_empty() && !word.contains(char::is_numeric) {
                words.push(word.to_lowercase());
            }
        }
    }
    words.join(" ")
}

/// Whether a token is a path, an address or a file's name.
fn is_name(token: &str) -> bool {
    const ENDINGS: [&str; 15] = [
        "png", "jpg", "jpeg", "jpe", "jfif", "gif", "tif", "tiff", "pdf", "bmp", "heic", "webp", "csv", "json", "jsonl",
    ];
    let token = token.trim_matches(|character: char| !character.is_alphanumeric() && !matches!(character, '/' | '\\'));
    let ending = token.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    token.contains(['/', '\\', '@']) || ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

fn without_quoted(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let inner = rest.get(first.len_utf8()..).unwrap_or_default();
        let closing = match first {
            '"' => Some('"'),
            '“' | '„' => Some('”'),
            '«' => Some('»'),
            '`' => Some('`'),
            '‘' => Some('’'),
            // An apostrophe within a word is none.
            '\'' if !before.is_alphanumeric() => Some('\''),
            _ => None,
        };
        match closing.and_then(|closing| end_of_quote(inner, closing)) {
            Some(end) => {
                kept.push(' ');
                rest = inner.get(end..).unwrap_or_default();
                before = ' ';
            }
            None => {
                kept.push(first);
                rest = inner;
                before = first;
            }
        }
    }
    kept
}

/// Where the text continues after a quoted value.
fn end_of_quote(text: &str, closing: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        let end = at + character.len_utf8();
        let followed = || text.get(end..).and_then(|rest| rest.chars().next()).is_some_and(char::is_alphanumeric);
        if character == closing && !is_escaped && !(closing == '\'' && followed()) {
            return Some(end);
        }
        is_escaped = character == '\\' && !is_escaped;
    }
    None
}

fn without_uuids(text: &str) -> String {
    const LENGTH: usize = 36;
    let is_uuid = |text: &str| {
        text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match rest.get(..LENGTH) {
            Some(start) if is_uuid(start) => {
                kept.push(' ');
                rest = rest.get(LENGTH..).unwrap_or_default();
            }
            _ => {
                kept.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_phrasings_of_one_message_are_one() {
        for phrasing in [
            "There is no such profile",
            "there is no such profile",
            "THERE IS NO SUCH PROFILE",
            "There is no such profile.",
            "There is no such profile!",
            "  there  is no\tsuch profile ",
            "There is no such profile: a2c4393a-e219-67a4-5ab4-2186952e9038",
            "There is no such profile: A2C4393A-E219-67A4-5AB4-2186952E9038.",
            "There is no such profile (a2c4393a-e219-67a4-5ab4-2186952e9038)",
            "There is no such profile \"Anna Müller\"",
            "There is no such profile \"Anna \\\"Annie\\\" Müller\"",
            "There is no such profile 'customer-17'",
            "There is no such profile 'O'Brien'",
            "There is no such profile `17`",
            "There is no such profile “17”",
            "There is no such profile «17»",
            "There is no such profile 4711",
            "There is no such profile #4,711",
            "There is no such profile at /4.0/profiles/17/documents",
            "There is no such profile; customer17@example.com",
            "There is no such profile (17/front.jpg)",
            "There is no such profile: front.JPG",
            "There is no such profile C:\\scans\\17",
            "[17] There is no such profile",
        ] {
            let expected = match phrasing {
                "There is no such profile at /4.0/profiles/17/documents" => "there is no such profile at",
                _ => "there is no such profile",
            };
            assert_eq!(normal(phrasing), expected, "{phrasing}");
        }
    }

    #[test]
    fn what_is_another_message_stays_another() {
        let messages = [
            "there is no such profile",
            "there is no such document",
            "the profile doesn't exist",
            "the profile's owner doesn't exist",
            "images[0].image_id: unknown",
            "images[0].image_type: unknown",
            "Größe überschritten",
            "an \"open quote",
        ];
        let mut normals: Vec<String> = messages.iter().map(|message| normal(message)).collect();
        assert_eq!(normals[4], "images image id unknown");
        assert_eq!(normals[6], "größe überschritten");
        normals.sort();
        normals.dedup();
        assert_eq!(normals.len(), messages.len(), "{normals:?}");
        assert_eq!(normal("images.12.image_id unknown"), normal("images.3.image_id: UNKNOWN"));
        assert_eq!(normal("4711 17"), "");
    }

    fn failed(reason: &str) -> FailureCause {
        FailureCause::of(CauseStatus::Failed, &[Problem::error(reason, "mend it")])
    }

    #[test]
    fn every_way_in_which_the_api_refuses_has_its_call_its_numbers_and_its_words() {
        let key = |words: &str| format!("failed - {words}");
        for (reason, expected, code) in [
            (
                "the API refused it (code 201): create_document: HTTP 404: No such profile 17",
                key("create_document HTTP 404, code 201 no such profile"),
                Some("HTTP 404, code 201"),
            ),
            (
                "the same was refused as job 4711: the API refused it (code 201): create_document: HTTP 404: no such profile",
                key("create_document HTTP 404, code 201 no such profile"),
                Some("HTTP 404, code 201"),
            ),
            (
                "the API refused it: upload_image: HTTP 413: too large",
                key("upload_image HTTP 413 too large"),
                Some("HTTP 413"),
            ),
            (
                "given up after 17 tries; the last: upload_image: connection reset by peer",
                key("upload_image - connection reset by peer"),
                None,
            ),
            (
                "the key works, but is refused for the profile a2c4393a-e219-67a4-5ab4-2186952e9038: create_document: HTTP \
                 403: the API key is invalid",
                key("create_document HTTP 403 the api key is invalid"),
                Some("HTTP 403"),
            ),
            (
                "read_documents: HTTP 500, code -1: x",
                key("read_documents HTTP 500, code -1 x"),
                Some("HTTP 500, code -1"),
            ),
            ("17 upload_image: is no call", key("upload image is no call"), None),
        ] {
            let found = failed(reason);
            assert_eq!(found.key, expected, "{reason}");
            assert_eq!(found.code.as_deref(), code, "{reason}");
        }
        let title = failed("the API refused it (code 201): create_document: HTTP 404: No such profile \"Anna\"").title;
        assert_eq!(title, "create_document: HTTP 404, code 201: No such profile \"Anna\"", "the API's words are kept");
    }

    #[test]
    fn a_code_of_our_own_is_the_cause_whatever_the_words() {
        let of = |reason: &str, code: &str| {
            FailureCause::of(CauseStatus::Invalid, &[Problem::error(reason, "").path("17/a.png").code(code)])
        };
        assert_eq!(of("17/a.png: truncated", "truncated").key, of("8 of 9 bytes", "truncated").key);
        assert_ne!(of("x", "truncated").key, of("x", "no-such-file").key);
        let gateway = |said: &str| {
            let reason = format!(
                "refused 7 times in 10 min without an error of the API's own, while the account works: \
                 upload_image: HTTP 404: {said}"
            );
            of(&reason, "refused-without-reason")
        };
        assert_eq!(gateway("<html>").key, gateway("Not here").key);
        assert_eq!(gateway("x").code.as_deref(), Some("refused-without-reason"));
    }

    #[test]
    fn reasons_without_a_code_are_grouped_by_their_words() {
        let of = |reason: &str, path: &str| {
            FailureCause::of(CauseStatus::Invalid, &[Problem::error(reason, "send it").path(path)])
        };
        let (one, other) =
            (of("line 7: scan of Anna: 17 bytes", "scan of Anna"), of("line 12: b.png: 3 bytes", "b.png"));
        assert_eq!(one.key, other.key);
        assert_eq!(one.title, "…: 17 bytes");
        let problems = [Problem::warning("it is odd", ""), Problem::error("it is bad", "mend it")];
        let cause = FailureCause::of(CauseStatus::Rejected, &problems);
        assert_eq!((cause.key.as_str(), cause.cure.as_str()), ("rejected - it is bad", "mend it"));
        assert_eq!(FailureCause::of(CauseStatus::Failed, &[]).title, "no reason is recorded");
        let cure = "use `retry 17`; or `retry 17 --take-changed`, or `retry --all`";
        let cause = FailureCause::of(CauseStatus::Failed, &[Problem::error("it has changed", cure)]);
        assert_eq!(cause.cure, "use `retry JOB`; or `retry JOB --take-changed`, or `retry --all`");
    }

    #[test]
    fn a_key_is_bounded() {
        let long = failed(&format!("the API refused it: create_document: HTTP 400: {}", "word ".repeat(1000)));
        assert!(long.key.chars().count() <= LONGEST && long.title.chars().count() <= LONGEST);
    }
}
