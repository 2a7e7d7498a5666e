//! Every input that the fuzzer kept, and every seed, checked again: see `fuzz/`.

use std::{fs, path::Path};

#[path = "../../../fuzz/checks.rs"]
mod checks;

#[test]
fn every_kept_input_still_passes_its_check() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, check) in checks::CHECKS {
        let inputs = fs::read_dir(corpus.join(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
        let mut seen = 0;
        for input in inputs {
            let path = input.unwrap().path();
            let content = fs::read(&path).unwrap();
            let result = std::panic::catch_unwind(|| check(&content));
            assert!(result.is_ok(), "{} fails the check {target}", path.display());
            seen += 1;
        }
        assert!(seen >= 5, "{target} has {seen} inputs: the corpus is missing");
    }
}
