//! How values, names and paths are compared.

use std::cmp::Ordering;

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

/// A value as it is compared: trimmed, in small letters, in one Unicode form.
pub(super) fn fold(text: &str) -> String {
    let text = text.trim();
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().flat_map(char::to_lowercase).nfc().collect()
}

/// The composed Unicode form, in which names are compared with patterns.
pub(super) fn composed(text: &str) -> String {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.to_owned(),
        _ => text.nfc().collect(),
    }
}

/// Natural order: numbers by their value, so that `2.tif` comes before `10.tif`.
pub(super) fn natural(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.chars().peekable(), other.chars().peekable());
    loop {
        let order = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return one.cmp(other),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let number = |from: &mut std::iter::Peekable<std::str::Chars<'_>>| {
                    let mut digits = String::new();
                    while let Some(digit) = from.next_if(char::is_ascii_digit) {
                        digits.push(digit);
                    }
                    let value = digits.trim_start_matches('0').to_owned();
                    (value.len(), value)
                };
                number(&mut left).cmp(&number(&mut right))
            }
            // A folder comes with all that is in it, before what only begins with its name.
            (Some(a), Some(b)) => {
                left.next();
                right.next();
                let key =
                    |letter: char| if letter == '/' { '\0' } else { letter.to_lowercase().next().unwrap_or(letter) };
                key(a).cmp(&key(b))
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A text of at least this many characters, with zeros before it.
pub(super) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{}{text}", "0".repeat(missing))
}

/// A cell in which a spreadsheet shows an error instead of a value.
pub(super) fn is_cell_error(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('#')
        && ["#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#GETTING_DATA", "#SPILL!", "#CALC!"]
            .iter()
            .any(|error| error.eq_ignore_ascii_case(text))
}

/// Endings of pictures and scans, also of kinds that the API refuses: they are named, and not passed over.
const PICTURES: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "gif", "tif", "tiff", "pdf", "bmp", "webp", "heic", "heif", "jp2"];

/// Whether a name is that of a picture; nothing where it has no ending that says so or not.
pub(super) fn is_picture_name(name: &str) -> Option<bool> {
    let (_, ending) = name.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    if PICTURES.contains(&ending.as_str()) {
        return Some(true);
    }
    let is_ending = (1..=5).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_ending.then_some(false)
}

/// Whether a file begins as pictures do.
pub(super) fn begins_as_picture(head: &[u8]) -> bool {
    [&b"\xFF\xD8\xFF"[..], b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"%PDF"].iter().any(|magic| head.starts_with(magic))
}

/// What a person is shown of a value.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("\"{}{dots}\"", short.escape_debug())
}

/// What a person is shown of many names: the first of them, and how many more there are.
pub(super) fn some_of<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 12;
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| quoted(name.as_ref())).collect();
    if let Some(more) = names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_value_and_folders_stay_together() {
        let mut names = ["a/10.tif", "a/2.tif", "a b/1.tif", "a/02.tif", "B/1.tif", "a/1.tif", "a1.tif"];
        names.sort_by(|one, other| natural(one, other));
        assert_eq!(names, ["a/1.tif", "a/02.tif", "a/2.tif", "a/10.tif", "a b/1.tif", "a1.tif", "B/1.tif"]);
    }

    #[test]
    fn values_are_equal_in_any_case_and_composition() {
        assert_eq!(fold(" FU\u{308}HRER "), fold("f\u{fc}hrer"));
        assert_eq!(fold("Straße"), fold("STRAßE"));
    }

    #[test]
    fn pictures_are_known_by_their_endings() {
        assert_eq!(is_picture_name("A.JPG"), Some(true));
        assert_eq!(is_picture_name("a.txt"), Some(false));
        assert_eq!(is_picture_name("885a740949c7f5dd"), None);
        assert_eq!(is_picture_name("no. 7 of them"), None);
    }
}
