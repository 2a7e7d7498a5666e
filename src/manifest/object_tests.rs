//! Tests of the rules for one JSON entry.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{entry::ImageType, manifest::Reading, warning_kind::WarningKind};

const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";

fn read(value: Value, kind: Option<EntryKind>) -> Reading {
    let limits = ManifestBounds { max_images: 3, ..ManifestBounds::default() };
    let place =
        Place { index: 7, line: Some(9), kind, profile_id: None, others_have_references: false, limits: &limits };
    let text = value.to_string();
    entry(ParsedValue::read(&mut serde_json::Deserializer::from_str(&text), 32).unwrap(), &place)
}

fn document_with(field: &str, value: Value) -> Value {
    let mut document = json!({
        "profile_id": PROFILE, "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT",
        "images": [{ "path": "a.png" }]
    });
    document[field] = value;
    document
}

#[track_caller]
fn problems(value: Value, kind: EntryKind) -> Vec<Problem> {
    match read(value, Some(kind)) {
        Reading::Invalid { index: 7, line: Some(9), kind: reported, problems, .. } if reported == kind => problems,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn the_problem(value: Value, kind: EntryKind) -> (String, String, String) {
    let mut problems = problems(value, kind);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let Problem { field, reason, cure, .. } = problems.remove(0);
    (field.unwrap_or_default(), reason, cure)
}

#[test]
fn a_document_with_all_its_fields_is_read() {
    let value = json!({
        "profile_id": PROFILE.to_uppercase(), "reference": "r", "category": "SUPPORTING", "document_type": "TAX",
        "replace": true, "extracted_data": { "number": "X1" },
        "images": [{ "path": "./a//b.png", "image_type": "BACK", "sha256": "AB".repeat(32), "bytes": 12 }]
    });
    let Reading::Entry { entry, warnings, line: Some(9), .. } = read(value, None) else { panic!() };
    let kinds: Vec<_> = warnings.iter().filter_map(|warning| warning.kind).collect();
    assert_eq!(kinds, [WarningKind::BackWithoutFront]);
    assert_eq!(entry.profile_id.as_str(), PROFILE);
    assert_eq!((entry.index, entry.reference.as_deref(), entry.replace), (7, Some("r"), true));
    let Content::Document { category, document_type, extracted_data, images } = entry.content else { panic!() };
    assert_eq!((category.as_str(), document_type.as_str()), ("SUPPORTING", "TAX"));
    assert_eq!(extracted_data.unwrap().as_str(), r#"{"number":"X1"}"#);
    assert_eq!(images[0].source.path.as_str(), "a/b.png");
    assert_eq!(images[0].image_type, Some(ImageType::Back));
    assert_eq!(images[0].source.declared_bytes, Some(12));
    assert_eq!(images[0].source.declared_sha256.unwrap().to_string(), "ab".repeat(32));
}

#[test]
fn what_a_list_of_failed_entries_says_of_an_entry_is_passed_over() {
    for (field, value) in [("code", json!("failed")), ("reason", json!(["x"])), ("cure", Value::Null)] {
        let Reading::Entry { warnings, .. } = read(document_with(field, value.clone()), None) else {
            panic!("{field}")
        };
        assert_eq!(warnings, []);
        let file = json!({ "profile_id": PROFILE, "path": "a.png", field: value });
        assert!(matches!(read(file, None), Reading::Entry { .. }), "{field}");
    }
    let document = document_with("images", json!([{ "path": "a.png", "code": "x" }]));
    assert_eq!(the_problem(document, EntryKind::Document).0, "images[0].code");
}

#[test]
fn every_problem_of_an_entry_is_named_at_once() {
    let value = json!({
        "profile_id": "x", "reference": "", "category": "passport", "documenttype": "PASSPORT", "replace": "yes",
        "extracted_data": [],
        "images": [{ "path": "../a" }, 5, { "image_type": "front", "sha256": "0", "bytes": "12", "sha265": 1 }]
    });
    let fields: Vec<_> =
        problems(value, EntryKind::Document).into_iter().map(|problem| problem.field.unwrap()).collect();
    for field in [
        "profile_id",
        "reference",
        "category",
        "document_type",
        "documenttype",
        "replace",
        "extracted_data",
        "images[0].path",
        "images[1]",
        "images[2].path",
        "images[2].image_type",
        "images[2].sha256",
        "images[2].bytes",
        "images[2].sha265",
    ] {
        assert_eq!(fields.iter().filter(|named| *named == field).count(), 1, "{field} in {fields:?}");
    }
    assert_eq!(fields.len(), 14, "{fields:?}");
}

#[test]
fn an_unknown_field_names_the_nearest_known_one() {
    let (field, reason, cure) = the_problem(document_with("reference_", json!("r")), EntryKind::Document);
    assert_eq!(field, "reference_");
    assert_eq!(reason, r#"a document has no field "reference_""#);
    assert_eq!(cure, "if reference is meant, write that, else remove it");
    let (_, _, cure) =
        the_problem(document_with("images", json!([{ "path": "a", "image-type": "FRONT" }])), EntryKind::Document);
    assert_eq!(cure, "if image_type is meant, write that, else remove it");
    let (_, _, cure) = the_problem(document_with("zzz", json!(0)), EntryKind::Document);
    assert!(cure.contains("profile_id, reference, category"), "{cure}");
}

#[test]
fn images_must_be_some_but_not_too_many() {
    let many = json!([{ "path": "1" }, { "path": "2" }, { "path": "3" }]);
    assert!(matches!(read(document_with("images", many), None), Reading::Entry { .. }));
    let more = json!([{ "path": "1" }, { "path": "2" }, { "path": "3" }, { "path": "4" }]);
    for (images, word) in
        [(json!([]), "no images"), (more, "4 images"), (json!(null), "missing"), (json!("a.png"), "a text")]
    {
        let (field, reason, _) = the_problem(document_with("images", images), EntryKind::Document);
        assert!(field == "images" && reason.contains(word), "{reason}");
    }
}

#[test]
fn the_same_path_twice_is_only_a_warning() {
    let images = json!([{ "path": "a.png" }, { "path": "./a.png" }]);
    let Reading::Entry { warnings, .. } = read(document_with("images", images), None) else { panic!() };
    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].field.as_deref(), warnings[0].path.as_deref()), (Some("images[1].path"), Some("a.png")));
}

#[test]
fn wrong_kinds_of_values_are_refused_with_a_cure() {
    let file = |field: &str, value: Value| {
        let mut file = json!({ "profile_id": PROFILE, "path": "a.pdf" });
        file[field] = value;
        the_problem(file, EntryKind::File)
    };
    assert_eq!(file("bytes", json!("12")).2, "write the number without quotes");
    assert!(file("bytes", json!(-1)).1.contains("-1 is not"));
    assert!(file("bytes", json!(1.5)).1.contains("1.5 is not"));
    assert!(file("bytes", json!([])).1.contains("a list is not"));
    assert_eq!(file("name", json!(3)).1, "name is a number, not a text");
    assert_eq!(file("path", json!({})).1, "path is an object, not a text");
    assert_eq!(file("profile_id", json!(17)).1, "profile_id is a number, not a text");
    assert_eq!(file("replace", json!("true")).2, "write true or false without quotes");
    assert_eq!(file("name", json!("a/b")).0, "name");
    assert_eq!(file("category", json!("SUPPORTING")).0, "category");
}

#[test]
fn extracted_data_has_a_limit() {
    let fits = json!({ "a": "x".repeat(MAX_EXTRACTED_BYTES - 8) });
    assert!(matches!(read(document_with("extracted_data", fits), None), Reading::Entry { .. }));
    let large = json!({ "a": "x".repeat(MAX_EXTRACTED_BYTES - 7) });
    assert_eq!(the_problem(document_with("extracted_data", large), EntryKind::Document).0, "extracted_data");
}

#[test]
fn null_counts_as_not_given() {
    let value = json!({ "profile_id": PROFILE, "path": "a.pdf", "name": null, "bytes": null, "sha256": null,
        "reference": null, "replace": null });
    let Reading::Entry { entry, .. } = read(value, None) else { panic!() };
    assert_eq!((entry.reference, entry.replace), (None, false));
    let value = json!({ "profile_id": null, "path": null });
    assert_eq!(problems(value, EntryKind::File).len(), 2);
}

#[test]
fn an_invalid_entry_keeps_what_it_is_known_by() {
    let value = json!({ "profile_id": PROFILE, "reference": "r-1", "path": "/etc/passwd" });
    let Reading::Invalid { reference, profile_id, .. } = read(value, None) else { panic!() };
    assert_eq!((reference.as_deref(), profile_id.as_deref()), (Some("r-1"), Some(PROFILE)));
}

#[test]
fn reasons_quote_little_and_nothing_that_a_terminal_obeys() {
    let long = "\u{1b}[2J\0".repeat(10_000);
    let mut value = json!({
        "profile_id": long, "reference": long, "category": long, "document_type": long,
        "images": [{ "path": long, "image_type": long, "sha256": long, "bytes": long }]
    });
    value[&long] = json!(1);
    for problem in problems(value, EntryKind::Document) {
        for text in [problem.reason, problem.cure, problem.field.unwrap()] {
            assert!(text.len() < 700 && !text.contains(char::is_control), "{text}");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop_oneof![
        proptest::sample::select([DOCUMENT_FIELDS, FILE_FIELDS].concat()).prop_map(str::to_owned),
        proptest::sample::select(IMAGE_FIELDS.to_vec()).prop_map(str::to_owned),
        ".{0,8}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(PROFILE)),
        Just(json!("PASSPORT")),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(keys.clone(), inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_gives_an_entry_or_says_why_not(value in any_json(), kind in 0..3_u8) {
        let kind = [None, Some(EntryKind::Document), Some(EntryKind::File)][usize::from(kind)];
        match read(value, kind) {
            Reading::Entry { warnings, .. } => prop_assert!(warnings.iter().all(|warning| !warning.is_error())),
            Reading::Invalid { problems, .. } => prop_assert!(problems.iter().any(Problem::is_error)),
        }
    }
}
