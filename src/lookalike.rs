//! When two references look the same to a person, and are two to a program.

use unicode_normalization::UnicodeNormalization;

/// The form that references have in common where they are equal but for Unicode normal form, letter case, invisible
/// characters, kinds of blanks, and outer blanks.
#[must_use]
pub(crate) fn fold(reference: &str) -> String {
    if reference.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase() || byte.is_ascii_punctuation()) {
        return reference.to_owned();
    }
    let plain: String = reference
        .nfd()
        .filter(|character| !is_invisible(*character))
        .map(|character| if character.is_whitespace() { ' ' } else { character })
        .collect();
    // Through the upper case, in which more letters are one: ß and SS, ς and σ.
    plain.trim().to_uppercase().to_lowercase().nfc().collect()
}

/// Characters that are displayed as nothing: Unicode's `Default_Ignorable_Code_Point`.
const fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A reference for people, in which its characters can be told apart.
#[must_use]
pub(crate) fn spelt(reference: &str) -> String {
    let mut spelt: String = reference.chars().take(60).flat_map(char::escape_debug).collect();
    if reference.chars().nth(60).is_some() {
        spelt.push('…');
    }
    format!("\"{spelt}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_is_the_same() {
        for (one, other) in [
            ("M\u{fc}ller-1", "Mu\u{308}ller-1"),
            ("case/17", "Case/17"),
            ("STRASSE", "straße"),
            ("17\u{200b}", "17"),
            ("a\u{ad}b\u{feff}", "ab"),
            ("\u{a0}17 ", "17"),
            ("a\u{a0}b", "a b"),
            ("ΣΑΣ", "σας"),
        ] {
            assert_eq!(fold(one), fold(other), "{one:?}");
        }
        for (one, other) in [("17", "l7"), ("a-b", "a_b"), ("a b", "ab"), ("é", "e"), ("0", "O")] {
            assert_ne!(fold(one), fold(other), "{one:?}");
        }
        assert_ne!(spelt("M\u{fc}ller"), spelt("Mu\u{308}ller"));
        assert_eq!(spelt("a\u{200b}"), "\"a\\u{200b}\"");
    }
}
