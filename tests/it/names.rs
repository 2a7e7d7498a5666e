//! No two types in the production code share a name: who searches for one finds one definition.

use std::collections::BTreeMap;

use crate::layers::{
    TREE,
    source::{Texts, Tree},
};

/// Names that may be defined more than once.
const ALLOWED: [&str; 0] = [];

/// The places that define each type, as `src/queue/mod.rs:68`. Associated types are not types of their own.
fn definitions(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for file in &tree.files {
        let mut depth = 0_usize;
        for pair in file.tokens.windows(2) {
            let defines = match pair[0].text.as_str() {
                "struct" | "enum" | "union" | "trait" => true,
                "type" => depth == 0,
                text => {
                    depth += usize::from(text == "{");
                    depth -= usize::from(text == "}");
                    false
                }
            };
            if defines && pair[1].text.starts_with(|first: char| first.is_ascii_uppercase()) {
                let place = format!("{}:{}", file.path, pair[1].line);
                found.entry(pair[1].text.clone()).or_default().push(place);
            }
        }
    }
    found
}

fn shared_names(tree: &Tree, allowed: &[&str]) -> Vec<String> {
    let shared = definitions(tree).into_iter().filter(|(_, places)| places.len() > 1);
    let wrong = shared.filter(|(name, _)| !allowed.contains(&name.as_str()));
    wrong.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}

#[test]
fn no_two_production_types_share_a_name() {
    assert!(definitions(&TREE).len() > 400, "the sources are not understood");
    let shared = shared_names(&TREE, &ALLOWED);
    assert!(shared.is_empty(), "{} names are defined more than once:\n{}", shared.len(), shared.join("\n"));
}

#[test]
fn a_name_that_is_defined_twice_is_found() {
    let sources = [
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "// struct Page;\npub struct Row<T>(T);\ntype Page = u8;\nimpl Read for Row { type Item = u8; }"),
        ("src/b.rs", "fn f() {\n    enum Row { Page }\n}\ntrait Page { type Item; }\n#[cfg(test)]\nstruct Item;"),
    ];
    let tree = Tree::read(&Texts::from(sources.map(|(path, text)| (path.to_owned(), text.to_owned()))));
    let (page, row) = ("Page: src/a.rs:3, src/b.rs:4", "Row: src/a.rs:2, src/b.rs:2");
    assert_eq!(shared_names(&tree, &[]), [page, row]);
    assert_eq!(shared_names(&tree, &["Page"]), [row]);
}

/// A program reads reasons by their codes, so it has to know all of them.
#[test]
fn the_schema_of_receipts_names_every_code() {
    let site = crate::support::Site::new();
    let schema = site.run(&["schema", "receipt"]).expect(0).stdout;
    let texts = |wanted: &[&str]| -> Vec<(String, String)> {
        let windows = TREE.files.iter().flat_map(|file| file.tokens.windows(wanted.len() + 6));
        let found = windows.filter(|window| window.iter().zip(wanted).all(|(token, text)| token.text == *text));
        found.map(|window| (window[wanted.len()].text.clone(), window[wanted.len() + 5].text.clone())).collect()
    };
    // As in `const NAME_IN_USE: &str = "name-in-use";`.
    let constants: BTreeMap<String, String> = texts(&["const"]).into_iter().collect();
    let used = texts(&[".", "code", "("]).into_iter().map(|(argument, _)| argument);
    let value = |argument: String| constants.get(&argument).cloned().unwrap_or(argument);
    let is_text = |text: &String| text.starts_with('"');
    let codes: Vec<_> = used.map(value).filter(is_text).map(|code| code.trim_matches('"').to_owned()).collect();
    assert!(codes.len() > 8, "the codes are not understood: {codes:?}");
    let unknown: Vec<_> = codes.iter().filter(|code| !schema.contains(&format!("\"const\": \"{code}\""))).collect();
    assert!(unknown.is_empty(), "{unknown:?} are missing in problem.rs");
}
