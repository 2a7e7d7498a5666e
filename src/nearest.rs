//! Finds the known word that a mistyped one was probably meant to be.

/// The word of `known` that is nearest to `word`, if any is near enough to be worth naming.
///
/// Letter case, `-` and `_` count as nothing, so `Profile-ID` finds `profile_id`.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(word);
    // Long words make the distance quadratic, and no key that we know is long.
    if wanted.chars().count() > 64 {
        return None;
    }
    known
        .into_iter()
        .filter_map(|candidate| Some((likeness(&wanted, &plain(candidate), 0.5)?, candidate)))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// How like two words are, up to 1, where that is at least `least`.
#[must_use]
pub fn likeness(one: &str, other: &str, least: f64) -> Option<f64> {
    // The distance is at least the number of letters that only one of them has, which tells most words apart.
    let letters = |word: &str| {
        let each = |(set, length): (u64, u32), letter: char| (set | 1 << (u32::from(letter) % 64), length + 1);
        word.chars().fold((0, 0), each)
    };
    let ((one_set, one_length), (other_set, other_length)) = (letters(one), letters(other));
    let only_one = (one_set & !other_set).count_ones().max((other_set & !one_set).count_ones());
    let distance = only_one.max(one_length.abs_diff(other_length));
    if 1.0 - f64::from(distance) / f64::from(one_length.max(other_length).max(1)) < least {
        return None;
    }
    Some(strsim::normalized_damerau_levenshtein(one, other)).filter(|likeness| *likeness >= least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{likeness, nearest};

    proptest! {
        #[test]
        fn what_is_told_apart_by_its_letters_is_not_alike(one in "[a-dé]{0,8}", other in "[a-dé]{0,8}") {
            let whole = strsim::normalized_damerau_levenshtein(&one, &other);
            prop_assert_eq!(likeness(&one, &other, 0.5), Some(whole).filter(|likeness| *likeness >= 0.5));
        }
    }

    #[test]
    fn a_slip_finds_its_word() {
        assert_eq!(nearest("profil_id", ["profile_id", "reference"]), Some("profile_id"));
        assert_eq!(nearest("Profile-ID", ["profile_id", "reference"]), Some("profile_id"));
        assert_eq!(nearest("PASPORT", ["PASSPORT", "VISARD"]), Some("PASSPORT"));
    }

    #[test]
    fn a_word_that_is_like_nothing_finds_nothing() {
        assert_eq!(nearest("zzz", ["profile_id", "reference"]), None);
        assert_eq!(nearest(&"a".repeat(100_000), ["profile_id"]), None);
    }
}
