//! Every operation with every way of failing: each entry meets one fault on its first call, then all is well.
//!
//! The stand-in's own ledger shows whether each document exists exactly once, whether what has an ID was sent again,
//! and whether anything was sent after a refusal. How each entry must end is in [`cases`].

#[cfg(test)]
mod account;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod probe;

use std::collections::{BTreeMap, BTreeSet};

use passfort_ingest::sandbox::{ApiCall, FaultRule, LedgerEntry};
use serde_json::{Value, json};

use self::cases::{Case, Ends, cases};
use crate::support::{Builder, Finished, Format, Site, counted_leftovers, entry, image, padded, profile, sha256};

/// After each entry that meets a fault come this many that meet none: else it would be an outage, which stops
/// everything.
const CALM: usize = 2;
/// Where the answer to the creation has to be lost first, more are needed; one of them has it lost too, and is read well.
const CALM_READINGS: usize = 4;

/// An entry with what becomes of it.
struct Row {
    number: u32,
    case: Option<Case>,
    /// Its manifest is never settled, because some of its entries are held.
    unsettled: bool,
}

impl Row {
    fn ends(&self) -> Ends {
        self.case.as_ref().map_or(Ends::Created, |case| case.ends)
    }

    fn name(&self) -> String {
        self.case.as_ref().map_or_else(|| format!("the calm entry {}", self.number), |case| case.fault.clone())
    }
}

/// A run of the program in which the first call of each entry goes wrong in its own way.
struct Table {
    operation: ApiCall,
    site: Site,
    rows: Vec<Row>,
    finished: Finished,
}

impl Table {
    fn run(operation: ApiCall) -> Self {
        let reads = operation == ApiCall::ReadDocuments;
        let calm = if reads { CALM_READINGS } else { CALM };
        let wanted = cases(operation).into_iter().flat_map(|case| {
            let unsettled = case.ends == Ends::Held;
            std::iter::once(Some(case)).chain(std::iter::repeat_n(None, calm)).map(move |case| (case, unsettled))
        });
        let rows: Vec<Row> =
            (0..).zip(wanted).map(|(number, (case, unsettled))| Row { number, case, unsettled }).collect();
        let builder = Builder {
            api: "connect_timeout = '2s'\nresponse_timeout = '3s'".to_owned(),
            more: "[workers]\nmax_in_flight = 12".to_owned(),
            ..Builder::default()
        };
        let site = builder.build();
        let rules = rows.iter().flat_map(|row| {
            let rule = |operation: &str, fault: &str| {
                format!("{operation}={fault},nth=1,profile={}", profile(row.number)).parse::<FaultRule>().unwrap()
            };
            let is_read = reads && usize::try_from(row.number).unwrap() % (CALM_READINGS + 1) < 2;
            let before = is_read.then(|| rule("create_document", "lost"));
            before.into_iter().chain(row.case.as_ref().map(|case| rule(operation.as_str(), &case.fault)))
        });
        site.sandbox().set_faults(rules.collect());
        for (name, unsettled) in [("held", true), ("all", false)] {
            let of_manifest = rows.iter().filter(|row| row.unsettled == unsettled);
            let entries: Vec<Value> = of_manifest.map(|row| drop_entry(&site, operation, row.number)).collect();
            if !entries.is_empty() {
                let kind = if operation == ApiCall::UploadFile { "files" } else { "documents" };
                site.put(&format!("{name}.manifest.json"), json!({ "version": 1, kind: entries }).to_string());
            }
        }
        let finished = site.run_once();
        Self { operation, site, rows, finished }
    }

    /// The calls of each profile, in the order in which they took effect.
    fn calls(&self) -> BTreeMap<String, Vec<LedgerEntry>> {
        let mut calls: BTreeMap<String, Vec<LedgerEntry>> = BTreeMap::new();
        for call in self.site.ledger() {
            calls.entry(call.profile.clone().unwrap_or_default()).or_default().push(call);
        }
        calls
    }

    /// Fails with every case that went wrong.
    fn check(&self) {
        let receipt = self.site.receipt("all.manifest.json");
        let of_reference: BTreeMap<&str, &Value> = receipt["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (entry["reference"].as_str().unwrap(), entry))
            .collect();
        let calls = self.calls();
        let mut wrong: Vec<String> = Vec::new();
        for row in &self.rows {
            let of_profile = calls.get(&profile(row.number)).map(Vec::as_slice).unwrap_or_default();
            let reported = of_reference.get(row.number.to_string().as_str()).copied();
            if let Err(why) = self.check_row(row, reported, of_profile) {
                wrong.push(format!("{}={}: {why}\n    {}", self.operation, row.name(), shown(of_profile, reported)));
            }
        }
        let strange = self
            .site
            .ledger()
            .into_iter()
            .filter(|call| matches!(call.operation, ApiCall::Unknown | ApiCall::ForbiddenReplace) || !call.key_ok);
        wrong.extend(strange.map(|call| format!("a call that nobody asked for: {call:?}")));
        assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), self.rows.len(), wrong.join("\n"));
        let summary = self.site.summary();
        assert_eq!((summary.doubled, summary.doubled_ids), (0, 0), "{summary}");
        let faults = self.rows.iter().filter(|row| row.case.is_some()).count();
        println!("{}: {faults} faults in {:?}", self.operation, self.finished.took);
    }

    fn check_row(&self, row: &Row, reported: Option<&Value>, calls: &[LedgerEntry]) -> Result<(), String> {
        let faulty = calls.iter().position(|call| {
            call.operation == self.operation && row.case.as_ref().is_some_and(|case| is_of(call, &case.fault))
        });
        if row.case.is_some() && faulty.is_none() {
            return Err("the fault never happened".to_owned());
        }
        check_uploads(calls)?;
        let documents = calls.iter().filter(|call| call.operation == ApiCall::CreateDocument && call.committed).count();
        let status = reported.map(|reported| reported["status"].as_str().unwrap_or_default());
        match row.ends() {
            Ends::Created if row.unsettled && documents == 1 => Ok(()),
            Ends::Created => {
                if status != Some("created") {
                    return Err(format!("it ends as {status:?}, and not as created"));
                }
                self.check_created(row.number, reported.unwrap_or(&Value::Null), calls)
            }
            ends @ (Ends::Refused | Ends::RefusedThoughDone) => {
                if status != Some("failed") {
                    return Err(format!("it ends as {status:?}, and not as failed"));
                }
                let words = row.case.as_ref().map(|case| case.words.as_str()).unwrap_or_default();
                let error = reported.map_or(Value::Null, |reported| reported["errors"][0].clone());
                if !error["reason"].as_str().is_some_and(|reason| reason.contains(words)) {
                    return Err(format!("the receipt does not quote '{words}'"));
                }
                if error["cure"].as_str().is_none_or(str::is_empty) {
                    return Err("the receipt names no cure".to_owned());
                }
                if faulty != calls.len().checked_sub(1) {
                    return Err("something was sent after the refusal".to_owned());
                }
                let stands = usize::from(ends == Ends::RefusedThoughDone && self.operation == ApiCall::CreateDocument);
                if documents == stands { Ok(()) } else { Err(format!("{documents} documents stand")) }
            }
            Ends::Held if reported.is_some() => Err("its manifest is settled".to_owned()),
            Ends::Held if documents == 1 => Ok(()),
            Ends::Held => Err(format!("{documents} documents stand")),
        }
    }

    /// What the receipt names exists, with the entry's own content, and nothing else does.
    fn check_created(&self, number: u32, reported: &Value, calls: &[LedgerEntry]) -> Result<(), String> {
        let content = sha256(&content(self.operation, number));
        if self.operation == ApiCall::UploadFile {
            let id = reported["file_id"].as_str().unwrap_or_default();
            let stands =
                calls.iter().any(|call| call.id.as_deref() == Some(id) && call.sha256.as_ref() == Some(&content));
            return if stands { Ok(()) } else { Err(format!("no file {id} stands on the profile")) };
        }
        let created: Vec<&LedgerEntry> =
            calls.iter().filter(|call| call.operation == ApiCall::CreateDocument && call.committed).collect();
        let [document] = created.as_slice() else { return Err(format!("{} documents stand", created.len())) };
        if reported["document_id"].as_str() != document.id.as_deref() {
            return Err("the receipt names another document".to_owned());
        }
        let [image] = document.image_ids.as_slice() else { return Err("it has not the one image".to_owned()) };
        let ours = calls.iter().any(|call| call.id.as_ref() == Some(image) && call.sha256.as_ref() == Some(&content));
        if !ours || reported["images"][0]["image_id"].as_str() != Some(image) {
            return Err("its image is another one".to_owned());
        }
        Ok(())
    }
}

fn is_of(call: &LedgerEntry, fault: &str) -> bool {
    call.fault.as_ref().is_some_and(|rule| rule.contains(&format!("={fault},nth=1")))
}

fn content(operation: ApiCall, number: u32) -> Vec<u8> {
    image(if operation == ApiCall::UploadFile { Format::Pdf } else { Format::Png }, number)
}

/// Puts the file of an entry into the drop; gives the entry, which has a profile of its own.
fn drop_entry(site: &Site, operation: ApiCall, number: u32) -> Value {
    let path = format!("{number}.{}", if operation == ApiCall::UploadFile { "pdf" } else { "png" });
    site.put(&path, content(operation, number));
    if operation == ApiCall::UploadFile {
        json!({ "reference": number.to_string(), "profile_id": profile(number), "path": path })
    } else {
        entry(&number.to_string(), number, &path)
    }
}

/// An upload whose answer came completely is the last of its kind.
fn check_uploads(calls: &[LedgerEntry]) -> Result<(), String> {
    let uploads = calls.iter().filter(|call| matches!(call.operation, ApiCall::UploadImage | ApiCall::UploadFile));
    let mut known = false;
    for call in uploads {
        if known {
            return Err("it was sent again although its ID was known".to_owned());
        }
        // 101 ends the talk on its connection, so that what follows it is no answer.
        let whole = call.fault.as_ref().is_none_or(|rule| {
            let kind = rule.parse::<FaultRule>().unwrap().kind;
            kind.answers_completely() && !rule.contains("interim:101")
        });
        known = call.committed && call.answered && whole;
    }
    Ok(())
}

fn shown(calls: &[LedgerEntry], reported: Option<&Value>) -> String {
    let calls = calls.iter().map(|call| {
        let LedgerEntry { operation, status, committed, fault, .. } = call;
        let fault = fault.as_deref().map_or("", |fault| fault.split(',').next().unwrap_or_default());
        format!("{operation} {status:?}{} {fault}", if *committed { " done" } else { "" })
    });
    let errors = reported.map(|reported| format!("{} {}", reported["status"], reported["errors"])).unwrap_or_default();
    format!("[{}] {errors}", calls.collect::<Vec<_>>().join("; "))
}

#[test]
fn uploads_of_images() {
    let table = Table::run(ApiCall::UploadImage);
    table.check();
    assert_eq!(table.finished.code, Some(1));
}

#[test]
fn uploads_of_files() {
    let table = Table::run(ApiCall::UploadFile);
    table.check();
    assert_eq!(table.finished.code, Some(1));
}

#[test]
fn creations_of_documents() {
    let table = Table::run(ApiCall::CreateDocument);
    table.check();
    assert_eq!(table.finished.code, Some(1));
}

#[test]
fn readings_of_documents() {
    let table = Table::run(ApiCall::ReadDocuments);
    table.check();
    assert_eq!(table.finished.code, Some(3), "some are held");
    let said: Value = serde_json::from_str(
        &table.site.run(&["jobs", "--state", "held", "--limit", "10000", "--json"]).expect(0).stdout,
    )
    .unwrap();
    let held: BTreeSet<&str> = said.as_array().unwrap().iter().map(|job| job["reference"].as_str().unwrap()).collect();
    let expected: Vec<String> =
        table.rows.iter().filter(|row| row.ends() == Ends::Held).map(|row| row.number.to_string()).collect();
    assert_eq!(held, expected.iter().map(String::as_str).collect());
}

#[test]
fn large_bodies_that_are_reset_on_their_way() {
    // More than the socket buffers of both ends hold, so that a body that was reset near its start was never handed over
    // completely. With 2 MB, a busy machine once handed over five of six.
    const BYTES: usize = 12_000_000;
    // The complete body: Base64 of the content, and at least this around it.
    let whole = BYTES.div_ceil(3) * 4 + r#"{"data":""}"#.len();
    let site = Site::new();
    let resets = [0, 1, 4096, whole / 2, whole - 1, whole];
    let documents: Vec<Value> = (0..)
        .zip(resets)
        .map(|(number, _)| {
            let path = format!("{number}.pdf");
            site.put(&path, padded(number, BYTES));
            entry(&number.to_string(), number, &path)
        })
        .collect();
    let rules = (0..).zip(resets).map(|(number, bytes)| {
        format!("upload_image=reset-body:{bytes},nth=1,profile={}", profile(number)).parse().unwrap()
    });
    site.sandbox().set_faults(rules.collect());
    site.put_documents("all.manifest.json", &documents);
    site.run_once().expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.images, summary.doubled), (6, 6, 0), "{summary}");
    assert_eq!(site.ledger().iter().filter(|call| call.fault.is_some()).count(), 6, "every reset happened");
    // A body counts where all of it was handed over: the second half may be in the socket buffers, but no more than
    // that.
    assert!(counted_leftovers(&site) <= 3, "{}", counted_leftovers(&site));
}
