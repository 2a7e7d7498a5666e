//! Black-box tests: the real program, real files, and real sockets, against the stand-in for the API.
//!
//! They assert what a user would notice, as the interface promises it: receipts, where files end up, exit codes, and
//! what the API was sent. They know nothing of how the program works inside; its unit tests do. Only `layers` reads the
//! sources, and checks them against the tables in ARCHITECTURE.md.
//!
//! Each test has its own folders, database, stand-in, and processes, so that they run side by side. Nothing waits for
//! a fixed time: a condition is polled, and a deadline fails the test.
//!
//! `tests/README.md` says what each folder is about, and which suite a new fault belongs to.

// The modules are marked as tests so that the lints for tests hold for their helpers too.
#[cfg(test)]
mod ci;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod drops;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod model;
#[cfg(test)]
mod names;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod support;
