//! Who may read the page: everybody on this machine, or whoever has the token.
//!
//! The page shows references, profiles and the API's words. Beyond loopback it is served only to who sends the token that
//! `[http] token_file` holds: programs as `Authorization: Bearer TOKEN`, browsers as the password of HTTP Basic, with any user.

use std::{fs, path::Path};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use sha2::{Digest as _, Sha256 as Hasher};

/// A token that is shorter can be guessed.
const SHORTEST: usize = 16;

/// What a request must show before it is answered. Only the token's digest is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageAccess {
    /// Everything is answered: nobody else reaches it.
    Loopback,
    /// Only what identifies nobody.
    NumbersOnly,
    /// The rest needs the token with this digest.
    Token([u8; 32]),
}

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permitted {
    Answer,
    /// Ask for the token.
    AskForToken,
    /// It is not served here at all.
    NotServed,
}

impl PageAccess {
    /// Reads the token, where one is configured.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or is too short; with what to do about it.
    pub(super) fn of(token_file: Option<&Path>, is_loopback: bool) -> Result<Self, String> {
        let Some(path) = token_file else { return Ok(if is_loopback { Self::Loopback } else { Self::NumbersOnly }) };
        let text = fs::read_to_string(path).map_err(|error| {
            format!(
                "cannot read [http] token_file {}: {error}: give the service's user the right to read it",
                path.display()
            )
        })?;
        let token = text.trim();
        if token.len() < SHORTEST {
            return Err(format!(
                "[http] token_file {} has fewer than {SHORTEST} characters: make one, e.g. with `openssl rand -hex 32`",
                path.display()
            ));
        }
        Ok(Self::Token(digest(token)))
    }

    pub(super) fn admits(&self, path: &str, headers: &HeaderMap) -> Permitted {
        // These name drops at most.
        if matches!(path, "/metrics" | "/healthz" | "/readyz") {
            return Permitted::Answer;
        }
        match self {
            Self::Loopback => Permitted::Answer,
            Self::NumbersOnly => Permitted::NotServed,
            Self::Token(wanted) => {
                let shown = headers.get_all(header::AUTHORIZATION).into_iter().filter_map(|value| value.to_str().ok());
                let fits = shown.filter_map(token_in).any(|token| is_same(&digest(&token), wanted));
                if fits { Permitted::Answer } else { Permitted::AskForToken }
            }
        }
    }
}

fn token_in(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    let text =
        scheme.eq_ignore_ascii_case("basic").then(|| base64::engine::general_purpose::STANDARD.decode(value.trim()))?;
    let text = String::from_utf8(text.ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

fn digest(token: &str) -> [u8; 32] {
    Hasher::digest(token.as_bytes()).into()
}

/// Compares all bytes, whatever the first ones are, so that the time says nothing.
fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let different = one.iter().zip(other).fold(0_u8, |sum, (one, other)| sum | (one ^ other));
    std::hint::black_box(different) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123";

    fn admitted(access: PageAccess, path: &str, authorization: Option<&str>) -> Permitted {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        access.admits(path, &headers)
    }

    #[test]
    fn beyond_loopback_only_numbers_are_served_without_the_token() {
        use Permitted::{Answer, AskForToken, NotServed};
        let token = PageAccess::Token(digest(TOKEN));
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        for open in ["/metrics", "/healthz", "/readyz"] {
            for access in [PageAccess::Loopback, PageAccess::NumbersOnly, token] {
                assert_eq!(admitted(access, open, None), Answer);
            }
        }
        for path in ["/", "/status.json", "/jobs.json", "/job/1", "/page.js", "/metrics/", "/search", "//metrics"] {
            assert_eq!(admitted(PageAccess::Loopback, path, None), Answer);
            assert_eq!(admitted(PageAccess::NumbersOnly, path, Some(&format!("Bearer {TOKEN}"))), NotServed);
            let table = [
                (None, AskForToken),
                (Some(format!("Bearer {TOKEN}")), Answer),
                (Some(format!("bearer  {TOKEN}")), Answer),
                (Some(basic(&format!("anybody:{TOKEN}"))), Answer),
                (Some(basic(&format!(":{TOKEN}"))), Answer),
                (Some(basic(TOKEN)), AskForToken),
                (Some(basic(&format!("{TOKEN}:"))), AskForToken),
                (Some(format!("Bearer {}", TOKEN.trim_start_matches('0'))), AskForToken),
                (Some(format!("Bearer {TOKEN}0")), AskForToken),
                (Some("Bearer ".to_owned()), AskForToken),
                (Some("Basic %%%".to_owned()), AskForToken),
                (Some(TOKEN.to_owned()), AskForToken),
            ];
            for (authorization, wanted) in table {
                assert_eq!(admitted(token, path, authorization.as_deref()), wanted, "{authorization:?}");
            }
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_or_not_read_is_a_mistake_in_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(PageAccess::of(Some(&path), false).unwrap_err().contains("cannot read [http] token_file"));
        fs::write(&path, "short\n").unwrap();
        assert!(PageAccess::of(Some(&path), true).unwrap_err().contains("fewer than 16"));
        fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert_eq!(PageAccess::of(Some(&path), true).unwrap(), PageAccess::Token(digest(TOKEN)));
        assert_eq!(PageAccess::of(None, true).unwrap(), PageAccess::Loopback);
        assert_eq!(PageAccess::of(None, false).unwrap(), PageAccess::NumbersOnly);
    }
}
