//! Who gives a command, and in which words, for the record of what people did.

use std::env;

use nix::unistd::{User, getuid};

use crate::{printable::shell_word, queue::acts::Caller};

/// The longest that is kept of a command, in characters.
const LONGEST: usize = 1000;

/// The person at the keyboard: who called `sudo`, else the process's user.
pub(super) fn caller() -> Caller {
    let sudo = env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    let who = sudo.unwrap_or_else(|| {
        let user = getuid();
        match User::from_uid(user) {
            Ok(Some(found)) => found.name,
            Ok(None) | Err(_) => format!("user {user}"),
        }
    });
    Caller { who, words: in_words(env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())) }
}

fn in_words(words: impl Iterator<Item = String>) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "-_=.,:/@+%".contains(character);
    let words: Vec<String> = words
        .map(|word| if !word.is_empty() && word.chars().all(is_plain) { word } else { shell_word(&word) })
        .collect();
    words.join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_as_they_can_be_given_again() {
        let words = ["retry", "--error", "HTTP 403", "--drop=a", "it's", ""].map(str::to_owned);
        assert_eq!(in_words(words.into_iter()), "retry --error 'HTTP 403' --drop=a 'it'\\''s' ''");
    }

    #[test]
    fn somebody_has_a_name() {
        assert!(!caller().who.is_empty());
    }
}
