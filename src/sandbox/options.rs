//! How a sandbox is set up: what it listens on, whom it lets in, and where it may answer as the real API might.
//!
//! Where no public source says how the API behaves, there is a switch here, so that both ways can be rehearsed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{faults::FaultRule, limits::LimitRule, operation::FileReadMethod};
use crate::entry::ProfileId;

/// The settings of a sandbox; [`Options::default`] is a plain, well-behaved one on a free port.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; anything but loopback is refused.
    pub listen: SocketAddr,
    /// The prefix of every call, without a slash at its end.
    pub base_path: String,
    /// The accepted values of the `apikey` header.
    pub keys: Vec<String>,
    /// The only profiles that exist; where empty, every UUID is one.
    pub profiles: Vec<ProfileId>,
    /// The only categories of documents; where empty, every text is one.
    pub categories: Vec<String>,
    /// The largest image or file, in bytes before Base64.
    pub max_image_bytes: u64,
    /// How long every answer is kept back after its call has taken effect.
    pub latency: Duration,
    /// Where the dice for `p=` start; the same seed and order of calls give the same faults.
    pub seed: u64,
    /// Where each call is appended as a line of JSON.
    pub ledger: Option<PathBuf>,
    /// How many calls are kept in memory, the latest; the counts of the summary continue beyond it.
    pub kept_calls: usize,
    /// What goes wrong, and when.
    pub faults: Vec<FaultRule>,
    /// How many calls are let through.
    pub limits: Vec<LimitRule>,
    /// How long a created document stays invisible to reads.
    pub visible_after: Duration,
    /// The certificate chain and the key, both as PEM files; with them, the sandbox speaks HTTPS only.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How lists of images are wrapped.
    pub list_shape: ListShape,
    /// The status of an answer that created something: 200, or 201.
    pub created_status: u16,
    /// Where the `id` is in records.
    pub id_order: IdOrder,
    /// Which id an image gets.
    pub image_ids: ImageIds,
    /// Which methods read a file.
    pub file_read_method: FileReadMethod,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            base_path: "/4.0".to_owned(),
            keys: vec!["test".to_owned()],
            profiles: Vec::new(),
            categories: Vec::new(),
            max_image_bytes: 50_000_000,
            latency: Duration::ZERO,
            seed: 0,
            ledger: None,
            kept_calls: 100_000,
            faults: Vec::new(),
            limits: Vec::new(),
            visible_after: Duration::ZERO,
            tls: None,
            list_shape: ListShape::default(),
            created_status: 200,
            id_order: IdOrder::default(),
            image_ids: ImageIds::default(),
            file_read_method: FileReadMethod::default(),
        }
    }
}

/// How a list of images is answered: public sources show the array, a wrapping object is thinkable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ListShape {
    /// A bare array of records.
    #[default]
    Bare,
    /// An object: `{"document_images": […]}`.
    Wrapped,
}

/// Where the `id` of a record is: at its beginning, or after everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum IdOrder {
    /// `{"id": …, "name": …}`
    #[default]
    First,
    /// `{"name": …, "id": …}`
    Last,
}

/// Which id an image gets: no public source says that the same content is not the same image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ImageIds {
    /// One of its own, however often its content comes.
    #[default]
    Fresh,
    /// That of the image with the same content and type on the same profile, where there is one.
    ByContent,
}
