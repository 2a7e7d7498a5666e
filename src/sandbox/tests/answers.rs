//! Answers that no HTTP library would send, as their bytes arrive.

use super::{super::*, *};

/// Sends an upload, and a second one that ends the connection; gives all that comes, as text.
async fn both(bench: &Bench) -> String {
    let body = json!({"data": STANDARD.encode(PNG)}).to_string();
    let first = request("POST", "document_images", body.len(), &body);
    let second = String::from_utf8(first.clone()).unwrap().replacen("host: x", "host: x\r\nconnection: close", 1);
    let mut socket = TcpStream::connect(bench.sandbox.addr()).await.unwrap();
    socket.write_all(&first).await.unwrap();
    while bench.sandbox.ledger().is_empty() {
        tokio::task::yield_now().await;
    }
    // Where the connection has ended already, there is nothing to write to.
    socket.write_all(second.as_bytes()).await.ok();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok();
    String::from_utf8(answer).unwrap()
}

fn first_call(bench: &Bench) -> LedgerEntry {
    bench.sandbox.ledger().remove(0)
}

#[tokio::test]
async fn an_answer_comes_twice_and_the_connection_stays_open() {
    let bench = with_faults(&["upload_image=twice,nth=1"]).await;
    let said = both(&bench).await;
    let id = first_call(&bench).id.unwrap();
    assert_eq!((said.matches("HTTP/1.1 200").count(), said.matches(&id).count()), (3, 2), "{said}");
    assert!(first_call(&bench).answered);
    assert_eq!(bench.sandbox.summary().images, 2);
}

#[tokio::test]
async fn an_interim_answer_goes_ahead() {
    let bench = with_faults(&["upload_image=interim:103,nth=1"]).await;
    let said = both(&bench).await;
    assert!(said.starts_with("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), "{said}");
    assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
    assert!(first_call(&bench).answered);
}

#[tokio::test]
async fn an_answer_that_is_cut_ends_its_connection() {
    for (fault, end) in [("cut-status", "HTTP/1.1 2"), ("cut-head", "content-length: ")] {
        let bench = with_faults(&[&format!("upload_image={fault},nth=1")]).await;
        let said = both(&bench).await;
        assert!(said.lines().last().unwrap().starts_with(end) && !said.ends_with('\n'), "{fault}: {said}");
        let call = first_call(&bench);
        assert_eq!((call.committed, call.status, call.answered), (true, None, false), "{fault}");
    }
}

#[tokio::test]
async fn a_length_is_wrong_by_as_much_as_set() {
    for (fault, answers) in [("length:+7", 1), ("length:-7", 2)] {
        let bench = with_faults(&[&format!("upload_image={fault},nth=1")]).await;
        let said = both(&bench).await;
        assert_eq!(said.matches("HTTP/1.1 200").count(), answers, "{fault}: {said}");
        let (head, rest) = said.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let reported: usize = length.parse().unwrap();
        let came = rest.find('}').unwrap() + 1;
        assert_eq!(reported.abs_diff(came), 7, "{fault}: {said}");
        assert!(first_call(&bench).committed && !first_call(&bench).answered, "{fault}");
    }
}

#[tokio::test]
async fn a_reset_after_the_deed_leaves_no_byte() {
    let bench = with_faults(&["upload_image=reset-after,nth=1"]).await;
    assert_eq!(both(&bench).await, "");
    assert_eq!((first_call(&bench).committed, first_call(&bench).answered), (true, false));
}

#[tokio::test]
async fn bare_answers_and_redirects_come_before_the_deed_or_after_it() {
    for (fault, status, images) in [
        ("bare:409", 409, 0),
        ("bare-after:204", 204, 1),
        ("bare:205", 205, 0),
        ("redirect:307", 307, 0),
        ("redirect-after:303", 303, 1),
    ] {
        let bench = with_faults(&[&format!("upload_image={fault}")]).await;
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let bench = Bench { client, ..bench };
        let answer = bench.upload(PNG).await.unwrap();
        assert_eq!(answer.status(), status, "{fault}");
        assert_eq!(answer.headers().contains_key("location"), fault.starts_with("redirect"), "{fault}");
        assert_eq!(answer.text().await.unwrap().is_empty(), fault.starts_with("bare"), "{fault}");
        assert_eq!(bench.sandbox.summary().images, images, "{fault}");
    }
}
