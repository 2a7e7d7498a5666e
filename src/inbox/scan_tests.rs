//! Tests of the scan, on real folders.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};

use tempfile::TempDir;

use super::*;
use crate::inbox::scan_rules::globs;

fn place(files: &[&str]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for file in files {
        let path = place.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    place
}

fn rules() -> ScanRules {
    ScanRules {
        recursive: true,
        manifests: globs(["*.manifest.json", "*.manifest.csv"]).unwrap(),
        ignore: globs(["*.part", ".*"]).unwrap(),
        skip_dirs: Vec::new(),
        max_depth: 64,
        max_path_bytes: 1024,
    }
}

fn look(place: &Path, rules: &ScanRules) -> (Vec<String>, ScanReport) {
    let mut found = Vec::new();
    let report = scan(&Root::open(place).unwrap(), rules, &mut |manifest| {
        found.push(manifest.path);
        ControlFlow::Continue(())
    })
    .unwrap();
    found.sort();
    (found, report)
}

#[test]
fn manifests_are_found_and_nothing_else() {
    let place = place(&["a.manifest.json", "b/c/d.manifest.csv", "b/front.jpg", "b/e.manifest.json.part"]);
    let (found, report) = look(place.path(), &rules());
    assert_eq!(found, ["a.manifest.json", "b/c/d.manifest.csv"]);
    assert_eq!((report.manifests, report.folders, report.entries), (2, 3, 6));
    assert!(report.complete);
    assert_eq!(report.problems, []);
}

#[test]
fn what_is_found_can_be_opened_and_is_the_same_file() {
    let place = place(&["b/a.manifest.json"]);
    let root = Root::open(place.path()).unwrap();
    let mut seen = 0;
    scan(&root, &rules(), &mut |found| {
        seen += 1;
        assert_eq!(root.open_file(&found.path).unwrap().identity, found.identity);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn without_recursion_folders_are_left_alone() {
    let place = place(&["a.manifest.json", "b/c.manifest.json"]);
    let (found, report) = look(place.path(), &ScanRules { recursive: false, ..rules() });
    assert_eq!(found, ["a.manifest.json"]);
    assert_eq!(report.folders, 1);
}

#[test]
fn ignored_and_skipped_folders_are_not_entered() {
    let place =
        place(&["done/a.manifest.json", ".hidden/b.manifest.json", "x.part/c.manifest.json", "in/d.manifest.json"]);
    symlink(place.path(), place.path().join("in/other_way")).unwrap();
    for done in ["done", "in/other_way/done"] {
        let rules = ScanRules { skip_dirs: vec![place.path().join(done)], ..rules() };
        let (found, report) = look(place.path(), &rules);
        assert_eq!(found, ["in/d.manifest.json"], "{done}");
        assert_eq!(report.folders, 2);
    }
}

#[test]
fn a_list_of_failed_entries_is_a_manifest_except_beside_receipts() {
    let lists = ["a.failed.manifest.csv", "in/b.failed.manifest.csv", "said/c.failed.2.manifest.csv"];
    let place = place(&[&lists[..], &["said/c.manifest.csv.receipt.2.json", "said/d.manifest.csv"]].concat());
    assert_eq!(
        look(place.path(), &rules()).0,
        ["a.failed.manifest.csv", "in/b.failed.manifest.csv", "said/d.manifest.csv"]
    );
}

#[test]
fn patterns_match_names_or_with_a_slash_paths() {
    let place = place(&["batch.json", "batch/x.json", "batch/old/y.json", "other/z.json"]);
    let with = |pattern| look(place.path(), &ScanRules { manifests: globs([pattern]).unwrap(), ..rules() }).0;
    assert_eq!(with("batch*"), ["batch.json"]);
    assert_eq!(with("batch/*.json"), ["batch/x.json"]);
    assert_eq!(with("batch/**/*.json"), ["batch/old/y.json", "batch/x.json"]);
    assert_eq!(with("{x,z}.json"), ["batch/x.json", "other/z.json"]);
    assert_eq!(with("BATCH/X.*"), ["batch/x.json"], "letter case does not count");
    assert!(globs(["a{"]).is_err());
}

#[test]
fn links_are_neither_followed_nor_read() {
    let place = place(&["in/a.manifest.json"]);
    let outside = self::place(&["b.manifest.json"]);
    symlink(outside.path(), place.path().join("out")).unwrap();
    symlink("..", place.path().join("in/up")).unwrap();
    symlink(outside.path().join("b.manifest.json"), place.path().join("c.manifest.json")).unwrap();
    let (found, report) = look(place.path(), &rules());
    assert_eq!(found, ["in/a.manifest.json"]);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].path.as_deref(), Some("c.manifest.json"));
    assert!(report.problems[0].reason.contains("symbolic link"));
}

#[test]
fn names_that_nothing_can_refer_to_are_reported_in_plain_characters() {
    let place = place(&["a.manifest.json", "b\u{1b}[2J.manifest.json"]);
    fs::write(place.path().join(OsStr::from_bytes(b"\xFF\n.manifest.json")), "{}").unwrap();
    fs::create_dir(place.path().join(OsStr::from_bytes(b"folder\xFE"))).unwrap();
    let (found, report) = look(place.path(), &rules());
    assert_eq!(found, ["a.manifest.json"]);
    assert_eq!((report.not_utf8, report.problems.len()), (2, 3));
    let paths: Vec<_> = report.problems.iter().filter_map(|problem| problem.path.as_deref()).collect();
    assert!(paths.contains(&r"\xff\n.manifest.json"), "{paths:?}");
    assert!(paths.iter().all(|path| !path.contains(char::is_control)), "{paths:?}");
}

#[test]
fn the_list_of_problems_ends_and_the_scan_does_not() {
    let place = place(&["z/a.manifest.json"]);
    for n in 0..=MAX_PROBLEMS {
        symlink("x", place.path().join(format!("{n}.manifest.json"))).unwrap();
    }
    let (found, report) = look(place.path(), &rules());
    assert_eq!(found.len(), 1);
    assert_eq!((report.problems.len(), report.unlisted_problems), (MAX_PROBLEMS, 1));
}

#[test]
fn a_folder_that_cannot_be_read_is_reported_and_skipped() {
    let place = place(&["a.manifest.json"]);
    let root = Root::open(place.path()).unwrap();
    let rules = rules();
    let mut known = KnownFolders::default();
    let mut scan = Scan::new(&root, &rules, &mut known);
    scan.lost("gone", Errno::NOENT);
    assert!(scan.report.complete && scan.report.problems.is_empty());
    scan.lost("locked", Errno::ACCESS);
    assert!(!scan.report.complete);
    assert_eq!(scan.report.problems[0].path.as_deref(), Some("locked"));
}

#[test]
fn a_folder_that_goes_meanwhile_does_no_harm() {
    let place = place(&["a/1.manifest.json", "b/1.manifest.json", "c/1.manifest.json"]);
    let mut found = 0;
    let report = scan(&Root::open(place.path()).unwrap(), &rules(), &mut |_| {
        found += 1;
        for folder in ["a", "b", "c"] {
            fs::remove_dir_all(place.path().join(folder)).ok();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((found, report.problems.len()), (1, 0));
}

#[test]
fn folders_too_deep_are_reported() {
    let deep = vec!["d"; rules().max_depth].join("/");
    let place = place(&[&format!("{deep}/a.manifest.json"), &format!("{deep}/d/b.manifest.json")]);
    let (found, report) = look(place.path(), &rules());
    assert_eq!(found, [format!("{deep}/a.manifest.json")]);
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].reason.contains("deeper than 64"), "{:?}", report.problems);
    assert!(report.problems[0].cure.contains("max_depth"), "{:?}", report.problems);
    assert!(!report.complete);
}

#[test]
fn paths_too_long_are_reported() {
    let place = place(&["folder/a.manifest.json", "folder/aa.manifest.json", "a-long-name-for-a-folder/x"]);
    let rules = ScanRules { max_path_bytes: "folder/a.manifest.json".len(), ..rules() };
    let (found, report) = look(place.path(), &rules);
    assert_eq!(found, ["folder/a.manifest.json"]);
    let mut reported: Vec<_> = report.problems.iter().filter_map(|problem| problem.path.as_deref()).collect();
    reported.sort_unstable();
    assert_eq!(reported, ["a-long-name-for-a-folder", "folder/aa.manifest.json"]);
    for problem in &report.problems {
        assert!(problem.reason.contains("longer than 22 bytes") && problem.cure.contains("max_path_bytes"));
    }
    assert!(!report.complete);
}

#[test]
fn a_scan_can_be_ended() {
    let place = place(&["a.manifest.json", "b.manifest.json"]);
    let report = scan(&Root::open(place.path()).unwrap(), &rules(), &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(report.manifests, 1);
    assert!(!report.complete);
}

#[test]
fn a_root_that_was_removed_is_not_an_empty_one() {
    let place = place(&["in/a.manifest.json"]);
    let root = Root::open(&place.path().join("in")).unwrap();
    fs::remove_dir_all(root.path()).unwrap();
    assert!(scan(&root, &rules(), &mut |_| ControlFlow::Continue(())).is_err());
    fs::create_dir(root.path()).unwrap();
    assert!(scan(&root, &rules(), &mut |_| ControlFlow::Continue(())).is_err());
}

#[test]
fn an_unnameable_manifest_is_shown_under_a_safe_path_and_can_be_read() {
    let place = place(&["a\u{1b}/b\n\u{9b}.manifest.json", "c\u{7}.png"]);
    fs::write(place.path().join(OsStr::from_bytes(b"\xFF%.MANIFEST.csv")), "row").unwrap();
    let mut shown = Vec::new();
    let root = Root::open(place.path()).unwrap();
    scan_all(&root, &rules(), &mut |_| panic!("it is no manifest"), &mut |other| {
        if other.unnameable.is_some() {
            let text = io::read_to_string(other.open().unwrap()).unwrap();
            shown.push((other.path.to_owned(), text));
        }
    })
    .unwrap();
    shown.sort();
    let expected = [("%FF%.MANIFEST.csv", "row"), ("a%1B/b%0A%C2%9B.manifest.json", "{}")];
    assert_eq!(shown, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
}

#[test]
fn other_files_are_shown_and_ignored_ones_are_not() {
    let place = place(&["a.manifest.json", "in/front.jpg", "in/b.PART", "B.csv", "#recycle/c.csv"]);
    let ignore = globs(["*.part", "#recycle"]).unwrap();
    let (mut manifests, mut others) = (Vec::new(), Vec::new());
    let mut each = |found: FoundManifest| {
        manifests.push(found.path);
        ControlFlow::Continue(())
    };
    let root = Root::open(place.path()).unwrap();
    scan_all(&root, &ScanRules { ignore, ..rules() }, &mut each, &mut |other| {
        assert_eq!(other.identity().unwrap(), root.open_file(other.path).unwrap().identity);
        others.push((other.path.to_owned(), other.name().to_owned()));
    })
    .unwrap();
    others.sort();
    assert_eq!(manifests, ["a.manifest.json"]);
    assert_eq!(others, [("B.csv".into(), "B.csv".into()), ("in/front.jpg".into(), "front.jpg".into())]);
}
