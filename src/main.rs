//! The program `passfort-ingest`.

fn main() {}
