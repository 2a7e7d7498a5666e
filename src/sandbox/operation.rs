//! The calls that the stand-in knows, and which of them a request is.
//!
//! Only names and paths: what a call does is decided in [`calls`](super::calls). Facts about paths and methods are the
//! guide's, with the spec's `GET` for reads beside the guide's `POST`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::syntax::{RuleError, unknown_word};
use crate::entry::ProfileId;

/// One call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiCall {
    /// `POST /profiles/{id}/document_images`
    UploadImage,
    /// `POST /profiles/{id}/files`
    UploadFile,
    /// `POST /profiles/{id}/collected_data/documents`
    CreateDocument,
    /// `GET /profiles/{id}/collected_data`
    ReadDocuments,
    /// `GET /profiles/{id}/document_images`
    ListImages,
    /// `POST` or `GET /profiles/{id}/files/{file_id}`
    ReadFile,
    /// `GET /whoami`
    Whoami,
    /// `POST /profiles/{id}/collected_data`, which would replace all of the profile's data: always refused.
    ForbiddenReplace,
    /// Anything else.
    Unknown,
}

impl ApiCall {
    /// The operations that rules may name.
    pub const KNOWN: [Self; 7] = [
        Self::UploadImage,
        Self::UploadFile,
        Self::CreateDocument,
        Self::ReadDocuments,
        Self::ListImages,
        Self::ReadFile,
        Self::Whoami,
    ];

    /// The word in rules, in the ledger and in the summary.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UploadImage => "upload_image",
            Self::UploadFile => "upload_file",
            Self::CreateDocument => "create_document",
            Self::ReadDocuments => "read_documents",
            Self::ListImages => "list_images",
            Self::ReadFile => "read_file",
            Self::Whoami => "whoami",
            Self::ForbiddenReplace => "forbidden_replace",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the operation of a rule; `any` is `None`.
    pub(super) fn parse_pattern(word: &str) -> Result<Option<Self>, RuleError> {
        if word == "any" {
            return Ok(None);
        }
        Self::KNOWN
            .into_iter()
            .find(|known| known.as_str() == word)
            .map(Some)
            .ok_or_else(|| unknown_word("operation", word, Self::KNOWN.into_iter().map(Self::as_str).chain(["any"])))
    }

    /// Whether a rule for `pattern` is about this call; `any` means every call that rules may name.
    pub(super) fn matches(self, pattern: Option<Self>) -> bool {
        pattern.map_or_else(|| Self::KNOWN.contains(&self), |named| named == self)
    }

    pub(super) fn pattern_text(pattern: Option<Self>) -> &'static str {
        pattern.map_or("any", Self::as_str)
    }
}

impl fmt::Display for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request's call and what its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub operation: ApiCall,
    pub profile: Option<ProfileId>,
    /// In lower case.
    pub file_id: Option<String>,
    /// Whether the path is known but not with this method.
    pub wrong_method: bool,
}

impl Route {
    const fn unknown() -> Self {
        Self { operation: ApiCall::Unknown, profile: None, file_id: None, wrong_method: false }
    }

    /// Finds the call; whatever is not known is [`ApiCall::Unknown`].
    pub(super) fn find(base_path: &str, file_read: FileReadMethod, method: &str, path: &str) -> Self {
        let Some(rest) = path.strip_prefix(base_path).and_then(|rest| rest.strip_prefix('/')) else {
            return Self::unknown();
        };
        let parts: Vec<&str> = rest.split('/').take(6).collect();
        let (id, tail) = match parts.as_slice() {
            ["whoami"] if method == "GET" => return Self { operation: ApiCall::Whoami, ..Self::unknown() },
            ["profiles", id, tail @ ..] => (*id, tail),
            _ => return Self::unknown(),
        };
        let Some(profile) = ProfileId::parse(id) else { return Self::unknown() };
        let profile = Some(profile);
        let operation = match (method, tail) {
            ("POST", ["files"]) => ApiCall::UploadFile,
            ("POST" | "GET", ["files", file]) => {
                return Self {
                    operation: ApiCall::ReadFile,
                    profile,
                    file_id: Some(file.to_ascii_lowercase()),
                    wrong_method: !file_read.takes(method),
                };
            }
            ("POST", ["document_images"]) => ApiCall::UploadImage,
            ("GET", ["document_images"]) => ApiCall::ListImages,
            ("POST", ["collected_data", "documents"]) => ApiCall::CreateDocument,
            ("GET", ["collected_data"]) => ApiCall::ReadDocuments,
            ("POST", ["collected_data"]) => ApiCall::ForbiddenReplace,
            _ => return Self::unknown(),
        };
        Self { operation, profile, ..Self::unknown() }
    }
}

/// The methods that read a single file: the guide prints `POST`, the spec says `GET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum FileReadMethod {
    /// Either.
    #[default]
    Both,
    /// Only `POST`; `GET` is answered with 405.
    Post,
    /// Only `GET`; `POST` is answered with 405.
    Get,
}

impl FileReadMethod {
    fn takes(self, method: &str) -> bool {
        match self {
            Self::Both => matches!(method, "POST" | "GET"),
            Self::Post => method == "POST",
            Self::Get => method == "GET",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "A2C4393A-e219-67a4-5ab4-2186952e9038";

    fn find(method: &str, path: &str) -> Route {
        Route::find("/4.0", FileReadMethod::Both, method, path)
    }

    #[test]
    fn every_call_of_the_guide_is_found() {
        let cases = [
            ("POST", "files", ApiCall::UploadFile),
            ("POST", "files/7", ApiCall::ReadFile),
            ("GET", "files/7", ApiCall::ReadFile),
            ("POST", "document_images", ApiCall::UploadImage),
            ("GET", "document_images", ApiCall::ListImages),
            ("POST", "collected_data/documents", ApiCall::CreateDocument),
            ("GET", "collected_data", ApiCall::ReadDocuments),
            ("POST", "collected_data", ApiCall::ForbiddenReplace),
            ("GET", "files", ApiCall::Unknown),
            ("DELETE", "document_images", ApiCall::Unknown),
            ("GET", "collected_data/", ApiCall::Unknown),
        ];
        for (method, tail, wanted) in cases {
            let route = find(method, &format!("/4.0/profiles/{PROFILE}/{tail}"));
            assert_eq!(route.operation, wanted, "{method} {tail}");
        }
        assert_eq!(find("GET", "/4.0/whoami").operation, ApiCall::Whoami);
    }

    #[test]
    fn another_prefix_or_a_profile_that_is_no_uuid_is_unknown() {
        assert_eq!(find("GET", "/5.0/whoami").operation, ApiCall::Unknown);
        assert_eq!(find("GET", "/4.0whoami").operation, ApiCall::Unknown);
        assert_eq!(find("POST", "/4.0/profiles/17/files").operation, ApiCall::Unknown);
    }

    #[test]
    fn a_mistyped_operation_is_reported_with_the_nearest() {
        let error = ApiCall::parse_pattern("upload_imgae").unwrap_err().to_string();
        assert!(error.contains("did you mean 'upload_image'"), "{error}");
        assert!(error.contains("whoami") && error.contains("any"), "{error}");
    }
}
