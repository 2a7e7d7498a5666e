//! Sorts the HTTP library's errors into faults, by type and never by text.

use std::{error::Error, io};

use crate::{exchange::Fault, printable::escape};

/// The longest description that is kept, in characters.
const LONGEST_TEXT: usize = 300;

/// How the libraries' outer errors begin; only for what is shown, never for what is decided.
const GENERIC: [&str; 3] = ["error sending request", "builder error", "client error ("];

/// What kind of fault an error of sending is.
pub(super) fn classify(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let text = describe(&error);
    if error.is_dns() {
        Fault::Resolve(text)
    } else if error.is_connect() {
        if is_tls(&error) { Fault::Tls(text) } else { Fault::Connect(text) }
    } else if error.is_builder() {
        Fault::Local(text)
    } else {
        Fault::Reset(text)
    }
}

/// The causes of an error in one line, without the libraries' own first words, which only say that sending failed.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string();
        // Many wrappers repeat what they wrap.
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
    }
    let generic = texts.iter().take(2).take_while(|text| GENERIC.iter().any(|words| text.starts_with(words))).count();
    if generic < texts.len() {
        texts.drain(..generic);
    }
    escape(texts.join(": ").trim_end()).chars().take(LONGEST_TEXT).collect()
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<rustls::Error>() || cause.downcast_ref().is_some_and(wraps_tls))
}

/// An I/O error does not name what it wraps as its source, and the TLS connector wraps twice.
fn wraps_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>() || inner.downcast_ref().is_some_and(wraps_tls))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: String,
        #[source]
        source: Option<Box<Self>>,
    }

    fn layers(texts: &[&str]) -> Option<Box<Layer>> {
        let (text, rest) = texts.split_first()?;
        Some(Box::new(Layer { text: (*text).to_owned(), source: layers(rest) }))
    }

    #[test]
    fn a_description_names_each_cause_once_and_is_bounded() {
        assert_eq!(
            describe(&*layers(&["error sending request", "client error (Connect)", "no route", "no route"]).unwrap()),
            "no route"
        );
        assert_eq!(describe(&*layers(&["a", "b", "c\n"]).unwrap()), "a: b: c");
        assert_eq!(describe(&*layers(&["builder error"]).unwrap()), "builder error");
        assert_eq!(describe(&*layers(&["x".repeat(1000).as_str()]).unwrap()).len(), LONGEST_TEXT);
    }

    #[test]
    fn a_tls_error_is_found_inside_an_io_error() {
        let error = io::Error::other(rustls::Error::DecryptError);
        assert!(is_tls(&error));
        assert!(is_tls(&io::Error::other(error)));
        assert!(!is_tls(&io::Error::other("decrypt error")));
    }
}
