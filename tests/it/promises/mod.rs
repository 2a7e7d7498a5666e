//! What README's section "What is promised" says. Each sentence of it is quoted by the tests that prove it, here or in the
//! suite that tries the same at length; a test fails where a quoted sentence is no longer there, and one below fails
//! where a sentence is quoted by no test.

mod absence;
mod confidentiality;
mod confinement;
mod content_rules;
mod created_once;
mod known_ids;
mod lost_answers;
mod noticed;
mod one_at_a_time;
mod race;
mod receipt_first;
mod same_bytes;

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::promises;

/// The sentences that the file or the files in the folder quote.
fn quoted(path: &Path, found: &mut BTreeSet<String>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| quoted(&entry.unwrap().path(), found));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).unwrap();
        for call in text.split("promise!(").skip(1).map(str::trim_start) {
            // An escaped quotation mark does not end the literal; this file and the macro's own have no literal there.
            let call = call.replace("\\\"", "\0");
            let Some(literal) = call.strip_prefix('"') else { continue };
            found.insert(literal.split('"').next().unwrap().replace('\0', "\""));
        }
    }
}

#[test]
fn every_promise_of_the_readme_is_quoted_by_a_test() {
    let mut found = BTreeSet::new();
    quoted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"), &mut found);
    let promises = promises();
    assert!(promises.len() >= 16, "README's list of promises is not understood: {promises:#?}");
    let unquoted: Vec<_> = promises.difference(&found).collect();
    assert!(unquoted.is_empty(), "no test quotes, and so proves, these promises: {unquoted:#?}");
}
