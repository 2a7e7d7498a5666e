//! Names for files that must not take another's place. Pure functions: what is taken is asked of the caller.

use std::path::Path;

/// The longest file name in bytes, on every file system that a drop is likely to be on.
pub const MAX_NAME_BYTES: usize = 255;

/// `name` with the number `n` before its last extension: `r.receipt.json` becomes `r.receipt.1.json`.
///
/// The number 0 leaves the name as it is. A leading dot begins no extension. The stem is shortened where the result
/// would be longer than [`MAX_NAME_BYTES`].
#[must_use]
pub fn numbered(name: &str, n: u32) -> String {
    if n == 0 {
        return name.to_owned();
    }
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str())
        // An extension this long is a sentence with a full stop in it, and would leave no room for the stem.
        .filter(|extension| !extension.is_empty() && extension.len() <= 32);
    match extension {
        Some(extension) => {
            let dotted = format!(".{extension}");
            let stem = name.strip_suffix(&dotted).unwrap_or(name);
            fit(stem, &format!(".{n}{dotted}"))
        }
        None => fit(name, &format!(".{n}")),
    }
}

/// The number with which [`numbered`] makes `found` of `name`; 0 where it does not.
#[must_use]
pub fn number_of(name: &str, found: &str) -> u32 {
    let parts = || found.rsplit('.').take(2).filter_map(|part| part.parse().ok());
    parts().find(|number| numbered(name, *number) == found).unwrap_or_default()
}

/// `stem` and then `suffix`, the stem shortened so that both fit into a file name.
#[must_use]
pub fn fit(stem: &str, suffix: &str) -> String {
    let mut stem = stem.to_owned();
    while !stem.is_empty() && stem.len() + suffix.len() > MAX_NAME_BYTES {
        stem.pop();
    }
    stem + suffix
}

/// A number that is not taken, if there is one; the lowest where the taken ones have no gaps.
///
/// A partner who sends the same name every minute takes half a million numbers a year, so they are not tried one by
/// one: the step doubles until a free number is found, and halves back to the lowest one.
pub(super) fn free_number<E>(mut taken: impl FnMut(u32) -> Result<bool, E>) -> Result<Option<u32>, E> {
    let (mut below, mut free) = (0, 0);
    while taken(free)? {
        if free == u32::MAX {
            return Ok(None);
        }
        below = free;
        free = free.saturating_mul(2).saturating_add(1);
    }
    while free.saturating_sub(below) > 1 {
        let middle = below + (free - below) / 2;
        if taken(middle)? {
            below = middle;
        } else {
            free = middle;
        }
    }
    Ok(Some(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_before_the_last_extension() {
        assert_eq!(numbered("r.receipt.json", 0), "r.receipt.json");
        assert_eq!(numbered("r.receipt.json", 2), "r.receipt.2.json");
        assert_eq!(numbered("front", 1), "front.1");
        assert_eq!(numbered(".done", 1), ".done.1");
        assert_eq!(numbered("a.", 1), "a..1");
    }

    #[test]
    fn a_number_is_read_back() {
        for name in ["r.receipt.json", "front", ".done", "a.", "a.7.json", &"ü".repeat(127)] {
            for number in [0, 1, 12] {
                assert_eq!(number_of(name, &numbered(name, number)), number, "{name}");
            }
            assert_eq!(number_of(name, "other.3.json"), 0);
        }
    }

    #[test]
    fn a_long_name_gives_way_to_its_number() {
        let long = format!("{}.json", "ü".repeat(125));
        let with_number = numbered(&long, 12);
        assert!(with_number.len() <= MAX_NAME_BYTES);
        assert!(with_number.ends_with("ü.12.json"), "{with_number}");
        assert!(fit(&"x".repeat(300), ".receipt.json").ends_with("x.receipt.json"));
    }

    #[test]
    fn the_next_number_is_found_in_few_steps() {
        for count in [0, 1, 2, 3, 7, 8, 1000, 1_000_000] {
            let mut asked = 0;
            let found = free_number::<()>(|n| {
                asked += 1;
                Ok(n < count)
            });
            assert_eq!(found, Ok(Some(count)));
            assert!(asked < 64, "{asked} questions");
        }
    }

    #[test]
    fn gaps_and_a_full_folder_do_no_harm() {
        let taken = [0, 1, 3];
        let found = free_number::<()>(|n| Ok(taken.contains(&n))).unwrap().unwrap();
        assert!(!taken.contains(&found));
        assert_eq!(free_number::<()>(|_| Ok(true)), Ok(None));
    }
}
