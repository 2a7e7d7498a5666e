//! The rules for the single fields of an entry, the same in every format.
//!
//! Pure functions from the text of a field to its value or to the problem with it. Which fields an entry has, and how
//! a format writes them, is not decided here.

use std::collections::HashSet;

use crate::{
    entry::{ImageSource, ImageType, ProfileId, RelativePath, Sha256},
    problem::Problem,
    warning_kind::WarningKind,
};

use super::{
    ManifestBounds,
    findings::{Findings, quote},
    known,
};

/// The longest `reference`, in characters: room for any key that a system makes, and still readable in a list.
pub(super) const MAX_REFERENCE_CHARS: usize = 512;
/// The longest `name`, in characters: what file systems allow, so that the portal can offer it for download.
pub(super) const MAX_NAME_CHARS: usize = 255;
/// The longest `category` or `document_type`, in characters; the longest known one has 25.
pub(super) const MAX_WORD_CHARS: usize = 100;

/// Reads a `profile_id`.
pub(super) fn profile_id(text: &str, field: &str) -> Result<ProfileId, Problem> {
    ProfileId::parse(text).ok_or_else(|| {
        let cure = "write the profile's id as a UUID with hyphens, for example a2c4393a-e219-67a4-5ab4-2186952e9038";
        Problem::error(format!("{} is not a UUID", quote(text)), cure).field(field)
    })
}

/// Reads a `reference`; one that a spreadsheet has changed comes with a warning, since several may have become the same.
pub(super) fn reference(text: String, field: &str, findings: &mut Findings) -> Result<String, Problem> {
    let text = short_text(text, field, MAX_REFERENCE_CHARS)?;
    if is_changed_by_spreadsheet(&text) {
        let reason = format!("a spreadsheet seems to have changed the reference {}", quote(&text));
        let cure = "format the column as text, fill the references in again, and export the list again";
        findings.add(Problem::warning_of(WarningKind::SpreadsheetReference, reason, cure).field(field));
    }
    Ok(text)
}

/// `1.23457E+14`, `="00017"`, `#REF!`, `########`, and quotes that a word processor has made of plain ones.
fn is_changed_by_spreadsheet(text: &str) -> bool {
    let is_error = text.len() > 1 && text.starts_with('#') && (text.ends_with(['!', '?']) || text == "#N/A");
    let is_too_narrow = text.len() > 1 && text.bytes().all(|byte| byte == b'#');
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_scientific = text.split_once(['E', 'e']).is_some_and(|(mantissa, exponent)| {
        let mantissa = mantissa.trim_start_matches(['+', '-']);
        let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
        whole.len() == 1
            && is_digits(whole)
            && is_digits(fraction)
            && exponent.strip_prefix(['+', '-']).is_some_and(is_digits)
    });
    let is_quoted = text.starts_with(['\u{201c}', '\u{201d}', '\u{201e}']) && text.ends_with(['\u{201c}', '\u{201d}']);
    text.starts_with('=') || is_quoted || is_error || is_too_narrow || is_scientific
}

/// Reads a file's `name`.
pub(super) fn name(text: String, field: &str) -> Result<String, Problem> {
    let text = short_text(text, field, MAX_NAME_CHARS)?;
    if text.contains('/') {
        let cure = "give only the name that the portal shows, without a folder";
        return Err(Problem::error(format!("{} has a slash", quote(&text)), cure).field(field));
    }
    Ok(text)
}

fn short_text(text: String, field: &str, most: usize) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(Problem::error("the value is empty", "give it a value, or leave it out").field(field));
    }
    // Every character has at least one byte, so short texts need no counting.
    if text.len() > most && text.chars().count() > most {
        let cure = format!("shorten it to at most {most} characters");
        return Err(Problem::error(format!("{} is longer than {most} characters", quote(&text)), cure).field(field));
    }
    if text.chars().any(char::is_control) {
        let cure = "remove line breaks, tabs, and the like; in CSV, look for a quote that is not closed";
        return Err(Problem::error(format!("{} has a control character", quote(&text)), cure).field(field));
    }
    Ok(text)
}

/// Reads a `category` or `document_type`; an unknown one comes with a warning, because the API's lists grow.
pub(super) fn word(
    text: String,
    field: &str,
    known: &[&'static str],
    findings: &mut Findings,
) -> Result<String, Problem> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if text.is_empty() || text.len() > MAX_WORD_CHARS || !text.bytes().all(allowed) {
        let upper = text.trim().to_uppercase().replace([' ', '-'], "_");
        let cure = if (1..=MAX_WORD_CHARS).contains(&upper.len()) && upper.bytes().all(allowed) {
            format!("write {upper}")
        } else {
            format!(
                "use only capital letters, digits, and '_', at most {MAX_WORD_CHARS}, for example {}",
                example(known)
            )
        };
        return Err(Problem::error(format!("{} is not such a value", quote(&text)), cure).field(field));
    }
    if !known.contains(&text.as_str()) {
        let cure = known::nearest(&text, known).map_or_else(
            || "check the spelling; nothing known is near it".to_owned(),
            |near| format!("if {near} is meant, write that"),
        );
        let kind = if field == "category" { WarningKind::UnknownCategory } else { WarningKind::UnknownType };
        let reason = format!("{} is not among the known values", quote(&text));
        findings.add(Problem::warning_of(kind, reason, cure).field(field));
    }
    Ok(text)
}

fn example(known: &[&'static str]) -> &'static str {
    known.first().copied().unwrap_or_default()
}

/// Reads an `image_type`.
pub(super) fn image_type(text: &str, field: &str) -> Result<ImageType, Problem> {
    ImageType::parse(text).ok_or_else(|| {
        let upper = ImageType::parse(&text.trim().to_ascii_uppercase());
        let cure = upper.map_or_else(
            || "write FRONT, BACK, or FACE, or leave it out".to_owned(),
            |known| format!("write {}", known.as_str()),
        );
        Problem::error(format!("{} is not an image type", quote(text)), cure).field(field)
    })
}

/// The code of a path that is absolute.
pub(crate) const ABSOLUTE_PATH: &str = "absolute-path";

/// Reads a `path`; one with a space at an end or with a backslash comes with a warning, because neither is often meant.
pub(super) fn path(
    text: &str,
    field: &str,
    limits: &ManifestBounds,
    findings: &mut Findings,
) -> Result<RelativePath, Problem> {
    if text.len().saturating_add(limits.folder_bytes) > limits.max_path_bytes {
        let folder = if limits.folder_bytes > 0 { ", with the manifest's folder," } else { "" };
        let reason = format!("the path{folder} is longer than {} bytes: {}", limits.max_path_bytes, quote(text));
        let cure = "give its folders shorter names, or raise max_path_bytes of the drop";
        return Err(Problem::error(reason, cure).field(field));
    }
    let path = RelativePath::parse(text).map_err(|reason| {
        let cure = "name a file by its path from the manifest's folder, for example 17/front.jpg";
        match reason.starts_with("the path is absolute") {
            true => Problem::error(reason, cure).path(text).code(ABSOLUTE_PATH).field(field),
            false => Problem::error(format!("{reason}: {}", quote(text)), cure).field(field),
        }
    })?;
    findings.name_path(&path);
    if text.trim() != text {
        let reason = format!("the path {} begins or ends with a space", quote(text));
        findings.add(Problem::warning(reason, "remove it unless the file's name has it too").field(field));
    }
    if text.contains('\\') {
        let reason = format!("the path {} has a backslash", quote(text));
        findings.add(Problem::warning(reason, "write / between folders and files").field(field));
    }
    Ok(path)
}

/// Reads a `sha256`.
pub(super) fn sha256(text: &str, field: &str) -> Result<Sha256, Problem> {
    Sha256::parse(text).ok_or_else(|| {
        let cure = "write the 64 hexadecimal digits of the file's SHA-256, or leave it out";
        Problem::error(format!("{} is not a SHA-256 digest", quote(text)), cure).field(field)
    })
}

/// The problem with a size that is not an integral number of bytes; `written` is how the manifest writes it.
pub(super) fn not_bytes(written: &str, field: &str) -> Problem {
    let cure = "write the file's size as a whole number of bytes, for example 81234, or leave it out";
    Problem::error(format!("{written} is not a number of bytes"), cure).field(field)
}

/// The problem with a field that every such entry needs.
pub(super) fn missing(field: &str, cure: impl Into<String>) -> Problem {
    Problem::error(format!("{} is missing", last_part(field)), cure).field(field)
}

/// The problem with a document of more images than the limit.
pub(super) fn too_many_images(count: usize, most: usize) -> Problem {
    let cure = format!("divide it into documents of at most {most} images, or raise max_images of the drop");
    Problem::error(format!("the document has {count} images, more than {most}"), cure).field("images")
}

fn last_part(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// Warns of a document that has a back and no front.
pub(super) fn warn_of_sides(images: &[ImageSource], findings: &mut Findings) {
    let has = |side| images.iter().position(|image| image.image_type == Some(side));
    let (Some(back), None) = (has(ImageType::Back), has(ImageType::Front)) else { return };
    let reason = "the document has a back and no front";
    let cure = "add the front, or correct the image's type";
    findings.add(
        Problem::warning_of(WarningKind::BackWithoutFront, reason, cure).field(format!("images[{back}].image_type")),
    );
}

/// Warns of a file that one document names more than once.
pub(super) fn warn_of_repeats(images: &[ImageSource], findings: &mut Findings) {
    let mut seen = HashSet::new();
    for (at, image) in images.iter().enumerate() {
        let path = &image.source.path;
        if !seen.insert(path) {
            let reason = format!("the document names {} more than once", quote(path.as_str()));
            let cure = "name each image once, unless it is really to be uploaded twice";
            findings.add(Problem::warning(reason, cure).field(format!("images[{at}].path")).path(path.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_in_lower_case_is_refused_with_its_upper_case() {
        let mut findings = Findings::default();
        let problem = word("utility bill".into(), "document_type", &known::DOCUMENT_TYPES, &mut findings).unwrap_err();
        assert_eq!((problem.field.as_deref(), problem.cure.as_str()), (Some("document_type"), "write UTILITY_BILL"));
        for bad in ["", "ÄRZTE", "A/B", &"A".repeat(101)] {
            let problem = word(bad.to_owned(), "category", &known::CATEGORIES, &mut findings).unwrap_err();
            assert!(problem.cure.contains("capital letters"), "{problem:?}");
        }
        assert!(findings.into_problems().is_empty());
    }

    #[test]
    fn an_unknown_word_is_taken_with_a_warning_that_names_the_nearest() {
        let mut findings = Findings::default();
        assert_eq!(word("PASPORT".into(), "document_type", &known::DOCUMENT_TYPES, &mut findings).unwrap(), "PASPORT");
        assert_eq!(word("A".repeat(100), "category", &known::CATEGORIES, &mut findings).unwrap().len(), 100);
        assert!(!findings.is_fatal());
        let problems = findings.into_problems();
        assert_eq!(problems[0].cure, "if PASSPORT is meant, write that");
        assert_eq!(problems[1].cure, "check the spelling; nothing known is near it");
    }

    #[test]
    fn references_and_names_are_short_and_plain() {
        assert!(reference("ä".repeat(512), "reference", &mut Findings::default()).is_ok());
        for bad in ["".to_owned(), "ä".repeat(513), "a\0b".to_owned(), "a\nb".to_owned()] {
            assert!(reference(bad, "reference", &mut Findings::default()).is_err());
        }
        assert!(name("PEP Declaration Form.pdf".into(), "name").is_ok());
        assert!(name("x".repeat(255), "name").is_ok());
        for bad in ["".to_owned(), "x".repeat(256), "a/b.pdf".to_owned(), "a\tb".to_owned()] {
            assert!(name(bad, "name").is_err());
        }
    }

    #[test]
    fn an_image_type_in_lower_case_is_refused_with_its_upper_case() {
        assert_eq!(image_type("FACE", "image_type"), Ok(ImageType::Face));
        assert_eq!(image_type("front", "image_type").unwrap_err().cure, "write FRONT");
        assert!(image_type("SELFIE", "image_type").unwrap_err().cure.contains("BACK"));
    }

    #[test]
    fn references_that_a_spreadsheet_has_changed_are_named() {
        let warned = |text: &str| {
            let mut findings = Findings::default();
            reference(text.to_owned(), "reference", &mut findings).unwrap();
            findings.into_problems().iter().any(|problem| problem.kind == Some(WarningKind::SpreadsheetReference))
        };
        for changed in [
            "1.23457E+14",
            "1,23457E+14",
            "-1E-05",
            "=\"00017\"",
            "=A1",
            "#REF!",
            "#NAME?",
            "#N/A",
            "####",
            "\u{201c}a\u{201d}",
        ] {
            assert!(warned(changed), "{changed}");
        }
        for sound in ["123457000000000", "1E4", "12E+4", "E+14", "1.E+1", "CASE+1", "#17", "#", "a=b", "1.2", "1e+x"] {
            assert!(!warned(sound), "{sound}");
        }
    }

    #[test]
    fn a_path_out_of_the_folder_is_refused_with_its_reason() {
        let (mut findings, limits) = (Findings::default(), ManifestBounds::default());
        for (bad, word) in [("../x", "'..'"), ("/etc/passwd", "absolute"), ("", "empty"), ("a/", "folder")] {
            let problem = path(bad, "images[2].path", &limits, &mut findings).unwrap_err();
            assert!(problem.reason.contains(word), "{problem:?}");
            assert_eq!(problem.field.as_deref(), Some("images[2].path"));
        }
        assert!(path("a.png ", "path", &limits, &mut findings).is_ok());
        assert!(path("17\\a.png", "path", &limits, &mut findings).is_ok());
        let reported: Vec<_> = findings.into_problems().into_iter().map(|problem| problem.reason).collect();
        assert_eq!(reported.len(), 2);
        assert!(reported[0].contains("ends with a space") && reported[1].contains("backslash"), "{reported:?}");
    }

    #[test]
    fn a_path_counts_with_the_folder_of_its_manifest() {
        let limits = ManifestBounds { max_path_bytes: 12, ..ManifestBounds::default() };
        let read = |folder, text| path(text, "path", &limits.within(folder), &mut Findings::default());
        assert!(read("", "17/front.jpg").is_ok());
        assert!(read("17", "front.jpg").is_ok());
        for (folder, text) in [("", "17/fronts.jpg"), ("17", "fronts.jpg"), ("", &"x".repeat(5000))] {
            let problem = read(folder, text).unwrap_err();
            assert!(problem.reason.contains("longer than 12 bytes"), "{problem:?}");
            assert_eq!(problem.reason.contains("manifest's folder"), !folder.is_empty(), "{problem:?}");
            assert!(problem.cure.contains("max_path_bytes"), "{problem:?}");
        }
    }
}
