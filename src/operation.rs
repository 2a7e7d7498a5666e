//! The calls that the worker makes to the API.

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Puts an image onto a profile.
    UploadImage,
    /// Puts a file onto a profile.
    UploadFile,
    /// Makes a document of images.
    CreateDocument,
    /// Reads a profile's documents.
    ReadDocuments,
    /// Lists a profile's images.
    ListImages,
    /// Asks whose key it is.
    Whoami,
}

impl Operation {
    /// Every kind of call.
    pub const ALL: [Self; 6] = [
        Self::UploadImage,
        Self::UploadFile,
        Self::CreateDocument,
        Self::ReadDocuments,
        Self::ListImages,
        Self::Whoami,
    ];

    /// The word in metrics and in the queue.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UploadImage => "upload_image",
            Self::UploadFile => "upload_file",
            Self::CreateDocument => "create_document",
            Self::ReadDocuments => "read_documents",
            Self::ListImages => "list_images",
            Self::Whoami => "whoami",
        }
    }

    /// Method and path of the request, with `…` for the IDs of people.
    #[must_use]
    pub const fn request_line(self) -> &'static str {
        match self {
            Self::UploadImage => "POST /profiles/…/document_images",
            Self::UploadFile => "POST /profiles/…/files",
            Self::CreateDocument => "POST /profiles/…/collected_data/documents",
            Self::ReadDocuments => "GET /profiles/…/collected_data",
            Self::ListImages => "GET /profiles/…/document_images",
            Self::Whoami => "GET /whoami",
        }
    }

    /// Whether it makes something that cannot be taken back.
    #[must_use]
    pub const fn is_creating(self) -> bool {
        matches!(self, Self::UploadImage | Self::UploadFile | Self::CreateDocument)
    }

    /// Whether its answer is a list, which may be long.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(self, Self::ReadDocuments | Self::ListImages)
    }
}
