//! The sentences of README's section "What is promised", which tests quote where they prove them.

use std::collections::BTreeSet;

const README: &str = include_str!("../../../README.md");

/// Quotes a promise of the README, word for word, at the beginning of a test that proves it.
macro_rules! promise {
    ($sentence:literal) => {
        $crate::support::assert_promised($sentence)
    };
}
pub(crate) use promise;

/// The promises: the items of the numbered list, each on one line.
pub(crate) fn promises() -> BTreeSet<String> {
    let (_, section) = README.split_once("\n## What is promised\n").expect("README has the section");
    let section = section.split("\n#").next().unwrap();
    let mut items: Vec<String> = Vec::new();
    for line in section.lines() {
        match line.split_once(". ") {
            Some((number, text)) if number.parse::<u32>().is_ok() => items.push(text.to_owned()),
            _ if line.starts_with("   ") => {
                let item = items.last_mut().expect("a promise goes on");
                *item += " ";
                *item += line.trim();
            }
            _ => {}
        }
    }
    items.into_iter().collect()
}

/// Fails the test where the README does not, or no longer, promise this.
#[track_caller]
pub(crate) fn assert_promised(sentence: &str) {
    assert!(promises().contains(sentence), "README does not promise this, word for word: {sentence}");
}
