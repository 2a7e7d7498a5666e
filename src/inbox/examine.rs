//! Reads a file once and determines its size, digest and type, and everything that is wrong with it.
//!
//! All of it comes from one pass over one descriptor, whose file must be the same before and after. What is sent later
//! is compared with the checksum from here, so the bytes that were checked are the bytes that are sent. Files are never
//! held in memory; the caller's buffer is used again for each.

use std::{io, os::unix::fs::FileExt};

use rustix::fs::Advice;
use sha2::Digest;
use xxhash_rust::xxh3::Xxh3;

use super::beneath::OpenedFile;
use crate::{
    entry::{Sha256, Source},
    file_format::{self, FileType, Flaw, FormatWalk, HEAD_BYTES, Inspected},
    file_identity::FileIdentity,
    printable::grouped,
    problem::Problem,
    warning_kind::WarningKind,
};

/// Large enough that the system calls no longer count, small enough for a processor's cache.
const BUFFER_BYTES: usize = 64 * 1024;

/// What a file is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A document's image: the API accepts five types (guide).
    Image,
    /// A file of its own: the portal shows those five; nothing says that others are refused (guide).
    File,
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExaminedFile {
    /// The size in bytes.
    pub bytes: u64,
    /// The digest of the content.
    pub sha256: Sha256,
    /// XXH3-64 of the content with the caller's seed: cheap to compute again while the file is sent.
    pub checksum: u64,
    /// The type, where it is an accepted one.
    pub file_type: Option<FileType>,
    /// The file and its state, before and after the reading.
    pub identity: FileIdentity,
    /// What shows that the end of the file is missing; whether that matters is the caller's decision.
    pub truncated: Option<String>,
}

/// Why a file could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Examining {
    /// Its sender has to do something.
    #[error("the file is not acceptable")]
    Bad(Vec<Problem>),
    /// It is not, or not yet, the file that its sender means: the rest of it may still arrive.
    #[error("the file is not whole")]
    Held(Vec<Problem>),
    /// Somebody wrote to it meanwhile; its quiet period has to pass first.
    #[error("the file changed while it was read")]
    Changed,
    /// The system failed to read it.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads a file and checks it against what its manifest says.
///
/// The second value holds warnings. Problems have the file's path and, where a field of the manifest is contradicted,
/// that field's plain name (`bytes`, `sha256`), to which the caller may add its place in the manifest.
///
/// # Errors
///
/// See [`Examining`]; where size or declared size are wrong already, only the file's first bytes are read.
pub fn examine(
    opened: &mut OpenedFile,
    source: &Source,
    purpose: Purpose,
    max_bytes: u64,
    seed: u64,
    buffer: &mut Vec<u8>,
) -> Result<(ExaminedFile, Vec<Problem>), Examining> {
    let identity = opened.identity;
    buffer.resize(BUFFER_BYTES, 0);
    let not_whole = other_size(identity.bytes, source);
    let mut problems: Vec<_> = too_large(identity.bytes, max_bytes).into_iter().collect();
    if problems.is_empty() && !not_whole.is_empty() {
        return Err(Examining::Held(about(not_whole, source)));
    }
    if problems.iter().any(Problem::is_error) {
        let filled = fill(opened, buffer, 0)?;
        let head = buffer.get(..filled.min(HEAD_BYTES)).unwrap_or_default();
        if !head.is_empty() {
            problems.extend(wrong_type(FileType::of(head), head, source, purpose));
        }
        unchanged(opened)?;
        problems.extend(not_whole);
        return Err(bad(problems, source));
    }

    // Advice only: a file system that does not take it reads as well without.
    rustix::fs::fadvise(&opened.file, 0, None, Advice::Sequential).ok();
    let read = read_through(opened, seed, buffer)?;
    unchanged(opened)?;

    if let Some(declared) = source.declared_sha256
        && declared != read.sha256
    {
        let reason = format!(
            "truncated, or another file than is meant: its SHA-256 is {}, but {declared} is declared",
            read.sha256
        );
        let problem = Problem::error(reason, "send the file again in full, or correct 'sha256' in the manifest");
        return Err(Examining::Held(about(vec![problem.field("sha256")], source)));
    }
    // What is as its sender declares it is what is meant.
    let is_declared = source.declared_sha256.is_some();
    if !is_declared {
        beginning_only(&read.head, source)?;
    }
    let Inspected { file_type, flaws } = read.inspected;
    problems.extend(wrong_type(file_type, &read.head, source, purpose));
    let truncated = judge(&flaws, purpose, is_declared, &mut problems);
    if problems.iter().any(Problem::is_error) {
        return Err(bad(problems, source));
    }
    let examined = ExaminedFile {
        bytes: identity.bytes,
        sha256: read.sha256,
        checksum: read.checksum,
        file_type,
        identity,
        truncated,
    };
    Ok((examined, about(problems, source)))
}

struct ReadThrough {
    sha256: Sha256,
    checksum: u64,
    head: Vec<u8>,
    inspected: Inspected,
}

/// Reads exactly the bytes that the file had at opening.
fn read_through(opened: &OpenedFile, seed: u64, buffer: &mut [u8]) -> Result<ReadThrough, Examining> {
    let mut sha256 = sha2::Sha256::new();
    let mut checksum = Xxh3::with_seed(seed);
    let mut inspection = FormatWalk::default();
    let mut at = 0_u64;
    loop {
        let filled = fill(opened, buffer, at)?;
        let chunk = buffer.get(..filled).unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        at = at.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        if at > opened.identity.bytes {
            // It grows: without this check, a file that grows as fast as we read would keep us for ever.
            return Err(Examining::Changed);
        }
        Digest::update(&mut sha256, chunk);
        checksum.update(chunk);
        inspection.feed(chunk);
    }
    if at != opened.identity.bytes {
        return Err(Examining::Changed);
    }
    let head = inspection.head().to_vec();
    let inspected = inspection.finish(at, &mut |buffer, at| fill(opened, buffer, at))?;
    Ok(ReadThrough { sha256: Sha256(sha256.finalize().into()), checksum: checksum.digest(), head, inspected })
}

/// Fills the buffer from this place in the file, as far as the file goes.
fn fill(opened: &OpenedFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match opened.file.read_at(rest, at.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX))) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn unchanged(opened: &OpenedFile) -> Result<(), Examining> {
    let now = FileIdentity::now(&opened.file)?;
    let same = opened.identity.same_content(&now) && opened.identity.ctime_ns == now.ctime_ns;
    if same { Ok(()) } else { Err(Examining::Changed) }
}

const SEND_AGAIN: &str = "send the file again in full; it may still be under way";

fn too_large(bytes: u64, max_bytes: u64) -> Option<Problem> {
    (bytes > max_bytes).then(|| {
        Problem::error(
            format!("the file has {} bytes, but at most {} are allowed", grouped(bytes), grouped(max_bytes)),
            "scan it at a lower resolution or split it, or raise 'max_image_bytes' if the account's limit is higher",
        )
    })
}

/// The problems that a file's size alone shows.
fn other_size(bytes: u64, source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    if bytes == 0 {
        problems.push(Problem::error("truncated: the file is empty", SEND_AGAIN));
    }
    if let Some(declared) = source.declared_bytes
        && declared != bytes
    {
        problems.push(
            Problem::error(
                format!(
                    "{}: the file has {} bytes, but {} are declared",
                    if bytes < declared { "truncated" } else { "another file than is meant" },
                    grouped(bytes),
                    grouped(declared)
                ),
                "send the file again in full, or correct 'bytes' in the manifest",
            )
            .field("bytes"),
        );
    }
    problems
}

/// Whether there is no more of it than the beginning of some file.
fn beginning_only(head: &[u8], source: &Source) -> Result<(), Examining> {
    let reason = if file_format::may_begin(head) {
        "truncated: there is only the beginning of a file"
    } else if !head.is_empty() && head.iter().all(|byte| *byte == 0) {
        "truncated: the file begins with zero bytes, as a transfer leaves them that reserves its place first"
    } else {
        return Ok(());
    };
    Err(Examining::Held(about(vec![Problem::error(reason, SEND_AGAIN)], source)))
}

/// Adds what flaws mean for a file, and gives why it is truncated, if so.
fn judge(flaws: &[Flaw], purpose: Purpose, is_declared: bool, problems: &mut Vec<Problem>) -> Option<String> {
    let damage: Vec<_> =
        flaws.iter().filter_map(|flaw| if let Flaw::Damaged(why) = flaw { Some(*why) } else { None }).collect();
    let damaged = |reason: String, cure: &str| Problem::warning_of(WarningKind::DamagedImage, reason, cure);
    for flaw in flaws {
        match flaw {
            Flaw::Truncated(why) if is_declared => problems.push(damaged(
                format!("{why}; it is taken, since its SHA-256 is as declared"),
                "look whether it opens, and send it again in full if not",
            )),
            // It is waited for, and what else is wrong with it has come of that.
            Flaw::Truncated(why) => return Some([&[*why], damage.as_slice()].concat().join("; ")),
            Flaw::Empty(why) => problems.push(match purpose {
                Purpose::Image => Problem::error(*why, "scan it again, or name the right file"),
                Purpose::File => damaged((*why).to_owned(), "make sure that it is the right file"),
            }),
            Flaw::Damaged(why) => {
                problems
                    .push(damaged((*why).to_owned(), "look whether it opens; if not, send it again, in binary mode"));
            }
            Flaw::Protected(why) => problems.push(Problem::warning_of(
                WarningKind::ProtectedPdf,
                *why,
                "send it without protection, or make sure that its reviewers can open it",
            )),
        }
    }
    None
}

fn wrong_type(is: Option<FileType>, head: &[u8], source: &Source, purpose: Purpose) -> Option<Problem> {
    let path = source.path.as_str();
    let Some(is) = is else {
        let looks = file_format::looks_like(head).unwrap_or("nothing that is known");
        let reason = format!("the content is none of {}; it looks like {looks}", FileType::ACCEPTED);
        return Some(match purpose {
            Purpose::Image => Problem::error(reason, "convert it to one of these types, or name the right file"),
            Purpose::File => Problem::warning(reason, "make sure that the portal can show such a file"),
        });
    };
    let promised = FileType::promised_by(path);
    let contradicts = promised.map_or_else(|| file_format::promises_something_else(path), |promised| promised != is);
    contradicts.then(|| {
        Problem::warning(
            format!("the content is {}, which the file's extension contradicts", is.name()),
            "give the file the extension of its type",
        )
    })
}

fn bad(problems: Vec<Problem>, source: &Source) -> Examining {
    Examining::Bad(about(problems, source))
}

fn about(problems: Vec<Problem>, source: &Source) -> Vec<Problem> {
    problems.into_iter().map(|problem| problem.path(source.path.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::PathBuf};

    use tempfile::TempDir;

    use super::*;
    use crate::{entry::RelativePath, file_format::samples, inbox::beneath::Root, problem::Severity};

    const LIMIT: u64 = 50_000_000;

    struct Place(TempDir);

    impl Place {
        fn with(name: &str, content: &[u8]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::write(place.path(name), content).unwrap();
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn open(&self, name: &str) -> OpenedFile {
            Root::open(self.0.path()).unwrap().open_file(name).unwrap()
        }
    }

    fn source(name: &str) -> Source {
        Source { path: RelativePath::parse(name).unwrap(), declared_bytes: None, declared_sha256: None }
    }

    fn look(name: &str, content: &[u8], purpose: Purpose) -> Result<(ExaminedFile, Vec<Problem>), Examining> {
        let place = Place::with(name, content);
        examine(&mut place.open(name), &source(name), purpose, LIMIT, 7, &mut Vec::new())
    }

    fn held(result: Result<(ExaminedFile, Vec<Problem>), Examining>) -> Vec<Problem> {
        match result {
            Err(Examining::Held(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    fn problems(result: Result<(ExaminedFile, Vec<Problem>), Examining>) -> Vec<Problem> {
        match result {
            Err(Examining::Bad(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_image_is_described() {
        let (examined, warnings) = look("front.png", samples::PNG, Purpose::Image).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(examined.bytes, samples::PNG.len() as u64);
        assert_eq!(examined.file_type, Some(FileType::Png));
        assert_eq!(examined.checksum, xxhash_rust::xxh3::xxh3_64_with_seed(samples::PNG, 7));
        assert_eq!(examined.sha256.0.as_slice(), sha2::Sha256::digest(samples::PNG).as_slice());
        assert_eq!(examined.truncated, None);
    }

    #[test]
    fn digests_of_a_file_of_many_buffers_are_right() {
        let mut content = samples::JPEG[..samples::JPEG.len() - 2].to_vec();
        content.extend((0..=250).cycle().take(BUFFER_BYTES * 2 + 12_345));
        let cut = look("front.jpg", &content, Purpose::Image).unwrap().0;
        assert_eq!(cut.truncated, Some("the JPEG has no end mark".to_owned()));
        content.extend([0xFF, 0xD9]);
        let whole = look("front.jpg", &content, Purpose::Image).unwrap().0;
        assert_eq!(whole.truncated, None);
        assert_eq!(whole.sha256.0.as_slice(), sha2::Sha256::digest(&content).as_slice());
        assert_eq!(whole.checksum, xxhash_rust::xxh3::xxh3_64_with_seed(&content, 7));
    }

    #[test]
    fn a_buffer_that_was_used_leaves_no_trace() {
        let place = Place::with("big.jpg", &[samples::JPEG, &[1; 100_000], samples::JPEG].concat());
        fs::write(place.path("small.gif"), samples::GIF).unwrap();
        let mut buffer = Vec::new();
        examine(&mut place.open("big.jpg"), &source("big.jpg"), Purpose::Image, LIMIT, 7, &mut buffer).unwrap();
        let small = examine(&mut place.open("small.gif"), &source("small.gif"), Purpose::Image, LIMIT, 7, &mut buffer);
        assert_eq!(small.unwrap().0.checksum, xxhash_rust::xxh3::xxh3_64_with_seed(samples::GIF, 7));
        assert_eq!(buffer.len(), BUFFER_BYTES);
    }

    #[test]
    fn an_empty_file_or_one_of_zeros_is_held_back() {
        assert!(held(look("front.png", &[0; 5000], Purpose::File))[0].reason.starts_with("truncated: "));
        let problems = held(look("front.png", b"", Purpose::File));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].reason, "truncated: the file is empty");
        assert_eq!(problems[0].path.as_deref(), Some("front.png"));
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_with_both_figures() {
        let place = Place::with("front.png", samples::PNG);
        fs::File::options().write(true).open(place.path("front.png")).unwrap().set_len(LIMIT + 1).unwrap();
        let found = problems(examine(
            &mut place.open("front.png"),
            &source("front.png"),
            Purpose::Image,
            LIMIT,
            7,
            &mut Vec::new(),
        ));
        assert_eq!(found[0].reason, "the file has 50,000,001 bytes, but at most 50,000,000 are allowed");
    }

    #[test]
    fn what_is_declared_must_be_so() {
        let place = Place::with("front.png", samples::PNG);
        let right = Source {
            declared_bytes: Some(samples::PNG.len() as u64),
            declared_sha256: Some(Sha256(sha2::Sha256::digest(samples::PNG).into())),
            ..source("front.png")
        };
        let with =
            |source: &Source| examine(&mut place.open("front.png"), source, Purpose::Image, LIMIT, 7, &mut Vec::new());
        assert_eq!(with(&right).unwrap().1, []);
        let short = held(with(&Source { declared_bytes: Some(1), ..right.clone() }));
        assert_eq!(short[0].field.as_deref(), Some("bytes"));
        let long = held(with(&Source { declared_bytes: Some(1000), ..right.clone() }));
        assert!(long[0].reason.starts_with("truncated: "), "{long:?}");
        let other = held(with(&Source { declared_sha256: Some(Sha256([0; 32])), ..right }));
        assert_eq!(other[0].field.as_deref(), Some("sha256"));
    }

    #[test]
    fn an_image_of_an_unaccepted_type_is_refused_by_name_but_a_file_only_warned_of() {
        let image = problems(look("front.heic", samples::HEIC, Purpose::Image));
        assert!(image[0].reason.contains("HEIC") && image[0].reason.contains("TIFF"), "{}", image[0].reason);
        assert!(image[0].cure.contains("convert"));
        let (examined, warnings) = look("front.heic", samples::HEIC, Purpose::File).unwrap();
        assert_eq!(examined.file_type, None);
        assert_eq!(warnings[0].severity, Severity::Warning);
    }

    #[test]
    fn an_extension_that_contradicts_the_content_is_a_warning() {
        for (name, warned) in [("a.jpg", true), ("a.HEIC", true), ("a.PNG", false), ("a.dat", false), ("a", false)] {
            let (_, warnings) = look(name, samples::PNG, Purpose::Image).unwrap();
            assert_eq!(!warnings.is_empty(), warned, "{name}");
            assert!(warnings.iter().all(|warning| !warning.is_error()));
        }
    }

    #[test]
    fn a_file_that_changed_since_its_opening_is_not_taken() {
        let name = "front.png";
        let append = |place: &Place| {
            fs::File::options().append(true).open(place.path(name)).unwrap().write_all(b"more").unwrap();
        };
        let shorten = |place: &Place| {
            fs::File::options().write(true).open(place.path(name)).unwrap().set_len(20).unwrap();
        };
        let touch = |place: &Place| {
            let file = fs::File::options().write(true).open(place.path(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        let changes: [&dyn Fn(&Place); 3] = [&append, &shorten, &touch];
        for (at, change) in changes.iter().enumerate() {
            let place = Place::with(name, samples::PNG);
            let mut opened = place.open(name);
            change(&place);
            let result = examine(&mut opened, &source(name), Purpose::Image, LIMIT, 7, &mut Vec::new());
            assert!(matches!(result, Err(Examining::Changed)), "change {at}: {result:?}");
        }
    }

    #[test]
    fn a_file_that_another_replaces_is_read_as_it_was() {
        let place = Place::with("front.png", samples::PNG);
        let mut opened = place.open("front.png");
        fs::write(place.path("other"), samples::GIF).unwrap();
        fs::remove_file(place.path("front.png")).unwrap();
        fs::hard_link(place.path("other"), place.path("front.png")).unwrap();
        // Its inode changed when its name went, so it has to be opened again; the other's bytes are never mixed in.
        let result = examine(&mut opened, &source("front.png"), Purpose::Image, LIMIT, 7, &mut Vec::new());
        assert!(matches!(result, Err(Examining::Changed)));
    }
}
