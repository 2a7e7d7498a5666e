//! When two paths are the same to a person, and two to a program.
//!
//! Lists are written on Windows and macOS, in spreadsheets and mail programs, each of which changes names in its own way:
//! letter case, Unicode normal form, backslashes, blanks, percent signs, drives, typographic quotes.

use unicode_normalization::UnicodeNormalization as _;

use crate::{lookalike, problem::Problem, warning_kind::WarningKind};

/// The parts of a path, each in the form that near names have in common; `None` where it cannot lead to a file.
#[must_use]
pub(crate) fn parts(path: &str) -> Option<Vec<String>> {
    let path = path.replace('\\', "/");
    let drive = path.split_once(':').filter(|(drive, _)| matches!(drive.as_bytes(), [b'A'..=b'Z' | b'a'..=b'z']));
    let path = drive.map_or(path.as_str(), |(_, path)| path);
    let parts: Vec<_> = path.split('/').map(fold).filter(|part| !part.is_empty() && part != ".").collect();
    (!parts.is_empty() && parts.iter().all(|part| part != "..")).then_some(parts)
}

/// A name in the form that near names have in common.
#[must_use]
pub(crate) fn fold(name: &str) -> String {
    let plain = |character| match character {
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' | '\u{2039}' | '\u{203a}' | '\u{b4}' | '`' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' | '\u{ab}' | '\u{bb}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    };
    let decoded: String = percent_decoded(name).chars().map(plain).collect();
    let folded = lookalike::fold(&decoded);
    let unquoted = folded.trim_matches(['"', '\'', ' ']);
    unquoted.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether two paths differ in letter case and Unicode normal form alone.
#[must_use]
pub(crate) fn is_loosely(one: &str, other: &str) -> bool {
    let fold = |path: &str| path.nfc().flat_map(char::to_lowercase).nfc().collect::<String>();
    fold(one) == fold(other)
}

/// The warning about a file that was taken by another name than the written one.
#[must_use]
pub(crate) fn taken_by_near(written: &str, there: &str, field: &str) -> Problem {
    let reason = format!("there is no {}; {} was taken", spelt(written, there), spelt(there, written));
    let cure = "see whether it is the right one, and write its name in the list as it is on disk";
    Problem::warning_of(WarningKind::NearPath, reason, cure).field(field).path(there)
}

/// A name as it is, unless it looks just like the other one, or has something at an end that cannot be seen.
#[must_use]
pub(crate) fn spelt(name: &str, other: &str) -> String {
    if lookalike::fold(name) == lookalike::fold(other) && !name.eq_ignore_ascii_case(other) {
        lookalike::spelt(name)
    } else {
        name.to_owned()
    }
}

/// That no file has the written path, and which one does nearly.
#[must_use]
pub(crate) fn but_there(written: &str, there: &str) -> String {
    format!("there is no {}, but {} is there", spelt(written, there), spelt(there, written))
}

/// The name with `%20` and its like decoded, where that is text.
fn percent_decoded(name: &str) -> String {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.split_first_chunk().filter(|_| *first == b'%').and_then(|(digits, after)| {
            let digits: &[u8; 2] = digits;
            let code = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some((code, after))
        });
        let (byte, after) = code.unwrap_or((*first, after));
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8(decoded).unwrap_or_else(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_make_of_a_path_is_near_it() {
        for (one, other) in [
            ("17/front.jpg", "17/FRONT.JPG"),
            ("17\\front.jpg", "17/front.jpg"),
            ("M\u{fc}ller/a.png", "Mu\u{308}ller/a.png"),
            ("front%20side.png", "front side.png"),
            ("100%.png", "100%25.png"),
            ("M%C3%BCller.png", "M\u{fc}ller.png"),
            ("\u{201c}a.png\u{201d}", "a.png"),
            ("\"a.png\"", "a.png"),
            ("O\u{2019}Brien.png", "O'Brien.png"),
            (" a.png\u{a0}", "a.png"),
            ("a  b.png", "a b.png"),
            ("2020\u{2013}1.png", "2020-1.png"),
            ("./17//a.png", "17/a.png"),
            ("D:17\\a.png", "17/a.png"),
        ] {
            assert_eq!(parts(one), parts(other), "{one:?}");
            assert!(parts(one).is_some(), "{one:?}");
        }
        for (one, other) in [("a.png", "b.png"), ("17/a.png", "18/a.png"), ("a.png", "a.jpg"), ("ab.png", "a b.png")] {
            assert_ne!(parts(one), parts(other), "{one:?}");
        }
        assert_eq!((parts("../a.png"), parts("a/%2e%2e/b")), (None, None));
    }
}
