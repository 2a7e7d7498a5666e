//! The host names under which the page answers.
//!
//! A browser sends the name that a person, or a page elsewhere, used. The owner of a name may point it at this machine
//! (DNS rebinding), and then only the name distinguishes their page from ours. An IP address cannot be pointed
//! anywhere.

use std::net::{IpAddr, SocketAddr};

use axum::{extract::Request, http::header};

/// Whether every name in the request is one of ours. A request without any, as old health checks send, comes from no
/// browser.
pub(super) fn is_ours(request: &Request, listen: SocketAddr) -> bool {
    let target = request.uri().authority().map(|authority| authority.as_str());
    let hosts = request.headers().get_all(header::HOST).into_iter().map(|value| value.to_str().unwrap_or_default());
    target.into_iter().chain(hosts).all(|host| is_known(host, listen))
}

fn is_known(host: &str, listen: SocketAddr) -> bool {
    let Some(name) = without_port(host) else { return false };
    if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        return true;
    }
    let Ok(address) = name.parse::<IpAddr>() else { return false };
    // Listening everywhere, it is reached by any of the machine's addresses.
    address.is_loopback() || address == listen.ip() || listen.ip().is_unspecified()
}

/// The name or address of `host`, `host:port`, or `[address]:port`.
fn without_port(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = rest.strip_prefix(':');
    (rest.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_ok())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(host: &str, listen: &str) -> bool {
        is_known(host, listen.parse().unwrap())
    }

    #[test]
    fn names_of_this_machine_and_the_configured_address_are_ours() {
        for host in
            ["localhost", "LOCALHOST:9480", "localhost.:1", "127.0.0.1", "127.0.0.1:9480", "[::1]:9480", "[::1]"]
        {
            assert!(known(host, "127.0.0.1:9480"), "{host}");
        }
        assert!(known("10.0.0.5:9480", "10.0.0.5:9480"));
        assert!(known("10.0.0.5:9480", "0.0.0.0:9480"));
    }

    #[test]
    fn names_that_somebody_else_can_own_are_not() {
        for host in [
            "evil.example",
            "evil.example:9480",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example@127.0.0.1",
            "10.0.0.5",
            "",
            "[::1",
            "[::1]x",
            "localhost:http",
            "localhost:9480:1",
        ] {
            assert!(!known(host, "127.0.0.1:9480"), "{host}");
        }
        assert!(!known("evil.example", "0.0.0.0:9480"));
    }

    #[test]
    fn every_name_in_a_request_must_be_ours() {
        let request = |uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            is_ours(&request.body(axum::body::Body::empty()).unwrap(), "127.0.0.1:9480".parse().unwrap())
        };
        assert!(request("/metrics", &["localhost:9480"]));
        assert!(request("/metrics", &[]));
        assert!(!request("/metrics", &["localhost", "evil.example"]));
        assert!(!request("http://evil.example/metrics", &["localhost"]));
    }
}
