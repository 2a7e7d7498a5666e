//! The commonest shapes of file names, where no list says what the files are.

use std::{collections::HashMap, ops::ControlFlow};

use super::{archive::ArchiveFolder, finding::LayoutError, pattern::Pattern, text::fold, words::known_side};
use crate::relative_path::split;

/// So many files are looked at, and so many shapes are kept.
const FILES: usize = 20_000;
const SHAPES: usize = 8;

/// A shape: a pattern, and what its captures are.
#[derive(Debug)]
pub(super) struct NameShape {
    pub(super) pattern: String,
    pub(super) count: usize,
    pub(super) example: String,
    pub(super) captures: Vec<(String, Vec<String>)>,
}

/// A piece of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// A number of so many digits.
    Digits(String),
    /// A word, or several with blanks or `_` between.
    Words(String),
    Side(String),
    Between(String),
}

/// Finds the commonest shapes of the pictures' names.
pub(super) fn find(archive: &ArchiveFolder<'_>) -> Result<Vec<NameShape>, LayoutError> {
    let mut shapes: HashMap<String, (usize, String)> = HashMap::new();
    let mut seen = 0;
    let mut paths = Vec::new();
    archive.walk(&mut |path| {
        seen += 1;
        if archive.is_picture(path) {
            paths.push(path.to_owned());
        }
        Ok(if seen < FILES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    // A folder that all files are in is text; one that differs is a part.
    let depth_of = |path: &String| path.matches('/').count();
    let mut folders: HashMap<(usize, usize), Option<String>> = HashMap::new();
    for path in &paths {
        let depth = depth_of(path);
        for (at, part) in split(path).0.split('/').enumerate().filter(|(_, part)| !part.is_empty()) {
            let same = folders.entry((depth, at)).or_insert_with(|| Some(part.to_owned()));
            if same.as_deref() != Some(part) {
                *same = None;
            }
        }
    }
    for path in &paths {
        let Some(pattern) = pattern_of(path, &folders) else { continue };
        let shape = shapes.entry(pattern).or_insert_with(|| (0, path.clone()));
        shape.0 += 1;
    }
    let mut shapes: Vec<_> = shapes.into_iter().collect();
    shapes.sort_by_key(|(pattern, (count, _))| (std::cmp::Reverse(*count), pattern.clone()));
    // One file alone has no shape.
    let common = shapes.iter().filter(|(_, (count, _))| *count > 1).count().max(1);
    shapes.truncate(common.min(SHAPES));
    // What says more comes first: the first pattern that fits counts.
    shapes.sort_by_key(|(pattern, (count, _))| {
        (std::cmp::Reverse(pattern.matches(":").count()), std::cmp::Reverse(*count))
    });
    let mut found = Vec::new();
    let mut left = paths;
    for (pattern, (_, example)) in shapes {
        let Ok(compiled) = Pattern::compile(&pattern) else { continue };
        let mut captures: Vec<(String, Vec<String>)> =
            compiled.names().map(|name| (name.to_owned(), Vec::new())).collect();
        let before = left.len();
        left.retain(|path| {
            let Some(own) = compiled.fits(path) else { return true };
            for (name, value) in own {
                if let Some((_, values)) = captures.iter_mut().find(|(known, _)| *known == name) {
                    values.push(value);
                }
            }
            false
        });
        let count = before - left.len();
        if count > 0 {
            found.push(NameShape { pattern, count, example, captures });
        }
    }
    Ok(found)
}

fn pattern_of(path: &str, folders: &HashMap<(usize, usize), Option<String>>) -> Option<String> {
    let (folder, name) = split(path);
    let (stem, _) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?;
    let depth = path.matches('/').count();
    let mut pattern = String::new();
    for (at, part) in folder.split('/').enumerate().filter(|(_, part)| !part.is_empty()) {
        match folders.get(&(depth, at)) {
            Some(Some(_)) => pattern.push_str(&escaped(part)),
            _ if at == 0 => pattern.push_str("{folder}"),
            _ => pattern.push_str(&format!("{{folder{}}}", at + 1)),
        }
        pattern.push('/');
    }
    let pieces = pieces(stem);
    let words = pieces.iter().filter(|piece| matches!(piece, Piece::Words(_))).count();
    let (mut numbers, mut named, mut has_page) = (0, 0, false);
    for piece in &pieces {
        match piece {
            Piece::Digits(digits) => {
                let length = digits.len();
                if length < 4 && !has_page {
                    // Short numbers count pages, and have as many digits as they need.
                    has_page = true;
                    pattern.push_str("{page:digits}");
                    continue;
                }
                numbers += 1;
                let name = if numbers == 1 { "number".to_owned() } else { format!("number{numbers}") };
                pattern.push_str(&format!("{{{name}:digits {length}}}"));
            }
            Piece::Words(_) => {
                named += 1;
                let name = if words == 1 || named == 1 { "kind".to_owned() } else { format!("word{named}") };
                pattern.push_str(&format!("{{{name}}}"));
            }
            Piece::Side(side) if side.len() > 1 => pattern.push_str("{side:front|back|face}"),
            Piece::Side(_) => pattern.push_str("{side:f|b}"),
            Piece::Between(text) if matches!(text.as_str(), " " | "_") => pattern.push_str("[ _]"),
            Piece::Between(text) => pattern.push_str(&escaped(text)),
        }
    }
    pattern.push_str(".{ext}");
    Some(pattern)
}

/// Text in which nothing means more than itself.
fn escaped(text: &str) -> String {
    text.chars().map(|letter| if "*?[{}]".contains(letter) { '?' } else { letter }).collect()
}

/// Takes a name apart: numbers, words, sides, and what is between.
fn pieces(stem: &str) -> Vec<Piece> {
    let mut tokens: Vec<Piece> = Vec::new();
    for letter in stem.chars() {
        let is_digit = letter.is_ascii_digit();
        match (tokens.last_mut(), is_digit, letter.is_alphabetic()) {
            (Some(Piece::Digits(text)), true, _) | (Some(Piece::Words(text)), _, true) => text.push(letter),
            (Some(Piece::Between(text)), false, false) => text.push(letter),
            (_, true, _) => tokens.push(Piece::Digits(letter.to_string())),
            (_, _, true) => tokens.push(Piece::Words(letter.to_string())),
            _ => tokens.push(Piece::Between(letter.to_string())),
        }
    }
    for token in &mut tokens {
        if let Piece::Words(word) = token
            && matches!(fold(word).as_str(), "front" | "back" | "face" | "f" | "b")
            && known_side(word).is_some()
        {
            *token = Piece::Side(std::mem::take(word));
        }
    }
    // "driving_licence" is one kind.
    let mut joined: Vec<Piece> = Vec::new();
    for token in tokens {
        if let [.., Piece::Words(one), Piece::Between(between)] = joined.as_mut_slice()
            && let Piece::Words(other) = &token
            && matches!(between.as_str(), " " | "_")
        {
            one.push_str(between);
            one.push_str(other);
            joined.pop();
            continue;
        }
        joined.push(token);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_patterns_by_digits_words_and_sides() {
        let none = HashMap::new();
        let pattern = |path| pattern_of(path, &none).unwrap();
        assert_eq!(
            pattern("00017_PASSPORT_F_20190203.tif"),
            "{number:digits 5}[ _]{kind}[ _]{side:f|b}[ _]{number2:digits 8}.{ext}"
        );
        assert_eq!(pattern("C-1/driving_licence_front.png"), "{folder}/{kind}[ _]{side:front|back|face}.{ext}");
        assert_eq!(pattern("C-1/utility bill 2019.pdf"), "{folder}/{kind}[ _]{number:digits 4}.{ext}");
    }
}
