//! The harness: a site with folders and a sandbox, processes with deadlines, images, and audits.
//!
//! No test is in here.

mod audit;
mod http;
mod images;
mod process;
mod promises;
mod site;

pub(crate) use self::{
    audit::{assert_sent_once_or_lost, counted_leftovers, leftovers, sha256},
    http::{get, metrics, page_in, sum, value},
    images::{Format, image, padded},
    process::{Daemon, Finished, wait_until},
    promises::{assert_promised, promise, promises},
    site::{Builder, Site, entry, is_mark, is_receipt, is_text, profile, read_receipt, rename},
};
