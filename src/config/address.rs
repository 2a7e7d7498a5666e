//! The address of an API or a proxy, checked, and never shown with the password that may be part of it.
//!
//! Not for names that a file or a manifest brings: an [`Address`] comes from the configuration alone.

use std::{fmt, net::IpAddr};

use reqwest::Url;

/// An `http` or `https` address without a slash at its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Reads an address; a slash at its end is dropped.
    ///
    /// # Errors
    ///
    /// The reason as a lower-case fragment. It never quotes the address, which may contain a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|fault| format!("it is not an address: {fault}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the address starts neither with https:// nor with http://".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the address names no host".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the address has a '?' or '#' part, which requests would lose".to_owned());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// The address in the vendor's guide, which is the default.
    pub(super) fn guide() -> Self {
        Self(super::Api::DEFAULT_BASE_URL.to_owned())
    }

    /// The address as it is used, with a password if it has one: for requests, not for people.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether what is sent there can be read on its way: plain `http` to another machine.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        Url::parse(&self.0).map_or(true, |url| url.scheme() != "https" && !is_loopback(&url))
    }

    /// Whether the address carries a user name or a password.
    #[must_use]
    pub fn has_userinfo(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Address {
    /// The address for people: user name and password are masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_userinfo() {
            return f.write_str(&self.0);
        }
        let masked = Url::parse(&self.0).ok().and_then(|mut url| {
            url.set_username("***").ok()?;
            url.set_password(Some("***")).ok()?;
            Some(url.as_str().trim_end_matches('/').to_owned())
        });
        f.write_str(masked.as_deref().unwrap_or("***"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_no_slash_at_its_end() {
        assert_eq!(Address::parse("https://api.passfort.com/4.0/").unwrap().as_str(), "https://api.passfort.com/4.0");
        assert_eq!(Address::parse("http://127.0.0.1:9999").unwrap().as_str(), "http://127.0.0.1:9999");
    }

    #[test]
    fn the_default_is_written_as_it_would_be_read() {
        assert_eq!(Address::parse(super::super::Api::DEFAULT_BASE_URL), Ok(Address::guide()));
    }

    #[test]
    fn what_no_request_could_use_is_refused() {
        for text in ["", "api.passfort.com/4.0", "ftp://a/", "https://", "https://a/4.0?key=1", "https://a/#b"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_plain_http_to_another_machine_is_exposed() {
        for text in ["https://a.example", "http://localhost:1", "http://127.9.9.9/x", "http://[::1]:80"] {
            assert!(!Address::parse(text).unwrap().is_exposed(), "{text}");
        }
        for text in ["http://a.example", "http://localhost.example", "http://10.0.0.1", "http://127.0.0.1.example"] {
            assert!(Address::parse(text).unwrap().is_exposed(), "{text}");
        }
    }

    #[test]
    fn a_password_is_used_but_never_shown() {
        let address = Address::parse("http://user:hunter2@proxy.example:3128").unwrap();
        assert_eq!(address.as_str(), "http://user:hunter2@proxy.example:3128");
        assert_eq!(address.to_string(), "http://***:***@proxy.example:3128");
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}
