//! The calls that the worker makes, each as one method that returns an [`Exchange`].
//!
//! It never repeats a call and follows no redirect. Invariants: the key is only in a header that is marked sensitive;
//! `collected_data` is never posted to, because that replaces all of a profile's data; HTTP/1.1 only, because one
//! HTTP/2 connection shares its flow control among uploads.

use std::{
    fs::File,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use reqwest::{
    Body, Certificate, Method, Proxy, RequestBuilder, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    body::{BeforeLast, BytesBody, FileBody, Head},
    fault::describe,
    own_key::OwnKey,
    sieve::Sieve,
    transfer::{Keep, LIST_ANSWER_BYTES, SINGLE_ANSWER_BYTES, Timeouts, run},
};
use crate::{
    entry::{ImageType, ProfileId},
    exchange::{Answer, Ending, Exchange},
    extracted_data::ExtractedData,
    operation::Operation,
};

/// How long an idle connection is kept: gateways commonly close theirs after 60 s, and a call on a connection that is
/// just being closed is a lost answer.
const IDLE: Duration = Duration::from_secs(20);

/// The longest that any timeout can be, so that adding them to a moment never overflows.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// How much later than our own watch the kernel gives up on bytes that nobody takes, because ours knows better words.
const KERNEL_GRACE: Duration = Duration::from_secs(5);

/// The largest file of certificates that is read; a system's complete bundle has about 250 KB.
const LARGEST_CA_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// What a client needs to know. It has no `Debug`, because a proxy's address can hold a password.
#[derive(Clone)]
pub struct ClientSettings {
    /// The API's address with its path, e.g. `https://api.passfort.com/4.0`.
    pub base_url: String,
    /// The account's key.
    pub key: SecretString,
    /// For name, connection and TLS together.
    pub connect_timeout: Duration,
    /// For how long a server may take nothing of a body.
    pub stall_timeout: Duration,
    /// How long a server that has the complete request may take to answer.
    pub response_timeout: Duration,
    /// PEM certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A proxy for every call; without it, the environment's counts, except for a loopback `base_url`.
    pub proxy: Option<String>,
    /// Whether `data` is a data URI rather than bare Base64.
    pub data_uri: bool,
    /// How many calls are made at once at most, so that as many connections are kept.
    pub max_connections_hint: usize,
}

/// Why there is no client. Each is for an operator to cure; none holds the key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error("api.base_url is unusable: {0}; give an address like https://api.passfort.com/4.0")]
    BaseUrl(String),
    /// The key cannot be sent in a header.
    #[error("the API key is empty or has characters that a header cannot hold; check that its file has the key alone")]
    Key,
    /// The certificates cannot be read.
    #[error("api.ca_file {path} is unusable: {reason}; it must hold PEM certificates")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The proxy's address is not one.
    #[error("api.proxy is unusable; give an address like http://proxy.example:3128")]
    Proxy,
    /// The library found no way to make one; in practice, the system has no certificates.
    #[error("cannot make an HTTPS client: {0}; install the package ca-certificates, or set api.ca_file")]
    Build(String),
}

/// A file that is to be uploaded: opened, checked, and read again from this handle.
pub struct UploadSource {
    /// The open file; read from its start, whatever its position.
    pub file: File,
    /// Its size, as checked.
    pub bytes: u64,
    /// The XXH3-64 of its bytes with `seed`, as checked.
    pub checksum: u64,
    /// The seed of `checksum`.
    pub seed: u64,
    /// Its media type, e.g. `image/png`; only used where `data` is a data URI.
    pub media_type: &'static str,
    /// Called before its last piece is sent; until then the API certainly does not have all of it.
    pub before_last: Option<BeforeLast>,
}

/// A document that is to be created. Nothing else may be in the request (guide: other fields are refused).
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentRequest {
    /// For example `PROOF_OF_IDENTITY`.
    pub category: String,
    /// For example `PASSPORT`.
    pub document_type: String,
    /// The images' ids, as the API gave them.
    pub image_ids: Vec<String>,
    /// Passed on as it is.
    pub extracted_data: Option<ExtractedData>,
}

#[derive(Serialize)]
struct WireDocument<'a> {
    category: &'a str,
    document_type: &'a str,
    images: Vec<WireImage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extracted_data: Option<&'a ExtractedData>,
}

#[derive(Serialize)]
struct WireImage<'a> {
    id: &'a str,
}

impl DocumentRequest {
    fn to_wire(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&WireDocument {
            category: &self.category,
            document_type: &self.document_type,
            images: self.image_ids.iter().map(|id| WireImage { id }).collect(),
            extracted_data: self.extracted_data.as_ref(),
        })
    }
}

/// Nearly all lists are shorter, or what is kept of them.
const ORDINARY_LIST_BYTES: usize = 1024 * 1024;

/// Of longer ones, the process holds one at a time: sixteen at once took 519 MB.
static LARGE_LISTS: Semaphore = Semaphore::const_new(1);

/// The right to hold a list of more than `ORDINARY_LIST_BYTES`; kept for as long as the list is.
#[derive(Debug)]
pub struct LargeList {
    _permit: SemaphorePermit<'static>,
}

/// A list as it was answered, with the right to hold it where it is long.
#[derive(Debug)]
pub struct ListExchange {
    /// The call.
    pub exchange: Exchange,
    /// The right to hold what it gave.
    pub large: Option<LargeList>,
}

/// Chooses the cryptography of TLS, which has to be done once before any client is made.
pub(super) fn install_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only where somebody else has installed one, which then serves as well.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client for one account. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: Url,
    timeouts: Timeouts,
    data_uri: bool,
    own_key: Arc<OwnKey>,
}

impl Client {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Where a setting is unusable or the system has no certificates; the text names the cure.
    pub fn new(settings: &ClientSettings) -> Result<Self, ClientError> {
        install_provider();
        let base_url = read_base_url(&settings.base_url)?;
        let timeouts = Timeouts {
            connect: settings.connect_timeout.min(LONGEST_TIMEOUT),
            stall: settings.stall_timeout.min(LONGEST_TIMEOUT),
            response: settings.response_timeout.min(LONGEST_TIMEOUT),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers(&settings.key)?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(timeouts.connect)
            .tcp_nodelay(true)
            .tcp_user_timeout(timeouts.stall.saturating_add(KERNEL_GRACE))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.max_connections_hint.max(1));
        let loopback = is_loopback(&base_url);
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(Proxy::all(proxy).map_err(|_| ClientError::Proxy)?);
        } else if loopback {
            builder = builder.no_proxy();
        }
        if let Some(path) = &settings.ca_file {
            builder = builder.tls_certs_merge(read_certificates(path)?);
        } else if loopback && base_url.scheme() == "http" && settings.proxy.is_none() {
            // No certificate is ever verified, so a system without any can still rehearse.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| ClientError::Build(describe(&error.without_url())))?;
        Ok(Self {
            http,
            base_url,
            timeouts,
            data_uri: settings.data_uri,
            own_key: Arc::new(OwnKey::new(&settings.key)),
        })
    }

    /// Uploads an image to a profile (guide: `POST /profiles/{id}/document_images`). Dropping the future stops it.
    pub async fn upload_image(
        &self,
        profile: &ProfileId,
        image_type: Option<ImageType>,
        upload: UploadSource,
    ) -> Exchange {
        let head = Head::image(image_type, self.data_uri.then_some(upload.media_type));
        self.upload(Operation::UploadImage, &["profiles", profile.as_str(), "document_images"], head, upload).await
    }

    /// Uploads a file to a profile (guide: `POST /profiles/{id}/files`). Dropping the future stops it.
    pub async fn upload_file(&self, profile: &ProfileId, name: Option<&str>, upload: UploadSource) -> Exchange {
        let head = Head::file(name, self.data_uri.then_some(upload.media_type));
        self.upload(Operation::UploadFile, &["profiles", profile.as_str(), "files"], head, upload).await
    }

    /// Creates a document of images that are there (guide: `POST /profiles/{id}/collected_data/documents`).
    ///
    /// Dropping the future leaves it unknown whether the document was created.
    pub async fn create_document(&self, profile: &ProfileId, document: &DocumentRequest) -> Exchange {
        // Maps with text keys always serialise; an empty body would be refused by the API and create nothing.
        let body = BytesBody::new(document.to_wire().unwrap_or_default());
        let progress = body.progress();
        let path = ["profiles", profile.as_str(), "collected_data", "documents"];
        let request = self.request(Method::POST, &path).header(CONTENT_TYPE, "application/json").body(Body::wrap(body));
        self.own_key.blank(
            run(Operation::CreateDocument, request, Some(progress), Keep::All(SINGLE_ANSWER_BYTES), self.timeouts)
                .await,
        )
    }

    /// Reads a profile's documents (spec: `GET /profiles/{id}/collected_data`). Harmless to drop and to repeat.
    ///
    /// A long list is asked for a second time, once no other one is held; `large` is the right to hold it, where the caller
    /// has it already.
    pub async fn read_documents(&self, profile: &ProfileId, large: Option<LargeList>) -> ListExchange {
        self.list(Operation::ReadDocuments, &["profiles", profile.as_str(), "collected_data"], None, large).await
    }

    /// Reads those of a profile's documents that may have one of these IDs, or an image that has one. Of the others only a
    /// digest of each ID is kept. What is kept may be long too; see [`Client::read_documents`].
    pub async fn read_documents_about(&self, profile: &ProfileId, ids: &[String]) -> ListExchange {
        self.list(Operation::ReadDocuments, &["profiles", profile.as_str(), "collected_data"], Some(ids), None).await
    }

    /// Lists a profile's images (spec: `GET /profiles/{id}/document_images`). Harmless to drop and to repeat. For long
    /// lists, see [`Client::read_documents`].
    pub async fn list_images(&self, profile: &ProfileId, large: Option<LargeList>) -> ListExchange {
        self.list(Operation::ListImages, &["profiles", profile.as_str(), "document_images"], None, large).await
    }

    /// Asks whose key this is (spec: `GET /whoami`): the harmless probe of key and network.
    pub async fn whoami(&self) -> Exchange {
        self.get(Operation::Whoami, &["whoami"]).await
    }

    async fn upload(&self, operation: Operation, path: &[&str], head: Head, upload: UploadSource) -> Exchange {
        let body = FileBody::new(upload.file, upload.bytes, upload.seed, upload.checksum, head);
        let body = body.before_last(upload.before_last);
        let progress = body.progress();
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(Body::wrap(body));
        self.own_key.blank(run(operation, request, Some(progress), Keep::All(SINGLE_ANSWER_BYTES), self.timeouts).await)
    }

    async fn list(
        &self,
        operation: Operation,
        path: &[&str],
        about: Option<&[String]>,
        mut large: Option<LargeList>,
    ) -> ListExchange {
        loop {
            let most = if large.is_some() { LIST_ANSWER_BYTES } else { ORDINARY_LIST_BYTES };
            let keep = about.map_or(Keep::All(most), |ids| Keep::Sifted(Sieve::new(ids, most)));
            let exchange = run(operation, self.request(Method::GET, path), None, keep, self.timeouts).await;
            let is_long = |answer: &Answer| answer.ending == Ending::TooLarge && (200..300).contains(&answer.status);
            if large.is_none() && exchange.result.as_ref().is_ok_and(is_long) {
                drop(exchange);
                // It is never closed.
                large = LARGE_LISTS.acquire().await.ok().map(|permit| LargeList { _permit: permit });
                continue;
            }
            return ListExchange { exchange: self.own_key.blank(exchange), large };
        }
    }

    async fn get(&self, operation: Operation, path: &[&str]) -> Exchange {
        let keep = Keep::All(SINGLE_ANSWER_BYTES);
        self.own_key.blank(run(operation, self.request(Method::GET, path), None, keep, self.timeouts).await)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }
}

fn headers(key: &SecretString) -> Result<HeaderMap, ClientError> {
    let key = key.expose_secret();
    let mut value = HeaderValue::from_str(key).ok().filter(|_| !key.is_empty()).ok_or(ClientError::Key)?;
    value.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("apikey"), value);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}

fn read_base_url(text: &str) -> Result<Url, ClientError> {
    let unusable = |reason: &str| ClientError::BaseUrl(reason.to_owned());
    let url = Url::parse(text).map_err(|error| unusable(&error.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(unusable("it is neither https nor http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unusable("it has a user name or password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(unusable("it has a '?' or '#' in it"));
    }
    Ok(url)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    })
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let unusable = |reason: String| ClientError::CaFile { path: path.to_owned(), reason };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_CA_FILE_BYTES).read_to_end(&mut pem))
        .map_err(|error| unusable(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(describe(&error)))?;
    if certificates.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
