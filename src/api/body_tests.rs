//! Tests of the bodies: what a server would get, and what it never gets.

use std::{
    io::{Seek, SeekFrom, Write},
    task::Waker,
};

use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;

use super::*;

const SEED: u64 = 7;

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at.wrapping_mul(31) ^ (at >> 8)) % 256).unwrap()).collect()
}

fn file_of(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn body_of(file: &File, checked: &[u8], head: Head) -> FileBody {
    let mut hash = Xxh3::with_seed(SEED);
    hash.update(checked);
    FileBody::new(file.try_clone().unwrap(), checked.len() as u64, SEED, hash.digest(), head)
}

/// Takes a body as the HTTP layer does: each frame is dropped before the next is requested.
async fn collect(mut body: FileBody) -> Result<Bytes, BodyError> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        whole.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    Ok(whole.into())
}

async fn until_error(mut body: FileBody) -> (Vec<u8>, BodyError) {
    let mut sent = Vec::new();
    loop {
        match body.frame().await.expect("the body ended as if all were well") {
            Ok(frame) => sent.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => return (sent, error),
        }
    }
}

#[tokio::test]
async fn the_body_is_what_a_naive_encoder_gives() {
    let around = |chunk: usize| [chunk - 1, chunk, chunk + 1];
    let lengths = (0..=10).chain(around(CHUNK_BYTES)).chain(around(2 * CHUNK_BYTES)).chain([200_000]);
    for length in lengths {
        let content = content(length);
        let file = file_of(&content);
        for never_inline in [false, true] {
            let mut body = body_of(&file, &content, Head::image(Some(ImageType::Front), None));
            if never_inline {
                body.reader = SourceReader::never_inline(file.try_clone().unwrap(), CHUNK_BYTES + 1);
            }
            let progress = body.progress();
            let expected = format!(r#"{{"image_type":"FRONT","data":"{}"}}"#, STANDARD.encode(&content));
            assert_eq!(body.size_hint().exact(), Some(expected.len() as u64), "{length}");
            let sent = collect(body).await.unwrap();
            assert!(sent == expected.as_bytes(), "the body of {length} bytes is another");
            assert!(progress.is_complete());
            assert_eq!(progress.bytes(), expected.len() as u64);
            assert_eq!(progress.failure(), None);
        }
    }
}

#[tokio::test]
async fn names_are_escaped_and_fields_without_a_value_are_not_sent() {
    let name = "a \"quoted\" \\ name\nwith\u{0} ünïcode \u{2028}.pdf";
    let read = |bytes: Bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    let file = file_of(b"abc");
    let sent = read(collect(body_of(&file, b"abc", Head::file(Some(name), None))).await.unwrap());
    assert_eq!(sent, serde_json::json!({"name": name, "data": "YWJj"}));
    for head in [Head::file(None, None), Head::image(None, None)] {
        assert_eq!(read(collect(body_of(&file, b"abc", head)).await.unwrap()), serde_json::json!({"data": "YWJj"}));
    }
}

#[tokio::test]
async fn a_data_uri_names_the_media_type_and_nothing_else() {
    let file = file_of(b"abc");
    for (media_type, expected) in
        [("image/png", "data:image/png;base64,YWJj"), ("image/\"evil", "data:application/octet-stream;base64,YWJj")]
    {
        let body = body_of(&file, b"abc", Head::image(None, Some(media_type)));
        let length = body.size_hint().exact().unwrap();
        let sent = collect(body).await.unwrap();
        assert_eq!(sent.len() as u64, length);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&sent).unwrap()["data"], expected);
    }
}

#[tokio::test]
async fn a_changed_file_is_never_sent_completely() {
    let checked = content(3 * CHUNK_BYTES);
    let mut flipped = checked.clone();
    flipped[CHUNK_BYTES] ^= 1;
    let mut flipped_late = checked.clone();
    *flipped_late.last_mut().unwrap() ^= 1;
    let mut longer = checked.clone();
    longer.push(0);
    let shorter = &checked[..checked.len() - 1];
    for (what, now) in [
        ("flipped", &flipped[..]),
        ("flipped late", &flipped_late),
        ("longer", &longer),
        ("shorter", shorter),
        ("empty", &[]),
    ] {
        let body = body_of(&file_of(now), &checked, Head::image(None, None));
        let (progress, length) = (body.progress(), body.size_hint().exact().unwrap());
        let (sent, error) = until_error(body).await;
        assert!(matches!(error, BodyError::Changed), "{what}: {error}");
        assert!((sent.len() as u64) < length, "{what}");
        assert!(!sent.ends_with(b"\"}"), "{what}");
        assert!(!progress.is_complete(), "{what}");
        assert_eq!(progress.failure(), Some(Failure::Changed), "{what}");
    }
}

#[tokio::test]
async fn a_change_while_the_body_is_sent_is_seen() {
    let checked = content(3 * CHUNK_BYTES);
    let mut file = file_of(&checked);
    let mut body = body_of(&file, &checked, Head::image(None, None));
    assert!(body.frame().await.unwrap().is_ok());
    file.seek(SeekFrom::Start(2 * CHUNK_BYTES as u64)).unwrap();
    file.write_all(b"other").unwrap();
    assert!(matches!(until_error(body).await.1, BodyError::Changed));
}

#[tokio::test]
async fn an_unreadable_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let body = FileBody::new(File::open(folder.path()).unwrap(), 10, 0, 0, Head::image(None, None));
    let progress = body.progress();
    assert!(matches!(until_error(body).await.1, BodyError::Unreadable(_)));
    assert!(matches!(progress.failure(), Some(Failure::Unreadable(_))));
}

#[tokio::test]
async fn a_cancelled_body_gives_nothing_more() {
    let checked = content(3 * CHUNK_BYTES);
    let mut body = body_of(&file_of(&checked), &checked, Head::image(None, None));
    let progress = body.progress();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    progress.cancel();
    let (sent, error) = until_error(body).await;
    assert!(matches!(error, BodyError::Cancelled));
    assert!(sent.is_empty());
    assert_eq!(progress.bytes(), first.len() as u64);
}

#[tokio::test]
async fn a_held_body_waits_and_ends_when_it_is_cancelled() {
    let mut body = body_of(&file_of(b"abc"), b"abc", Head::image(None, None));
    let progress = body.progress();
    progress.hold();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut body).poll_frame(&mut context).is_pending());
    progress.cancel();
    assert!(matches!(until_error(body).await.1, BodyError::Cancelled));
}

#[tokio::test]
async fn frames_that_were_let_go_are_used_again() {
    let checked = content(4 * CHUNK_BYTES);
    let mut body = body_of(&file_of(&checked), &checked, Head::image(None, None));
    let mut places = Vec::new();
    for _ in 0..3 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        places.push(frame.as_ptr());
    }
    // The first frame has the head in it and so may be larger; the others share one place.
    assert_eq!(places[1], places[2]);
}

#[tokio::test]
async fn plain_bytes_are_complete_when_they_were_taken() {
    let body = BytesBody::new("{}");
    let progress = body.progress();
    assert_eq!(body.size_hint().exact(), Some(2));
    assert!(!progress.is_complete());
    assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
    assert!(progress.is_complete());

    let body = BytesBody::new("{}");
    body.progress().cancel();
    assert!(body.collect().await.is_err());
}
