//! Patterns of paths and values: text, `*`, `?`, `[ _]`, `**`, and captures.

use regex_automata::{meta::Regex, util::syntax};

use super::text::composed;

/// A pattern that a whole path, or value, fits or not.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    names: Vec<String>,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn compile(pattern: &str) -> Result<Self, String> {
        let mut names = Vec::new();
        let mut regex = String::from("^(?:");
        translate(&composed(pattern), &mut regex, Some(&mut names))?;
        regex.push_str(")$");
        let config = syntax::Config::new().case_insensitive(true).dot_matches_new_line(true);
        let regex = Regex::builder()
            .syntax(config)
            .configure(Regex::config().nfa_size_limit(Some(4 << 20)))
            .build(&regex)
            .map_err(|error| format!("the pattern cannot be used: {error}"))?;
        Ok(Self { regex, names })
    }

    /// The names of its captures, each once.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names
            .iter()
            .enumerate()
            .filter(|(at, name)| !self.names.iter().take(*at).any(|other| other == *name))
            .map(|(_, name)| name.as_str())
    }

    /// The captures, where the whole text fits.
    pub(super) fn fits(&self, text: &str) -> Option<Vec<(String, String)>> {
        let text = composed(text);
        let mut captures = self.regex.create_captures();
        self.regex.captures(&text, &mut captures);
        if !captures.is_match() {
            return None;
        }
        let mut found: Vec<(String, String)> = Vec::new();
        for (at, name) in self.names.iter().enumerate() {
            let value = captures.get_group(at + 1).and_then(|span| text.get(span.range())).unwrap_or_default();
            match found.iter().find(|(other, _)| other == name) {
                // One name twice means one value twice.
                Some((_, other)) if other.to_lowercase() != value.to_lowercase() => return None,
                Some(_) => {}
                None => found.push((name.clone(), value.to_owned())),
            }
        }
        Some(found)
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(composed(text).as_str())
    }
}

/// Writes a pattern as a regular expression; without `names`, captures are not allowed.
fn translate(pattern: &str, regex: &mut String, mut names: Option<&mut Vec<String>>) -> Result<(), String> {
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        let after = rest.get(letter.len_utf8()..).unwrap_or_default();
        rest = match letter {
            '*' if after.starts_with("*/") => {
                regex.push_str("(?:.*/)?");
                after.get(2..).unwrap_or_default()
            }
            '*' if after.starts_with('*') => {
                regex.push_str(".*");
                after.get(1..).unwrap_or_default()
            }
            '*' => {
                regex.push_str("[^/]*?");
                after
            }
            '?' => {
                regex.push_str("[^/]");
                after
            }
            '[' => {
                let (set, after) = after.split_once(']').ok_or("a '[' has no ']'")?;
                if set.is_empty() {
                    return Err("'[]' allows nothing: write the letters between the brackets".into());
                }
                regex.push('[');
                for letter in set.chars() {
                    if letter.is_ascii_punctuation() && letter != '-' {
                        regex.push('\\');
                    }
                    regex.push(letter);
                }
                regex.push(']');
                after
            }
            '{' => {
                let (capture, after) = after.split_once('}').ok_or("a '{' has no '}'")?;
                let names = names.as_deref_mut().ok_or("a capture within a capture")?;
                let (name, form) = capture.split_once(':').map_or((capture, None), |(name, form)| (name, Some(form)));
                let name = name.trim();
                if name.is_empty() {
                    return Err("a capture needs a name: {name}".into());
                }
                names.push(name.to_owned());
                regex.push('(');
                form_of(form.unwrap_or("*"), form.is_none(), regex)?;
                regex.push(')');
                after
            }
            other => {
                if other.is_ascii_punctuation() {
                    regex.push('\\');
                }
                regex.push(other);
                after
            }
        };
    }
    Ok(())
}

/// What a capture may be.
fn form_of(form: &str, any: bool, regex: &mut String) -> Result<(), String> {
    if any {
        regex.push_str("[^/]+?");
        return Ok(());
    }
    if let Some(count) = form.strip_prefix("digits").filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
        match count.trim() {
            "" => regex.push_str("[0-9]+"),
            count => {
                let count: u16 = count.parse().map_err(|_| format!("'digits {count}' needs a number"))?;
                regex.push_str(&format!("[0-9]{{{count}}}"));
            }
        }
        return Ok(());
    }
    regex.push_str("(?:");
    for (at, one) in form.split('|').enumerate() {
        if at > 0 {
            regex.push('|');
        }
        translate(one, regex, None)?;
    }
    regex.push(')');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captures(pattern: &str, text: &str) -> Option<Vec<String>> {
        let pattern = Pattern::compile(pattern).unwrap();
        pattern.fits(text).map(|found| found.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn whole_paths_fit_in_any_letter_case() {
        let pattern = "{customer}/{kind:passport|driving licence}[ _]{side:front|back}.{ext}";
        let wanted = ["customer=C-1", "kind=Passport", "side=FRONT", "ext=JPG"].map(str::to_owned).to_vec();
        assert_eq!(captures(pattern, "C-1/Passport_FRONT.JPG"), Some(wanted));
        assert_eq!(captures(pattern, "C-1/passport_front (2).jpg"), None);
        assert_eq!(captures(pattern, "a/C-1/passport_front.jpg"), None);
    }

    #[test]
    fn digits_globs_and_repeated_names() {
        assert!(captures("{a:digits 5}_{k}.tif", "00017_X.tif").is_some());
        assert!(captures("{a:digits 5}_{k}.tif", "0017_X.tif").is_none());
        assert!(captures("**/{c:CUST-*}/*.{e}", "2019/a/CUST-17/x.tif").is_some());
        assert!(captures("**/*.xml", "a.xml").is_some());
        assert!(captures("{c}/{c}_{n}.tif", "17/17_1.tif").is_some());
        assert!(captures("{c}/{c}_{n}.tif", "17/18_1.tif").is_none());
        assert!(captures("a.tif", "a-tif").is_none());
        assert!(captures("{n}-{m}", "K\u{f6}ln-fu\u{308}r").is_some());
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused() {
        for pattern in ["{", "[a", "{}", "[]", "{a:digits x}"] {
            assert!(Pattern::compile(pattern).is_err(), "{pattern}");
        }
    }
}
