//! Lists in every shape: what is read of them, and what makes them doubtful.

use serde_json::{Value, json};

use super::*;

fn list(body: &Value) -> Option<DocumentList> {
    match read(body.to_string().as_bytes(), &[], PageHeaders::default()) {
        Parsed::Reply(Reply::Documents(list)) => Some(list),
        _ => None,
    }
}

fn doubts(body: &Value) -> Vec<ListDoubt> {
    list(body).unwrap_or_else(|| panic!("{body} is not understood")).doubts
}

#[test]
fn documents_are_read_with_their_images() {
    let body = json!({"entity_type": "INDIVIDUAL", "documents": [
        {"id": "d1", "category": "C", "document_type": "T", "images": [{"id": "i1", "x": 1}, {"image_id": "i2"}], "errors": [1]},
        {"document_id": "D2", "images": ["i3"], "category": null},
        {"id": "d3", "images": null}, {"id": "d4"}, {"id": "d5", "images": [{"id": 5}, "i5"]}, {"id": "d6", "images": []},
    ]});
    let read = list(&body).unwrap();
    assert_eq!(read.doubts, []);
    let first = StandingDocument {
        id: "d1".to_owned(),
        category: "C".to_owned(),
        document_type: "T".to_owned(),
        image_ids: vec!["i1".to_owned(), "i2".to_owned()],
        unclear_images: false,
        newest_upload: None,
    };
    assert_eq!(read.documents[0], first);
    let others: Vec<(&str, usize, bool)> = read.documents[1..]
        .iter()
        .map(|document| (document.id.as_str(), document.image_ids.len(), document.unclear_images))
        .collect();
    assert_eq!(others, [("D2", 1, false), ("d3", 0, true), ("d4", 0, true), ("d5", 1, true), ("d6", 0, false)]);
}

#[test]
fn a_profile_without_documents_has_an_empty_list() {
    for body in [json!({"documents": null}), json!({"documents": []}), json!({"entity_type": "COMPANY"})] {
        assert_eq!(list(&body), Some(DocumentList::default()), "{body}");
    }
}

#[test]
fn what_is_no_list_is_never_an_empty_one() {
    for body in
        [json!(null), json!("documents"), json!(5), json!({"message": "internal error"}), json!({"status": 200})]
    {
        assert_eq!(list(&body), None, "{body}");
    }
    for cut in [r#"{"documents":[{"id":"d1""#, r#"{"documents":[]} more"#, "", "<html>"] {
        assert_eq!(read(cut.as_bytes(), &[], PageHeaders::default()), Parsed::Unreadable, "{cut}");
    }
    for (body, expected) in [
        (json!({}), ListDoubt::NoList),
        (json!({"items": []}), ListDoubt::NoList),
        (json!({"data": {"documents": [{"id": "d", "images": []}]}}), ListDoubt::NoList),
        (json!({"entity_type": "COMPANY", "data": {"documents": [{"images": []}]}}), ListDoubt::OtherPlace),
        (json!({"documents": [], "identity_documents": [{"images": ["i"]}]}), ListDoubt::OtherPlace),
        (json!({"documents": {"items": []}}), ListDoubt::OtherPlace),
        (json!({"documents": "none"}), ListDoubt::OtherPlace),
        (json!([]), ListDoubt::OtherPlace),
        (json!([{"id": "d", "images": ["i"]}]), ListDoubt::OtherPlace),
        (json!({"documents": [{"images": [{"id": "i1"}]}]}), ListDoubt::Unreadable),
        (json!({"documents": [null]}), ListDoubt::Unreadable),
        (json!({"documents": ["d1"]}), ListDoubt::Unreadable),
    ] {
        assert!(doubts(&body).contains(&expected), "{body}: {:?}", doubts(&body));
    }
    let bare = list(&json!([{"id": "d", "images": ["i"]}])).unwrap();
    assert_eq!(bare.documents.len(), 1, "what is found counts all the same");
    let others =
        json!({"documents": [{"id": "d", "images": ["i"]}], "notes": [{"images": []}], "new": {"x": [1, null]}});
    assert_eq!(doubts(&others), [], "new fields may come");
}

#[test]
fn any_sign_of_more_pages_makes_a_list_doubtful() {
    let with = |field: &str, value: &Value| {
        let mut body = json!({"documents": [{"id": "d1", "images": ["i"]}, {"id": "d2", "images": ["j"]}]});
        body[field] = value.clone();
        body
    };
    for (field, value) in [
        ("next", json!("https://api.example/2")),
        ("next_page", json!(2)),
        ("nextCursor", json!("abc")),
        ("@odata.nextLink", json!("x")),
        ("has_more", json!(true)),
        ("truncated", json!("true")),
        ("total", json!(3)),
        ("total_count", json!("3")),
        ("pages", json!(2)),
        ("page", json!(2)),
        ("page", json!({"total_pages": 2})),
        ("offset", json!(1)),
        ("limit", json!(2)),
        ("links", json!({"self": "x", "next": {"href": "y"}})),
        ("_links", json!([{"rel": "next", "href": "y"}])),
        ("meta", json!({"pagination": {"has_next_page": true}})),
    ] {
        assert_eq!(doubts(&with(field, &value)), [ListDoubt::MorePages], "{field} {value}");
    }
    for (field, value) in [
        ("next", json!(null)),
        ("next", json!("")),
        ("has_more", json!(false)),
        ("total", json!(2)),
        ("total", json!("two")),
        ("pages", json!(1)),
        ("page", json!(1)),
        ("offset", json!(0)),
        ("limit", json!(100)),
        ("links", json!({"self": "x", "next": null})),
        ("meta", json!({"total": 2})),
        ("anything", json!({"next": "x"})),
    ] {
        assert_eq!(doubts(&with(field, &value)), [], "{field} {value}");
    }
}

#[test]
fn an_error_beside_a_list_counts() {
    for body in [r#"{"errors":[{"code":301}],"documents":[]}"#, r#"{"documents":[{"id":"d"}],"errors":{"code":301}}"#] {
        let error = ApiError { code: Some(301), message: None };
        assert_eq!(read(body.as_bytes(), &[], PageHeaders::default()), Parsed::Error(error), "{body}");
    }
}

#[test]
fn what_was_left_out_on_the_way_is_in_the_list() {
    let body = json!({"total": 5, "documents": [{"id": "d", "images": ["i"]}]});
    let doubts = |omitted| match read(body.to_string().as_bytes(), &vec![7; omitted], PageHeaders::default()) {
        Parsed::Reply(Reply::Documents(list)) => list.doubts,
        other => panic!("{other:?}"),
    };
    assert_eq!((doubts(3), doubts(4)), (vec![ListDoubt::MorePages], vec![]));
}

#[test]
fn a_header_that_speaks_of_more_makes_a_list_doubtful() {
    let body = json!({"documents": [{"id": "d", "images": ["i"]}]}).to_string();
    let doubts = |pages| match read(body.as_bytes(), &[], pages) {
        Parsed::Reply(Reply::Documents(list)) => list.doubts,
        other => panic!("{other:?}"),
    };
    let more = [ListDoubt::MorePages];
    assert_eq!(doubts(PageHeaders { has_next: true, total: None }), more);
    assert_eq!(doubts(PageHeaders { has_next: false, total: Some(2) }), more);
    assert_eq!(doubts(PageHeaders { has_next: false, total: Some(1) }), []);
}
