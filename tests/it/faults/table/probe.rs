//! Asking whose key it is, the probe of key and network, with every way of failing.
//!
//! By the worker's own client over a socket: a stopped account waits for seconds between two probes, which the table has
//! no time for. What is not an answer to the probe must leave nothing behind on its connection either.

use std::time::Duration;

use passfort_ingest::{
    api::{Client, ClientSettings},
    clock::Timestamp,
    entry::ProfileId,
    outcome::{DocumentList, Outcome, Reply, outcome},
    sandbox::{self, Options},
};

use super::cases::whoami_cases;
use crate::support::profile;

#[tokio::test]
async fn probes_of_the_key() {
    let sandbox = sandbox::start(Options::default()).await.unwrap();
    let client = Client::new(&ClientSettings {
        base_url: sandbox.base_url(),
        key: "test".to_owned().into(),
        connect_timeout: Duration::from_millis(500),
        stall_timeout: Duration::from_secs(10),
        response_timeout: Duration::from_millis(500),
        ca_file: None,
        proxy: None,
        data_uri: false,
        max_connections_hint: 1,
    })
    .unwrap();
    let profile = ProfileId::parse(&profile(1)).unwrap();
    let mut wrong = Vec::new();
    let cases = whoami_cases();
    for (fault, expected) in &cases {
        sandbox.set_faults(vec![format!("whoami={fault},nth=1").parse().unwrap()]);
        let now = Timestamp::now();
        let became = outcome(&client.whoami().await, now);
        if became.as_str() != *expected {
            wrong.push(format!("whoami={fault}: {became:?}, and not {expected}"));
        }
        let next = outcome(&client.read_documents(&profile, None).await.exchange, now);
        if next != Outcome::Done(Reply::Documents(DocumentList::default())) {
            wrong.push(format!("whoami={fault}: the call behind it came to {next:?}"));
        }
        let again = outcome(&client.whoami().await, now);
        if !matches!(&again, Outcome::Done(Reply::Whoami { auditee: Some(name), .. }) if name == "Sandbox") {
            wrong.push(format!("whoami={fault}: the next one came to {again:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let ledger = sandbox.ledger();
    assert_eq!(ledger.iter().filter(|call| call.fault.is_some()).count(), cases.len(), "every fault happened");
    assert!(ledger.iter().all(|call| call.operation != sandbox::ApiCall::Unknown), "no redirect is followed");
}
