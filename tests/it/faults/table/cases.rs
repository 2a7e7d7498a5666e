//! The table itself: every way of failing, and how an entry ends that meets it.
//!
//! Written from the API's tables of codes and statuses, apart from the code that is tested.

use passfort_ingest::sandbox::ApiCall;

/// How an entry ends whose first call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// Its document exists once, under the ID that the receipt names.
    Created,
    /// It fails with the API's words; nothing more is sent for it.
    Refused,
    /// The same, but the API had done it all the same.
    RefusedThoughDone,
    /// A person must decide.
    Held,
}

/// One way of failing.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// As the sandbox writes it.
    pub fault: String,
    /// What an entry that meets it comes to.
    pub ends: Ends,
    /// What the receipt quotes where it is refused.
    pub words: String,
}

/// Statuses that mean something to HTTP, and some that only gateways send.
const STATUSES: [u16; 61] = [
    200, 201, 202, 203, 204, 205, 206, 207, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308, 400, 401, 402, 403, 404,
    405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 431, 451,
    499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 520, 522, 599,
];

const REFUSING: [u16; 7] = [101, 102, 103, 105, 106, 201, 202];
const TRANSIENT: [u16; 6] = [301, 302, 303, 401, 402, 501];
/// Not set up, and new.
const UNKNOWN: [u16; 2] = [502, 999];

/// What the sandbox answers where it is set to fail.
const SAID: &str = "the sandbox is set to give this answer";

/// An answer that says nothing but its status: only of a body that is too large, or of another type, it is about the entry.
fn by_bare_status(operation: ApiCall, status: u16) -> Ends {
    match status {
        413..=415 => refused(operation),
        400..=499 => Ends::Created,
        _ => by_status(operation, status),
    }
}

/// An answer of the API's own whose code is not known.
fn by_status(operation: ApiCall, status: u16) -> Ends {
    match status {
        // The key works for everything else, so that the profile's turn comes again; the others are only not now.
        401 | 403 | 407 | 408 | 425 => Ends::Created,
        // Something of the kind is there: the profile is read back.
        409 | 412 if operation == ApiCall::CreateDocument => Ends::Created,
        400..=499 => refused(operation),
        // Redirects, successes without an ID, and errors of a gateway: it may have worked, and is found or sent again.
        _ => Ends::Created,
    }
}

fn by_code(operation: ApiCall, code: u16, status: u16) -> Ends {
    match code {
        _ if REFUSING.contains(&code) => refused(operation),
        _ if TRANSIENT.contains(&code) => Ends::Created,
        _ => by_status(operation, status),
    }
}

/// A read-back that is refused leaves it open whether the document exists.
fn refused(operation: ApiCall) -> Ends {
    if operation == ApiCall::ReadDocuments { Ends::Held } else { Ends::Refused }
}

/// Every case of an operation, except those that stop or slow down the account.
pub(super) fn cases(operation: ApiCall) -> Vec<Case> {
    let reads = operation == ApiCall::ReadDocuments;
    let mut cases = Vec::new();
    let mut add = |fault: String, ends: Ends, words: String| cases.push(Case { fault, ends, words });
    // The slowest come first, so that the others run beside them.
    for fault in ["hang", "hang-after", "slow:400ms", "slow-body:1000"] {
        add(fault.to_owned(), Ends::Created, String::new());
    }
    for fault in ["lost", "cut", "cut-status", "cut-head", "garbled", "html", "html200", "reset-after", "twice"] {
        add(fault.to_owned(), Ends::Created, String::new());
    }
    // The first byte, the head only, the middle, and all of it.
    for bytes in [0, 1, 100, 1_000_000] {
        add(format!("reset-body:{bytes}"), Ends::Created, String::new());
    }
    for difference in [1, 1000, -1, -20, -1_000_000] {
        add(format!("length:{difference:+}"), Ends::Created, String::new());
    }
    for status in [100, 101, 102, 103] {
        add(format!("interim:{status}"), Ends::Created, String::new());
    }
    for status in [300, 301, 302, 303, 305, 307, 308] {
        add(format!("redirect:{status}"), Ends::Created, String::new());
        add(format!("redirect-after:{status}"), Ends::Created, String::new());
    }
    for status in STATUSES {
        let ends = by_bare_status(operation, status);
        add(format!("bare:{status}"), ends, format!("HTTP status {status}"));
        // 204, 205, and 304 have no body.
        if status >= 300 && status != 304 {
            add(format!("status-before:{status}/999"), by_status(operation, status), SAID.to_owned());
        }
        if reads {
            continue;
        }
        // These say that nothing was done; an API that has done it all the same is beyond help.
        let denies = matches!(status, 401 | 403 | 407 | 425);
        if !denies {
            let after = if ends == Ends::Refused { Ends::RefusedThoughDone } else { ends };
            add(format!("bare-after:{status}"), after, format!("HTTP status {status}"));
        }
        if status >= 500 {
            add(format!("status-after:{status}"), Ends::Created, String::new());
        }
    }
    for code in REFUSING.into_iter().chain(TRANSIENT).chain(UNKNOWN) {
        add(format!("errors200:{code}"), by_code(operation, code, 200), SAID.to_owned());
        for status in if reads { &[404, 503][..] } else { &[400, 404, 409, 422, 500, 503] } {
            add(format!("status-before:{status}/{code}"), by_code(operation, code, *status), SAID.to_owned());
        }
    }
    if !reads {
        add("early:413".to_owned(), Ends::Refused, SAID.to_owned());
        add("early:400/999".to_owned(), Ends::Refused, SAID.to_owned());
        add("early:503".to_owned(), Ends::Created, String::new());
    }
    cases
}

/// What asking whose key it is comes to, by the word of its outcome.
pub(super) fn whoami_cases() -> Vec<(String, &'static str)> {
    let mut cases: Vec<(String, &'static str)> = Vec::new();
    let mut add = |fault: String, word| cases.push((fault, word));
    for (fault, word) in [
        ("slow:50ms", "done"),
        ("twice", "done"),
        ("interim:100", "done"),
        ("interim:102", "done"),
        ("interim:103", "done"),
        ("throttle:1", "throttled"),
        ("throttle-retry-after:1", "throttled"),
        ("bare:429", "throttled"),
    ] {
        add(fault.to_owned(), word);
    }
    for fault in ["lost", "cut", "cut-status", "cut-head", "garbled", "html", "html200", "reset-after", "hang"] {
        add(fault.to_owned(), "try_again");
    }
    for fault in ["hang-after", "reset-body:0", "length:+1", "length:-1", "length:-20", "interim:101", "redirect:307"] {
        add(fault.to_owned(), "try_again");
    }
    for status in STATUSES {
        let word = match status {
            401 | 403 => "paused",
            407 | 408 | 425 => "try_again",
            413..=415 => "refused",
            400..=499 => "unattributed",
            _ => "try_again",
        };
        add(format!("bare:{status}"), word);
    }
    for code in REFUSING {
        add(format!("errors200:{code}"), "refused");
    }
    for code in TRANSIENT.into_iter().chain(UNKNOWN) {
        add(format!("errors200:{code}"), "try_again");
    }
    for code in [104, 107, 203, 204] {
        add(format!("errors200:{code}"), "paused");
        add(format!("status-before:400/{code}"), "paused");
        add(format!("status-before:500/{code}"), "paused");
    }
    cases
}
