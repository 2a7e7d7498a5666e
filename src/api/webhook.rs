//! Posts JSON to a receiver of alerts, which is not the API: another server, without a key.

use std::{path::Path, time::Duration};

use reqwest::{Url, header::CONTENT_TYPE};

use super::{
    client::{ClientError, install_provider, is_loopback, read_certificates},
    fault::describe,
};

/// A client for one receiver.
#[derive(Debug, Clone)]
pub struct Webhook {
    http: reqwest::Client,
    url: Url,
}

impl Webhook {
    /// Makes a client; nothing is sent yet. A proxy is taken from the environment.
    ///
    /// # Errors
    ///
    /// Where the system has no certificates, or those in `ca_file` cannot be used.
    pub fn new(url: &Url, ca_file: Option<&Path>, bound: Duration) -> Result<Self, ClientError> {
        install_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(bound);
        if let Some(path) = ca_file {
            builder = builder.tls_certs_merge(read_certificates(path)?);
        } else if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| ClientError::Build(describe(&error.without_url())))?;
        Ok(Self { http, url: url.clone() })
    }

    /// Posts this.
    ///
    /// # Errors
    ///
    /// Why it was not taken: any answer but a 2xx, or none. Never names the address, which may be a secret.
    pub async fn post(&self, json: Vec<u8>) -> Result<(), String> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(json);
        let answer = request.send().await.map_err(|error| describe(&error.without_url()))?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answers {}", answer.status())) }
    }
}
