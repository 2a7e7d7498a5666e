//! The ledger of rare states: what a day has come to, as it shows from outside.
//!
//! A long run over all worlds has come to each of them at least once, or it proves less than it says. With
//! `PASSFORT_INGEST_RARE=1` the test fails where one was never reached; `scripts/prove.sh model` asks for that and records
//! the counts in `proofs/rare-states.tsv`.

use std::collections::{BTreeMap, BTreeSet};

use passfort_ingest::sandbox::{ApiCall, LedgerEntry};
use serde_json::Value;

use super::{day::Day, world::World};

/// A state, and whether a day has come to it.
type State = (&'static str, fn(&Trace<'_>) -> bool);

/// Every state that is looked for.
pub(super) const STATES: &[State] = &[
    ("adopted", |day| day.try_of("read_documents", "adopted")),
    ("adopted after other readings", |day| {
        day.any_job(|tries| count(tries, "read_documents", "") > 1 && count(tries, "read_documents", "adopted") > 0)
    }),
    ("adopted after three readings", |day| {
        day.any_job(|tries| count(tries, "read_documents", "") > 2 && count(tries, "read_documents", "adopted") > 0)
    }),
    ("absence proven, sent again", |day| day.any_job(|tries| is_sent_again(tries, 1))),
    ("absence proven twice for one job", |day| day.any_job(|tries| is_sent_again(tries, 2))),
    ("read-back failed, then adopted", |day| {
        day.any_job(|tries| {
            count(tries, "read_documents", "try_again") > 0 && count(tries, "read_documents", "adopted") > 0
        })
    }),
    ("document held", |day| day.said("held document")),
    ("held document stands", |day| day.said("released as created")),
    ("held document does not stand", |day| day.said("released to be sent again")),
    ("file held after a lost answer", |day| day.said("held file")),
    ("upload lost and sent again", |day| {
        day.any_job(|tries| count(tries, "upload_image", "lost") > 0 && count(tries, "upload_image", "done") > 0)
    }),
    ("upload lost three times in a job", |day| day.any_job(|tries| count(tries, "upload_image", "lost") > 2)),
    ("refused by the API", |day| day.try_of("upload_image", "refused")),
    ("document refused by the API", |day| day.try_of("create_document", "refused")),
    ("throttled", |day| day.try_of("", "throttled")),
    ("account paused", |day| day.try_of("", "paused")),
    ("equal entry refused with another", |day| day.receipted("the same was refused as")),
    ("duplicate of an earlier entry", |day| day.receipted("created by job")),
    ("duplicate of an earlier manifest", |day| day.receipted("created before by job")),
    ("reference with other content", |day| day.receipted("has the same reference with other")),
    ("manifest rejected", |day| day.receipted("\"status\":\"rejected\"")),
    ("entry cancelled", |day| day.receipted("\"status\":\"cancelled\"")),
    ("second receipt of a manifest", |day| day.has_second_receipt),
    ("work of an earlier process taken up", |day| day.logged("taken up again where an earlier process left off")),
    ("clock jump noticed", |day| day.logged("the clock jumped")),
    ("manifest taken without its files", |day| day.logged("waited for too long, taken in as it is")),
    ("killed with an upload under way", |day| day.died("call.upload_image")),
    ("killed with a document under way", |day| day.died("call.create_document")),
    ("killed in a read-back", |day| day.died("call.read_documents") || day.died("commit.absent")),
    ("killed between the answer and its commit", |day| day.died("commit.created")),
    ("killed at a claim", |day| day.died("commit.claim")),
    ("killed while taking", |day| day.died("take.")),
    ("killed between receipt and move", |day| {
        day.died("after.publish.rename") || day.died("after.publish.sync") || day.died("before.move")
    }),
    ("killed while moving", |day| day.died("after.move") || day.died("remove.")),
    ("killed while recovering", |day| day.died("commit.recover")),
    ("odd list read", |day| day.met(ApiCall::ReadDocuments, "=list:")),
    ("foreign list read", |day| day.met(ApiCall::ReadDocuments, "=list:foreign")),
    ("paged list read", |day| day.met(ApiCall::ReadDocuments, "=list:page-")),
    ("stale list read", |day| day.met(ApiCall::ReadDocuments, "=stale:")),
    ("late deed after a reading without it", |day| day.has_late_deed_after_reading()),
    ("late image", |day| day.met(ApiCall::UploadImage, "=late")),
    ("error in a 200 after the deed", |day| day.met(ApiCall::CreateDocument, "=errors200-after")),
    ("ID from an erroneous answer in a receipt", |day| day.has_receipt_of("=errors-id")),
    ("document of a late deed in a receipt", |day| day.has_receipt_of("=late")),
    ("lost answer among equal images", |day| {
        day.world == World::Equal && day.any_job(|tries| count(tries, "create_document", "lost") > 0)
    }),
    ("older database refused", |day| day.said("refused an older database")),
    ("lost database refused", |day| day.said("refused a new database")),
    ("copied database refused", |day| day.said("refused a copy of the database")),
    ("second worker by a hard link refused", |day| day.said("refused a hard link")),
    ("second worker by a symbolic link refused", |day| day.said("refused a symbolic link")),
    ("second worker without the lock file refused", |day| day.said("refused the database without its lock file")),
    ("adopt held something", |day| day.said("adopt ended with 1")),
    ("adopt held nothing", |day| day.said("adopt ended with 0")),
    ("gateway's page for a document", |day| day.met(ApiCall::CreateDocument, "=gateway")),
    ("gateway's page for an image", |day| day.met(ApiCall::UploadImage, "=gateway")),
    ("maintenance for a day", |day| day.world == World::Maintenance && day.met_any("=maintenance")),
    ("key quoted", |day| day.met_any("=quote-key")),
    ("person quoted", |day| day.met_any("=quote-person")),
];

/// Where a process dies in the states above.
pub(super) const DEATHS: &[&str] = &[
    "call.upload_image",
    "call.create_document",
    "call.read_documents",
    "commit.absent",
    "commit.created",
    "commit.claim",
    "take.",
    "after.publish.",
    "before.move",
    "after.move",
    "remove.",
    "commit.recover",
];

/// One try that a job had: what was called, and what came of it.
type Try = (String, String);

/// What a day has left behind.
pub(super) struct Trace<'a> {
    world: World,
    /// By job, in their order.
    tries: BTreeMap<i64, Vec<Try>>,
    diary: &'a [String],
    logs: String,
    receipts: String,
    has_second_receipt: bool,
    ledger: Vec<LedgerEntry>,
}

impl Trace<'_> {
    /// The states that the day has come to.
    pub(super) fn states(day: &Day, receipts: &[Value], logs: String) -> BTreeSet<&'static str> {
        let database = rusqlite::Connection::open(day.site.at("state/queue.db")).unwrap();
        let mut tries: BTreeMap<i64, Vec<Try>> = BTreeMap::new();
        let mut rows = database.prepare("SELECT job_id, operation, outcome FROM attempt ORDER BY id").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
        for (job, one) in rows.map(Result::unwrap) {
            tries.entry(job).or_default().push(one);
        }
        let mut manifests = BTreeSet::new();
        let has_second_receipt = receipts.iter().any(|receipt| {
            !manifests.insert((receipt["manifest"].to_string(), receipt["manifest_sha256"].to_string()))
        });
        let receipts = receipts.iter().map(Value::to_string).collect();
        let ledger = day.site.ledger();
        let trace =
            Trace { world: day.policy.world, tries, diary: &day.diary, logs, receipts, has_second_receipt, ledger };
        STATES.iter().filter(|(_, reached)| reached(&trace)).map(|(name, _)| *name).collect()
    }

    fn try_of(&self, operation: &str, outcome: &str) -> bool {
        self.any_job(|tries| count(tries, operation, outcome) > 0)
    }

    fn any_job(&self, holds: impl Fn(&[Try]) -> bool) -> bool {
        self.tries.values().any(|tries| holds(tries))
    }

    fn said(&self, words: &str) -> bool {
        self.diary.iter().any(|line| line.starts_with(words))
    }

    fn died(&self, place: &str) -> bool {
        self.diary.iter().any(|line| line.starts_with("died at") && line.contains(place))
    }

    fn logged(&self, words: &str) -> bool {
        self.logs.contains(words)
    }

    fn receipted(&self, words: &str) -> bool {
        self.receipts.contains(words)
    }

    fn met(&self, operation: ApiCall, fault: &str) -> bool {
        self.ledger.iter().any(|call| call.operation == operation && has_fault(call, fault))
    }

    fn met_any(&self, fault: &str) -> bool {
        self.ledger.iter().any(|call| has_fault(call, fault))
    }

    /// Whether a receipt has what such a call created.
    fn has_receipt_of(&self, fault: &str) -> bool {
        let created = self.ledger.iter().filter(|call| call.operation == ApiCall::CreateDocument && call.committed);
        let mut created = created.filter(|call| has_fault(call, fault)).filter_map(|call| call.id.as_ref());
        created.any(|id| self.receipts.contains(id.as_str()))
    }

    fn has_late_deed_after_reading(&self) -> bool {
        let late =
            self.ledger.iter().filter(|call| call.operation == ApiCall::CreateDocument && has_fault(call, "=late"));
        let mut late = late.filter(|call| call.committed);
        late.any(|late| {
            let began = late.at_ms - i64::try_from(late.took_ms).unwrap();
            self.ledger.iter().any(|call| {
                call.operation == ApiCall::ReadDocuments
                    && call.profile == late.profile
                    && (began..late.at_ms).contains(&call.at_ms)
            })
        })
    }
}

fn has_fault(call: &LedgerEntry, fault: &str) -> bool {
    call.fault.as_ref().is_some_and(|rule| rule.contains(fault))
}

/// How many tries were of this kind; an empty word is any.
fn count(tries: &[Try], operation: &str, outcome: &str) -> usize {
    let is = |word: &str, wanted: &str| wanted.is_empty() || word == wanted;
    tries.iter().filter(|(called, came)| is(called, operation) && is(came, outcome)).count()
}

/// Whether a document was sent again after a lost answer, so often.
fn is_sent_again(tries: &[Try], times: usize) -> bool {
    let mut lost = false;
    let mut again = 0;
    for (operation, outcome) in tries.iter().filter(|(operation, _)| operation == "create_document") {
        again += usize::from(lost && operation == "create_document");
        lost |= outcome == "lost";
    }
    again >= times
}
