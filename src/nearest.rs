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
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

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
