//! The outcome of every row of the API's tables of errors, and of every operation, status and code together.

use serde_json::json;

use super::*;
use crate::exchange::{LimitHeaders, PageHeaders};

const NOW: Timestamp = Timestamp(1_795_378_500_000);

const CREATING: [Operation; 3] = [Operation::UploadImage, Operation::UploadFile, Operation::CreateDocument];
const READING: [Operation; 3] = [Operation::ReadDocuments, Operation::ListImages, Operation::Whoami];

const KEY_CODES: [i64; 2] = [203, 204];
const QUOTA_CODES: [i64; 2] = [104, 107];
const REFUSING_CODES: [i64; 7] = [101, 102, 103, 105, 106, 201, 202];
const TRANSIENT_CODES: [i64; 6] = [301, 302, 303, 401, 402, 501];
const UNKNOWN_CODES: [i64; 4] = [502, 0, -1, 999];

/// The outcome's kind, without its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Done,
    Refused,
    Throttled,
    KeyRefused,
    QuotaSpent,
    TryAgain,
    Unattributed,
    Lost,
    SourceChanged,
    SourceUnreadable,
}

fn kind(outcome: &Outcome) -> Kind {
    match outcome {
        Outcome::Done(_) => Kind::Done,
        Outcome::Refused(_) => Kind::Refused,
        Outcome::Throttled { .. } => Kind::Throttled,
        Outcome::Paused { cause: PauseCause::KeyRefused, .. } => Kind::KeyRefused,
        Outcome::Paused { cause: PauseCause::QuotaSpent, .. } => Kind::QuotaSpent,
        Outcome::TryAgain(_) => Kind::TryAgain,
        Outcome::Unattributed(_) => Kind::Unattributed,
        Outcome::Lost(_) => Kind::Lost,
        Outcome::SourceChanged(_) => Kind::SourceChanged,
        Outcome::SourceUnreadable(_) => Kind::SourceUnreadable,
    }
}

fn exchange(operation: Operation, handed_over: bool, result: Result<Answer, Fault>) -> Exchange {
    Exchange { operation, result, sent_bytes: 0, handed_over, started: NOW, took: Duration::ZERO, answered_after: None }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status,
        limits: LimitHeaders::default(),
        body: body.as_bytes().to_vec(),
        pages: PageHeaders::default(),
        omitted: Vec::new(),
        ending: Ending::Whole,
    }
}

fn judged(operation: Operation, handed_over: bool, status: u16, body: &str) -> Outcome {
    outcome(&exchange(operation, handed_over, Ok(answer(status, body))), NOW)
}

fn with_code(code: i64) -> String {
    json!({"errors": [{"code": code, "message": "words", "source": "API", "info": null}]}).to_string()
}

/// Lost for what creates, again for what only reads.
fn unknown(operation: Operation, handed_over: bool) -> Kind {
    if operation.is_creating() && handed_over { Kind::Lost } else { Kind::TryAgain }
}

/// What a status means beside an error of the API's own whose code is not known.
fn of_own_status(operation: Operation, handed_over: bool, status: u16) -> Kind {
    match of_status(operation, handed_over, status) {
        Kind::Unattributed => Kind::Refused,
        kind => kind,
    }
}

/// What a status alone means, written apart from the code that is tested.
fn of_status(operation: Operation, handed_over: bool, status: u16) -> Kind {
    match status {
        200..=299 if operation.is_creating() => Kind::Lost,
        300..=399 | 408 => unknown(operation, handed_over),
        200..=299 | 407 | 425 => Kind::TryAgain,
        401 | 403 => Kind::KeyRefused,
        429 => Kind::Throttled,
        409 | 412 if operation == Operation::CreateDocument => Kind::Lost,
        413..=415 => Kind::Refused,
        400..=499 => Kind::Unattributed,
        _ => unknown(operation, handed_over),
    }
}

/// What an error that refuses nothing means within a success.
fn in_success(operation: Operation) -> Kind {
    if operation == Operation::CreateDocument { Kind::Lost } else { Kind::TryAgain }
}

fn every_case() -> impl Iterator<Item = (Operation, bool, u16)> {
    Operation::ALL.into_iter().flat_map(|operation| {
        [false, true].into_iter().flat_map(move |handed| (200..=999).map(move |status| (operation, handed, status)))
    })
}

#[test]
fn every_status_without_a_known_body() {
    let bodies = [
        "",
        "<html><body>Bad Gateway</body></html>",
        "[{\"cut",
        r#"{"errors":[{"code":502}]}"#,
        "\0",
        r#"{"message":"no Route matched with those values"}"#,
        r#"{"errors":["not found"]}"#,
    ];
    for (operation, handed_over, status) in every_case() {
        for body in bodies {
            let expected = match status {
                // A success that names an error has failed, but of a document that is not certain.
                200..=299 if body.contains("502") || body.contains("not found") => in_success(operation),
                200..=299 if body.contains("message") => continue,
                _ if body.contains("502") => of_own_status(operation, handed_over, status),
                _ => of_status(operation, handed_over, status),
            };
            let outcome = judged(operation, handed_over, status, body);
            assert_eq!(kind(&outcome), expected, "{operation:?} {handed_over} {status} {body}");
        }
    }
}

#[test]
fn every_status_with_every_code() {
    for (operation, handed_over, status) in every_case() {
        let assert_kind = |codes: &[i64], expected: Kind| {
            for code in codes {
                let outcome = judged(operation, handed_over, status, &with_code(*code));
                assert_eq!(kind(&outcome), expected, "{operation:?} {handed_over} {status} {code}");
            }
        };
        let unless = |kind: Kind| match status {
            401 => Kind::KeyRefused,
            429 => Kind::Throttled,
            _ => kind,
        };
        assert_kind(&KEY_CODES, Kind::KeyRefused);
        assert_kind(&QUOTA_CODES, if status == 401 { Kind::KeyRefused } else { Kind::QuotaSpent });
        assert_kind(&REFUSING_CODES, unless(Kind::Refused));
        let transient = match status {
            ..300 => in_success(operation),
            500.. => unknown(operation, handed_over),
            _ if operation == Operation::CreateDocument => unknown(operation, handed_over),
            _ => Kind::TryAgain,
        };
        assert_kind(&TRANSIENT_CODES, unless(transient));
        let by_status =
            if status < 300 { in_success(operation) } else { of_own_status(operation, handed_over, status) };
        assert_kind(&UNKNOWN_CODES, by_status);
    }
}

#[test]
fn every_fault() {
    let text = || "words".to_owned();
    let second = Duration::from_secs(1);
    for operation in Operation::ALL {
        for handed_over in [false, true] {
            for (fault, expected) in [
                (Fault::Resolve(text()), Kind::TryAgain),
                (Fault::Connect(text()), Kind::TryAgain),
                (Fault::Tls(text()), Kind::TryAgain),
                (Fault::Local(text()), Kind::TryAgain),
                (Fault::Reset(text()), unknown(operation, handed_over)),
                (Fault::Stalled(second), unknown(operation, handed_over)),
                (Fault::NoAnswer(second), unknown(operation, handed_over)),
                (Fault::SourceChanged, Kind::SourceChanged),
                (Fault::SourceUnreadable(text()), Kind::SourceUnreadable),
            ] {
                let outcome = outcome(&exchange(operation, handed_over, Err(fault.clone())), NOW);
                assert_eq!(kind(&outcome), expected, "{operation:?} {handed_over} {fault:?}");
            }
        }
    }
}

#[test]
fn an_incomplete_answer_counts_by_its_status_alone() {
    let body = r#"{"id":"x","documents":[],"document_images":[]}"#;
    for (operation, handed_over, status) in every_case() {
        for ending in [Ending::Cut, Ending::Silent, Ending::TooLarge] {
            let answer = Answer { ending, ..answer(status, body) };
            let outcome = outcome(&exchange(operation, handed_over, Ok(answer)), NOW);
            assert_eq!(kind(&outcome), of_status(operation, handed_over, status), "{operation:?} {status} {ending:?}");
        }
    }
}

#[test]
fn what_worked_gives_its_reply_under_any_success() {
    let id = || "9A92b3c5-0f9a-4b1c-8a1e-2f6a2d9d7c11".to_owned();
    let body =
        json!({"id": id(), "name": "n", "images": [{"id": "i", "errors": [{"code": 201}]}], "new": 1, "errors": []});
    for status in [200, 201, 202, 299] {
        for (operation, expected) in CREATING.into_iter().zip([
            Reply::Image { id: id() },
            Reply::File { id: id() },
            Reply::Document { id: id() },
        ]) {
            let outcome = judged(operation, true, status, &body.to_string());
            assert_eq!(outcome, Outcome::Done(expected), "{operation:?} {status}");
        }
    }
    for (operation, body, expected) in [
        (Operation::ReadDocuments, r#"{"documents":[]}"#, Reply::Documents(DocumentList::default())),
        (Operation::ListImages, "[]", Reply::Images(vec![])),
        (Operation::Whoami, "{}", Reply::Whoami { auditee: None, institution: None, institution_id: None }),
    ] {
        assert_eq!(judged(operation, true, 200, body), Outcome::Done(expected));
    }
}

#[test]
fn a_success_that_cannot_be_trusted_is_lost() {
    for operation in CREATING {
        let early = judged(operation, false, 200, r#"{"id":"x"}"#);
        assert_eq!(kind(&early), Kind::Lost);
        for body in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":"a/b"}"#, "[]", r#""x""#, r#"{"id":"x"} more"#] {
            assert_eq!(kind(&judged(operation, true, 200, body)), Kind::Lost, "{operation:?} {body}");
        }
    }
    for operation in READING {
        assert_eq!(kind(&judged(operation, true, 200, "<html>")), Kind::TryAgain);
        assert_eq!(kind(&judged(operation, true, 204, "")), Kind::TryAgain);
    }
}

#[test]
fn errors_inside_a_success_count_in_either_shape() {
    for body in [
        json!({"errors": [{"code": 201, "message": "m"}], "id": "x"}),
        json!({"errors": {"code": 201, "message": "m"}}),
    ] {
        for operation in Operation::ALL {
            let outcome = judged(operation, true, 200, &body.to_string());
            let reason = Reason { status: Some(200), code: Some(201), message: "m".to_owned() };
            let has_id = operation == Operation::CreateDocument && body.get("id").is_some();
            let expected = if has_id { Outcome::Lost(reason) } else { Outcome::Refused(reason) };
            assert_eq!(outcome, expected, "{operation:?} {body}");
        }
    }
}

#[test]
fn an_error_that_does_not_refuse_beside_an_id_is_lost() {
    for (code, expected) in [(301, Kind::Lost), (999, Kind::Lost), (201, Kind::Refused), (204, Kind::KeyRefused)] {
        let body = json!({"id": "x", "errors": [{"code": code}]}).to_string();
        for operation in CREATING {
            let expected = if operation == Operation::CreateDocument { Kind::Lost } else { expected };
            assert_eq!(kind(&judged(operation, true, 200, &body)), expected, "{operation:?} {code}");
        }
    }
}

#[test]
fn an_id_is_kept_of_whatever_answer_has_one() {
    let id = "9A92b3c5-0f9a-4b1c-8a1e-2f6a2d9d7c11";
    let of = |status, body: &str| {
        answered_id(&exchange(Operation::CreateDocument, true, Ok(answer(status, body)))).unwrap_or_default()
    };
    for (status, body, expected) in [
        (200, format!(r#"{{"id":"{id}"}}"#), id),
        (200, format!(r#"{{"id":"{id}","category":"PRO"#), id),
        (200, r#"{"id":"x","errors":[{"code":201}]}"#.to_owned(), "x"),
        (400, format!(r#"{{"errors":[{{"code":201}}],"id":"{id}"}}"#), id),
        (400, r#"{"errors":[{"code":201}],"id":"request-7"}"#.to_owned(), ""),
        (429, format!(r#"{{"id":"{id}","message":"slow down"}}"#), ""),
        (200, format!(r#"{{"document":{{"id":"{id}"}}}}"#), ""),
        (200, "<html>".to_owned(), ""),
    ] {
        assert_eq!(of(status, &body), expected, "{status} {body}");
    }
    let refused = format!(r#"{{"errors":[{{"code":201}}],"id":"{id}"}}"#);
    assert_eq!(kind(&judged(Operation::CreateDocument, true, 400, &refused)), Kind::Lost);
    let read = exchange(Operation::ReadDocuments, true, Ok(answer(200, &format!(r#"{{"id":"{id}"}}"#))));
    assert_eq!(answered_id(&read), None);
}

#[test]
fn a_throttled_call_says_how_long_to_wait() {
    let limits = LimitHeaders { retry_secs: Some(2.5), ..LimitHeaders::default() };
    let waited =
        |limits| outcome(&exchange(Operation::UploadImage, true, Ok(Answer { limits, ..answer(429, "") })), NOW);
    let Outcome::Throttled { wait, reason } = waited(limits) else { panic!("not throttled") };
    assert_eq!((wait, reason.status), (Some(Duration::from_millis(2500)), Some(429)));
    assert!(matches!(waited(LimitHeaders::default()), Outcome::Throttled { wait: None, .. }));
}

#[test]
fn reasons_say_what_happened() {
    let message = |outcome: &Outcome| match outcome {
        Outcome::Refused(reason)
        | Outcome::Unattributed(reason)
        | Outcome::TryAgain(reason)
        | Outcome::Lost(reason) => reason.message.clone(),
        other => panic!("{other:?}"),
    };
    let of = |status, body: &str| message(&judged(Operation::UploadImage, true, status, body));
    assert_eq!(of(404, ""), "HTTP status 404");
    assert_eq!(of(404, r#"{"message":"no such profile"}"#), "no such profile");
    assert_eq!(of(200, "<html>"), "HTTP status 200, but the answer is not understood");
    assert_eq!(of(422, &with_code(201)), "words");
    assert_eq!(of(400, r#"{"errors":[{"code":201}]}"#), "HTTP status 400");
    assert!(of(301, "<html>").contains("api.base_url"));
    assert!(of(407, "<html>").contains("api.proxy"));
    let long = json!({"errors": [{"code": 201, "message": format!("a\u{1b}{}", " word".repeat(500))}]}).to_string();
    assert!(of(400, &long).chars().count() <= 300);
    assert!(of(400, &long).starts_with("a\\u{1b} word"));
    let fault = exchange(Operation::Whoami, false, Err(Fault::Stalled(Duration::from_millis(1500))));
    assert_eq!(message(&outcome(&fault, NOW)), "the server took nothing for 1.5 seconds");
}

#[test]
fn operations_have_names_of_their_own() {
    let names = Operation::ALL.map(Operation::as_str);
    assert_eq!(names, ["upload_image", "upload_file", "create_document", "read_documents", "list_images", "whoami"]);
    assert_eq!(Operation::ALL.into_iter().filter(|operation| operation.is_creating()).collect::<Vec<_>>(), CREATING);
}
