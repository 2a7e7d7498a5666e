//! A cure as the sender of a manifest can use it. Problems have one cure for everybody who reads them, in `check`, `jobs` and the
//! receipt; what of it only the operator can do is left out here.

/// Between two cures.
const BETWEEN: [&str; 7] = ["; or, ", "; or ", ", or ", ", else ", "; then use ", ", then use ", " or use "];

/// What only the operator can do: commands, settings, permissions.
const OPERATORS: [&str; 13] = [
    "retry",
    "release",
    "raise ",
    "set on_invalid",
    "layout",
    "the worker",
    "service's user",
    "in the configuration",
    "disk or mount",
    "given access",
    "the log",
    "work_dir",
    "see its receipt",
];

/// Where nothing is left.
const ASK: &str = "the receiver is informed; drop it again, with its files, when they say so";

/// The same cure without what is the operator's.
#[must_use]
pub fn sender_cure(cure: &str) -> String {
    let cure = cure.replace(" (refuse_warnings)", "");
    let (mut kept, mut rest, mut separator) = (String::new(), cure.as_str(), "");
    loop {
        let next =
            BETWEEN.iter().filter_map(|between| Some((rest.find(between)?, *between))).min_by_key(|(at, between)| {
                // Of two that begin at one place the longer one.
                (*at, usize::MAX - between.len())
            });
        let (part, after) = match next {
            Some((at, between)) => (rest.get(..at).unwrap_or_default(), rest.get(at + between.len()..)),
            None => (rest, None),
        };
        if !OPERATORS.iter().any(|word| part.contains(word)) {
            if !kept.is_empty() {
                kept.push_str(separator);
            }
            kept.push_str(part);
        }
        let (Some(after), Some((_, between))) = (after, next) else { break };
        (rest, separator) = (after, between);
    }
    if kept.is_empty() { ASK.to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partners were told to raise settings and to run commands.
    #[test]
    fn what_only_the_operator_can_do_is_left_out() {
        for (cure, expected) in [
            ("send the file again", "send the file again"),
            (
                "mend what the API names, then drop the entry again or use retry",
                "mend what the API names, then drop the entry again",
            ),
            ("once the API works again, use retry, or drop the entry again", "drop the entry again"),
            ("put the file back as it was and use retry, or drop the entry again", "drop the entry again"),
            (
                "have the key given access to this profile, or mend profile_id; then use retry, or drop the entry again",
                "mend profile_id, or drop the entry again",
            ),
            (
                "see whether the profile exists in this account, then use retry, or drop the entry again",
                "see whether the profile exists in this account, or drop the entry again",
            ),
            ("give the worker the right to read the file, or put it back, and retry", ASK),
            (
                "put the file back as it was and use `retry 5`; or, if what is there now is meant, drop the entry again with its sha256",
                "if what is there now is meant, drop the entry again with its sha256",
            ),
            ("nest it less deeply, or raise max_nesting of the drop", "nest it less deeply"),
            (
                "make it smaller, or divide it; images are named by their paths; or raise max_line_bytes of the drop",
                "make it smaller, or divide it; images are named by their paths",
            ),
            (
                "see whether a quote in it is not closed, else raise max_line_bytes of the drop",
                "see whether a quote in it is not closed",
            ),
            (
                "mend those, then drop the manifest again; or set on_invalid = \"skip\"",
                "mend those, then drop the manifest again",
            ),
            ("correct the profile, or add it to the drop's `profiles` in the configuration", "correct the profile"),
            ("name the sheet with the list as `sheet` in the layout", ASK),
            (
                "name each customer's files differently, or declare `sha256` in each manifest",
                "name each customer's files differently, or declare `sha256` in each manifest",
            ),
            ("look; such entries are not sent here (refuse_warnings)", "look; such entries are not sent here"),
            ("", ""),
        ] {
            let expected = if cure.is_empty() { ASK } else { expected };
            assert_eq!(sender_cure(cure), expected, "{cure}");
        }
    }
}
