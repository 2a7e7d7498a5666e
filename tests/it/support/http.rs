//! The daemon's own page: where it is served, and the numbers on it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// The address in the log's line about the page.
pub(crate) fn page_in(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("the page is served"))?;
    line.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
}

/// The status and the body of the answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The text of `/metrics`.
pub(crate) fn metrics(address: SocketAddr) -> String {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of a series; 0 where there is none.
pub(crate) fn value(metrics: &str, series: &str) -> f64 {
    let wanted = format!("passfort_ingest_{series} ");
    metrics.lines().find_map(|line| line.strip_prefix(&wanted)).map_or(0.0, |value| value.parse().unwrap())
}

/// The sum over all series of a name that have this label.
pub(crate) fn sum(metrics: &str, name: &str, label: &str) -> f64 {
    let wanted = format!("passfort_ingest_{name}{{");
    let lines = metrics.lines().filter(|line| line.starts_with(&wanted) && line.contains(label));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}
