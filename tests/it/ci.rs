//! `.ci/run` and the scripts ask for tests by parts of their paths; what they ask for exists, and no ignored test is left out.

use std::{fs, path::Path};

/// The modules of this target with their text, as `::drops::sftp::leases::`.
fn modules(folder: &Path, path: &str, found: &mut Vec<(String, String)>) {
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        if file.is_dir() {
            modules(&file, &format!("{path}{name}::"), found);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let own = if ["mod", "main"].contains(&name) { path.to_owned() } else { format!("{path}{name}::") };
            found.push((own, fs::read_to_string(&file).unwrap()));
        }
    }
}

/// The words by which a line of these scripts asks for tests, each with whether it asks for ignored ones.
fn filters(root: &Path) -> Vec<(String, bool)> {
    let scripts = fs::read_dir(root.join("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let texts = scripts.chain([root.join(".ci/run")]).map(|path| fs::read_to_string(path).unwrap());
    let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let asking = lines.iter().filter(|line| line.contains("--test it"));
    let words = asking.flat_map(|line| line.split_whitespace().map(move |word| (word, line.contains("--ignored"))));
    words.filter(|(word, _)| word.ends_with("::")).map(|(word, ignored)| (word.to_owned(), ignored)).collect()
}

#[test]
fn every_filter_matches_its_module_and_every_ignored_test_is_asked_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    modules(&root.join("tests/it"), "::", &mut found);
    let filters = filters(root);
    assert!(filters.len() >= 8, "the scripts are not understood: {filters:?}");
    for (filter, _) in &filters {
        let matching: Vec<_> = found.iter().map(|(path, _)| path).filter(|path| path.contains(filter)).collect();
        let whole = format!("::{filter}");
        assert!(!matching.is_empty(), "no module is called {filter}");
        assert!(matching.iter().all(|path| path.contains(&whole)), "{filter} also asks for others: {matching:?}");
    }
    for (path, text) in &found {
        if text.lines().any(|line| line.starts_with("#[ignore")) {
            let asked = filters.iter().any(|(filter, ignored)| *ignored && path.contains(&format!("::{filter}")));
            assert!(asked, "{path} has ignored tests that .ci/run does not ask for");
        }
    }
}
