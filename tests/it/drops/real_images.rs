//! Images that others made, of the test suite of a well-known library: every valid one is taken, and each one that is
//! cut anywhere is held back. `scripts/check-real-images.sh` fetches them, has their own library say which are valid,
//! and runs this; a plain `cargo test` leaves it out.

use std::{fmt::Write as _, fs, path::Path};

use passfort_ingest::{
    entry::{RelativePath, Source},
    inbox::{
        beneath::Root,
        examine::{Examining, Purpose, examine},
    },
};

#[test]
#[ignore = "needs images of others: `scripts/check-real-images.sh` fetches them"]
fn valid_images_are_taken_and_cut_ones_are_held_back() {
    let folder = std::env::var_os("PASSFORT_INGEST_REAL_IMAGES").expect("PASSFORT_INGEST_REAL_IMAGES says where");
    let folder = Path::new(&folder);
    let work = tempfile::TempDir::new().unwrap();
    let root = Root::open(work.path()).unwrap();
    let mut buffer = Vec::new();
    // What becomes of the file `scan`: whether it counts as whole, or why it is refused.
    let mut verdict = || {
        let path = RelativePath::parse("scan").unwrap();
        let source = Source { path, declared_bytes: None, declared_sha256: None };
        let mut opened = root.open_file("scan").unwrap();
        match examine(&mut opened, &source, Purpose::Image, 50_000_000, 0, &mut buffer) {
            Ok((examined, _)) => Ok(examined.truncated.is_none()),
            Err(Examining::Held(_)) => Ok(false),
            Err(Examining::Bad(problems)) => Err(format!("refused: {problems:?}")),
            Err(error) => panic!("{error}"),
        }
    };
    let (mut images, mut cuts, mut wrong, mut whole_though_cut) = (0, 0, Vec::new(), String::new());
    for name in fs::read_to_string(folder.join("valid.txt")).unwrap().lines() {
        let content = fs::read(folder.join(name)).unwrap();
        images += 1;
        fs::write(work.path().join("scan"), &content).unwrap();
        match verdict() {
            Ok(true) => {}
            other => wrong.push(format!("{name}: valid, but {other:?}")),
        }
        let file = fs::File::options().write(true).open(work.path().join("scan")).unwrap();
        for percent in (1..100).rev() {
            let length = content.len() * percent / 100;
            file.set_len(u64::try_from(length).unwrap()).unwrap();
            cuts += 1;
            match verdict() {
                Ok(false) => {}
                // What stands behind the end of a picture may be missing: the library is asked whether it is the same.
                Ok(true) => writeln!(whole_though_cut, "{name}\t{length}").unwrap(),
                Err(refused) => wrong.push(format!("{name}, {length} bytes of {}: {refused}", content.len())),
            }
        }
    }
    fs::write(folder.join("whole-though-cut.txt"), whole_though_cut).unwrap();
    println!("{images} images, {cuts} cuts");
    assert!(images >= 300, "only {images} images: the suite is missing");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
