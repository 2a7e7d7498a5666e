//! Problems by their cause: how many there are of each, and the first of them.
//!
//! A list of a million rows with one fault in each has one thing wrong. Memory is bounded by the number of causes.

use std::collections::HashMap;

use serde::Serialize;

use crate::{
    problem::{Problem, Severity},
    warning_kind::WarningKind,
};

/// How many problems of a cause are shown.
pub(in crate::cli) const EXAMPLES: usize = 3;

/// How many causes are kept apart; what is more is counted together.
const MOST: usize = 200;

/// Problems that have one cause, as far as their words show.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct ProblemCause<E> {
    pub(in crate::cli) severity: Severity,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) kind: Option<WarningKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) code: Option<String>,
    /// What they have in common.
    pub(in crate::cli) reason: String,
    pub(in crate::cli) cure: String,
    pub(in crate::cli) count: u64,
    /// The first of them.
    pub(in crate::cli) examples: Vec<E>,
}

/// All causes so far, in the order in which they were first seen.
#[derive(Debug)]
pub(in crate::cli) struct ProblemCauses<E> {
    by_words: HashMap<String, usize>,
    causes: Vec<ProblemCause<E>>,
}

impl<E> Default for ProblemCauses<E> {
    fn default() -> Self {
        Self { by_words: HashMap::new(), causes: Vec::new() }
    }
}

impl<E> ProblemCauses<E> {
    /// Counts a problem; `example` makes what is shown of it.
    pub(in crate::cli) fn add(&mut self, problem: &Problem, example: impl FnOnce() -> E) {
        let name = problem.kind.map(WarningKind::as_str).or(problem.code.as_deref());
        // A kind or a code is the cause; the words around it name files and references.
        let words = match name {
            Some(name) => format!("{:?} {name}", problem.severity),
            None => format!("{:?} {}", problem.severity, in_common(&problem.reason, problem.path.as_deref())),
        };
        let at = match self.by_words.get(&words) {
            Some(at) => *at,
            None if self.causes.len() > MOST => self.causes.len().saturating_sub(1),
            None => {
                let is_last = self.causes.len() == MOST;
                let reason = if is_last {
                    "other reasons, too many to be listed".to_owned()
                } else {
                    in_common(&problem.reason, problem.path.as_deref())
                };
                self.causes.push(ProblemCause {
                    severity: problem.severity,
                    kind: problem.kind,
                    code: problem.code.as_deref().map(str::to_owned),
                    reason,
                    cure: problem.cure.clone(),
                    count: 0,
                    examples: Vec::new(),
                });
                let at = self.causes.len().saturating_sub(1);
                self.by_words.insert(words, at);
                at
            }
        };
        if let Some(cause) = self.causes.get_mut(at) {
            if cause.cure != problem.cure {
                cause.cure = in_common(&problem.cure, problem.path.as_deref());
            }
            cause.count = cause.count.saturating_add(1);
            if cause.examples.len() < EXAMPLES {
                cause.examples.push(example());
            }
        }
    }

    /// Errors first, and of each the most frequent.
    pub(in crate::cli) fn into_sorted(self) -> Vec<ProblemCause<E>> {
        let mut causes = self.causes;
        causes.sort_by_key(|cause| std::cmp::Reverse((cause.severity, cause.count)));
        causes
    }
}

/// The words that problems of one cause share: without what is quoted, the file's path, and numbers.
fn in_common(text: &str, path: Option<&str>) -> String {
    let text = match path.filter(|path| !path.is_empty()) {
        Some(path) => text.replace(path, "…"),
        None => text.to_owned(),
    };
    let mut common = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut after_word = false;
    while let Some(character) = rest.next() {
        match character {
            '"' => {
                let mut escaped = false;
                let closed = rest.clone().any(|character| {
                    let closes = character == '"' && !escaped;
                    escaped = character == '\\' && !escaped;
                    closes
                });
                if !closed {
                    common.push('"');
                    continue;
                }
                let mut escaped = false;
                for character in rest.by_ref() {
                    if character == '"' && !escaped {
                        break;
                    }
                    escaped = character == '\\' && !escaped;
                }
                common.push_str("\"…\"");
            }
            // `UTF-8`, `SHA-256` and the like are names.
            '0'..='9' if !after_word => {
                while rest.next_if(|next| next.is_ascii_digit() || *next == ',' || *next == '.').is_some() {}
                common.push('N');
            }
            other => common.push(other),
        }
        after_word = character.is_alphabetic() || (after_word && matches!(character, '-' | '0'..='9'));
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(problems: &[Problem]) -> Vec<(u64, String, usize)> {
        let mut causes = ProblemCauses::default();
        problems.iter().for_each(|problem| causes.add(problem, || ()));
        let causes = causes.into_sorted();
        causes.into_iter().map(|cause| (cause.count, cause.reason, cause.examples.len())).collect()
    }

    #[test]
    fn problems_that_differ_in_names_and_numbers_have_one_cause() {
        let mut problems: Vec<_> = (0..1000)
            .flat_map(|number| {
                [
                    Problem::error(format!("\"x \\\"{number}\" is not a UUID"), "write a UUID"),
                    Problem::error(format!("truncated: {number} of 7,000 bytes"), "send it again"),
                    Problem::error(format!("a/{number}.png is a folder"), "x").path(format!("a/{number}.png")),
                    Problem::error(format!("there is no {number}"), "x").code("near-name"),
                ]
            })
            .collect();
        problems.push(Problem::warning("the text is not UTF-8", "save it"));
        let found = of(&problems);
        let reasons: Vec<_> = found.iter().map(|(count, reason, shown)| (*count, reason.as_str(), *shown)).collect();
        assert_eq!(
            reasons,
            [
                (1000, "\"…\" is not a UUID", 3),
                (1000, "truncated: N of N bytes", 3),
                (1000, "… is a folder", 3),
                (1000, "there is no N", 3),
                (1, "the text is not UTF-8", 1),
            ]
        );
    }

    #[test]
    fn a_cure_is_shown_word_for_word_unless_it_differs() {
        let mut causes = ProblemCauses::default();
        for number in 0..2 {
            causes.add(&Problem::error("it is UTF-16 text", "choose \"CSV UTF-8\""), || ());
            causes.add(&Problem::error("unknown", format!("write \"{number}\"")), || ());
        }
        let cures: Vec<_> = causes.into_sorted().into_iter().map(|cause| cause.cure).collect();
        assert_eq!(cures, ["choose \"CSV UTF-8\"", "write \"…\""]);
    }

    #[test]
    fn more_causes_than_anybody_reads_are_counted_together() {
        let word = |number: u32| -> String {
            number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
        };
        let problems: Vec<_> = (0..1000).map(|number| Problem::error(word(number), "mend it")).collect();
        let found = of(&problems);
        assert_eq!((found.len(), found.iter().map(|(count, ..)| count).sum::<u64>()), (MOST + 1, 1000));
        assert_eq!((found[0].0, found[0].1.contains("other reasons")), (800, true));
    }
}
