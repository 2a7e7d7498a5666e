//! Every rule as a table: what a list shows, what the queue knows, and what follows.

use super::*;
use crate::outcome::ListDoubt;

const SECOND: Duration = Duration::from_secs(1);

const BOUNDS: AbsenceBounds = AbsenceBounds {
    absent_after: Duration::from_secs(70),
    request_lives: Duration::from_secs(60),
    list_lag: Duration::from_secs(10),
};

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

/// A listed document of the sought category and type.
fn document(id: &str, images: &[&str]) -> StandingDocument {
    StandingDocument {
        id: id.to_owned(),
        category: "PROOF_OF_IDENTITY".to_owned(),
        document_type: "PASSPORT".to_owned(),
        image_ids: ids(images),
        unclear_images: false,
        newest_upload: None,
    }
}

fn known(id: &str, images: &[&str], seconds: u64) -> KnownDocument {
    KnownDocument { id: id.to_owned(), image_ids: ids(images), age: Duration::from_secs(seconds) }
}

/// A case, for a document with the images `a` and `b`, by default long beyond the bound, on a profile where the queue
/// created the document `k` with the image `i`, which the list shows.
struct Case {
    sought: SoughtDocument,
    list: DocumentList,
    known: Vec<KnownDocument>,
    taken: Vec<String>,
    is_foreign: bool,
    control: Control,
    ended_for: Option<Duration>,
    doubts: u32,
    observed: Observed,
}

fn case(change: impl FnOnce(&mut Case)) -> Case {
    let mut case = Case {
        sought: SoughtDocument {
            category: "PROOF_OF_IDENTITY".to_owned(),
            document_type: "PASSPORT".to_owned(),
            image_ids: ids(&["a", "b"]),
            answered_id: None,
        },
        list: DocumentList { documents: vec![document("k", &["i"])], ..DocumentList::default() },
        known: vec![known("k", &["i"], 1000)],
        taken: Vec::new(),
        is_foreign: false,
        control: Control::Unavailable,
        ended_for: Some(BOUNDS.absent_after),
        doubts: 0,
        observed: Observed::default(),
    };
    change(&mut case);
    case
}

/// One on a profile where the queue knows no document, and the list shows none.
fn fresh(control: Control) -> Case {
    case(|case| (case.control, case.known, case.list.documents) = (control, Vec::new(), Vec::new()))
}

/// With one more listed document.
fn listed(document: StandingDocument) -> Case {
    case(|case| case.list.documents.push(document))
}

fn concluded(case: &Case) -> Conclusion {
    decide(&ListReading {
        sought: &case.sought,
        list: &case.list,
        known: &case.known,
        taken: &case.taken,
        is_foreign: case.is_foreign,
        control: &case.control,
        ended_for: case.ended_for,
        doubts: case.doubts,
        bounds: &BOUNDS,
        observed: case.observed,
    })
}

/// In one word; of a doubt, also a part of what is said.
fn word(case: &Case) -> String {
    match concluded(case) {
        Conclusion::Created(id) => format!("created {id}"),
        Conclusion::Absent => "absent".to_owned(),
        Conclusion::NeedsControl => "needs control".to_owned(),
        Conclusion::Wait { doubt: None } => "wait".to_owned(),
        Conclusion::Wait { doubt: Some(_) } => "doubt".to_owned(),
        Conclusion::Held { .. } => "held".to_owned(),
    }
}

#[test]
fn a_document_with_exactly_its_images_is_its_own_in_any_list_and_at_any_time() {
    let spelled = |a: &str, b: &str| {
        let mut case = listed(document("ours", &[a, b]));
        case.sought.image_ids = ids(&["9A92B3C5-0f9a-4b1c-8a1e-2f6a2d9d7c11", "b"]);
        case
    };
    for (what, case) in [
        ("in another order", listed(document("ours", &["b", "a"]))),
        ("in another letter case", listed(document("ours", &["A", "B"]))),
        ("as urn", spelled("urn:uuid:9a92b3c5-0f9a-4b1c-8a1e-2f6a2d9d7c11", "b")),
        ("without dashes", spelled("b", "9A92B3C50F9A4B1C8A1E2F6A2D9D7C11")),
        ("in braces", spelled("{9a92b3c5-0f9a-4b1c-8a1e-2f6a2d9d7c11}", "b")),
        ("without category and type", {
            listed(StandingDocument {
                category: String::new(),
                document_type: String::new(),
                ..document("ours", &["a", "b"])
            })
        }),
        (
            "at once",
            case(|case| {
                case.ended_for = Some(Duration::ZERO);
                case.list.documents.push(document("ours", &["a", "b"]));
            }),
        ),
        (
            "in a page of several, which lacks another",
            case(|case| {
                case.list = DocumentList {
                    documents: vec![document("ours", &["a", "b"])],
                    doubts: vec![ListDoubt::MorePages],
                    ..DocumentList::default()
                };
            }),
        ),
        (
            "the one that the answer named",
            case(|case| {
                case.sought.answered_id = Some("OURS".to_owned());
                case.list.documents.extend([document("twice", &["a", "b"]), document("ours", &["a", "b"])]);
            }),
        ),
    ] {
        assert_eq!(word(&case), "created ours", "{what}");
    }
}

#[test]
fn only_a_list_that_proves_it_says_that_a_document_is_absent() {
    let doubt = |doubt| case(|case| case.list.doubts.push(doubt));
    let mut cases = vec![
        ("the list shows what must be there", case(|_| ()), "absent"),
        ("before the bound", case(|case| case.ended_for = Some(BOUNDS.absent_after - SECOND)), "wait"),
        ("the clock was moved", case(|case| case.ended_for = None), "wait"),
        (
            "before the bound, and odd",
            case(|case| {
                (case.ended_for, case.list.documents) = (Some(SECOND), Vec::new());
            }),
            "wait",
        ),
        ("no list", doubt(ListDoubt::NoList), "doubt"),
        ("elsewhere", doubt(ListDoubt::OtherPlace), "doubt"),
        ("one page", doubt(ListDoubt::MorePages), "doubt"),
        ("unreadable elements", doubt(ListDoubt::Unreadable), "doubt"),
        ("an empty list where one must be", case(|case| case.list.documents.clear()), "doubt"),
        ("that of another profile", case(|case| case.is_foreign = true), "doubt"),
        (
            "a known document is so young that lists may lack it",
            case(|case| {
                case.known.push(known("young", &["j"], 9));
            }),
            "wait",
        ),
        ("a known document is old enough", case(|case| case.known.push(known("old", &["j"], 10))), "doubt"),
        (
            "the known document is spelled otherwise",
            case(|case| {
                case.known = vec![known("K", &["I"], 1000)];
            }),
            "absent",
        ),
        ("images have other IDs in the list", case(|case| case.known[0].image_ids = ids(&["other"])), "doubt"),
        (
            "of one known document only",
            case(|case| {
                case.known.push(known("l", &["other"], 1000));
                case.list.documents.push(document("l", &["j"]));
            }),
            "absent",
        ),
        ("its images' IDs are not known", case(|case| case.sought.image_ids.clear()), "doubt"),
    ];
    for (what, similar, expected) in [
        ("one image less", document("x", &["a"]), "doubt"),
        ("one image more", document("x", &["a", "b", "c"]), "doubt"),
        ("images left out", StandingDocument { unclear_images: true, ..document("x", &[]) }, "doubt"),
        ("no images", document("x", &[]), "doubt"),
        ("an unreadable image", StandingDocument { unclear_images: true, ..document("x", &["z"]) }, "doubt"),
        (
            "no images, of another type",
            StandingDocument { document_type: "VISARD".into(), ..document("x", &[]) },
            "absent",
        ),
        ("another category", StandingDocument { category: "SUPPORTING".into(), ..document("x", &["a", "b"]) }, "doubt"),
        ("another type", StandingDocument { document_type: "VISARD".into(), ..document("x", &["a", "b"]) }, "doubt"),
        ("somebody else's", document("x", &["z"]), "absent"),
    ] {
        cases.push((what, listed(similar), expected));
    }
    for (what, case, expected) in cases {
        assert_eq!(word(&case), expected, "{what}");
    }
}

#[test]
fn a_document_of_another_job_is_never_taken() {
    // An API may give the same image of two entries one ID.
    let others = |case: &mut Case| {
        case.taken = ids(&["THEIRS"]);
        case.list.documents.push(document("theirs", &["a", "b"]));
    };
    assert_eq!(word(&case(others)), "absent", "the other job's, although it has the same images");
    assert_eq!(word(&case(|case| case.known[0].image_ids = ids(&["a", "b"]))), "doubt");
    assert_eq!(
        word(&case(|case| {
            others(case);
            case.list.documents.push(document("ours", &["a", "b"]));
        })),
        "created ours"
    );
}

#[test]
fn an_id_that_an_answer_named_must_be_explained() {
    let given = |case: &mut Case| case.sought.answered_id = Some("given".to_owned());
    assert_eq!(word(&case(given)), "doubt", "the list does not show it");
    assert_eq!(
        word(&case(|case| {
            given(case);
            case.list.documents.push(document("given", &["z"]));
        })),
        "doubt",
        "it has other images"
    );
    assert_eq!(
        word(&case(|case| {
            given(case);
            case.ended_for = Some(SECOND);
        })),
        "wait"
    );
}

#[test]
fn a_profile_without_known_documents_needs_another_ones_list() {
    for (control, expected) in [
        (Control::Unread, "needs control"),
        (Control::Shown, "absent"),
        (Control::NotShown("a stale list".to_owned()), "doubt"),
        (Control::Unavailable, "doubt"),
    ] {
        assert_eq!(word(&fresh(control)), expected);
    }
    let mut early = fresh(Control::Unread);
    early.ended_for = Some(SECOND);
    assert_eq!(word(&early), "wait", "read after the bound");
}

#[test]
fn a_control_proves_only_by_showing_what_is_known() {
    let there = known("k", &["i"], 1000);
    let list = |documents| DocumentList { documents, ..DocumentList::default() };
    assert_eq!(shows(&list(vec![document("K", &["I"])]), &there), Ok(()));
    for odd in [
        list(vec![]),
        list(vec![document("k", &["z"])]),
        list(vec![document("z", &["i"])]),
        DocumentList {
            documents: vec![document("k", &["i"])],
            doubts: vec![ListDoubt::MorePages],
            ..DocumentList::default()
        },
    ] {
        assert!(shows(&odd, &there).is_err(), "{odd:?}");
    }
}

#[test]
fn the_third_doubtful_reading_is_left_to_a_person_with_what_was_seen_and_the_cure() {
    let doubtful = |doubts| {
        case(|case| {
            case.list.documents.clear();
            case.doubts = doubts;
        })
    };
    assert_eq!([0, 1, 2, 9].map(|doubts| word(&doubtful(doubts))), ["doubt", "doubt", "held", "held"]);
    let Conclusion::Held { why, cure } = concluded(&doubtful(2)) else { panic!("not held") };
    assert!(why.contains("does not show the document k"), "{why}");
    assert!(cure.contains("verify --accept-missing"), "{cure}");
    assert_eq!(word(&case(|case| case.doubts = 2)), "absent", "a list that proves it still does");
}

#[test]
fn beyond_a_bound_that_does_not_hold_nothing_is_sent_in_doubt() {
    for (late, lag, expected) in [(70, 10, "absent"), (71, 0, "held"), (0, 11, "held")] {
        let observed = Observed { late: Duration::from_secs(late), lag: Duration::from_secs(lag) };
        assert_eq!(word(&case(|case| case.observed = observed)), expected, "{late} s, {lag} s");
        let mut unread = fresh(Control::Unread);
        unread.observed = observed;
        assert_eq!(word(&unread), if expected == "held" { "held" } else { "needs control" }, "no call for nothing");
    }
    let broken = Observed { late: Duration::from_millis(70_001), lag: Duration::ZERO };
    let Conclusion::Held { why, cure } = concluded(&case(|case| case.observed = broken)) else { panic!("not held") };
    assert!(why.contains("71 s") && why.contains("70 s") && cure.contains("api.request_lives"), "{why}; {cure}");
    let found = case(|case| {
        case.observed = broken;
        case.list.documents.push(document("ours", &["a", "b"]));
    });
    assert_eq!(word(&found), "created ours");
}
