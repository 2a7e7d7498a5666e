//! What the stand-in holds: profiles with their images, documents, and files. Content itself is never kept.
//!
//! A profile exists from the first thing that is put onto it. Calls never delete anything, as in the API; what a person
//! removes in the portal is removed by [`Store::remove_document`].

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    ledger::{LedgerEntry, LedgerSummary},
    operation::ApiCall,
};
use crate::{
    clock::Timestamp,
    entry::{ImageType, ProfileId, Sha256},
};

/// An image that was uploaded.
#[derive(Debug, Clone)]
pub(super) struct StoredImage {
    pub id: String,
    pub image_type: Option<ImageType>,
    pub sha256: Sha256,
    pub bytes: u64,
    pub uploaded: Timestamp,
    pub used: bool,
}

/// A document that was created.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub id: String,
    pub category: String,
    pub document_type: String,
    /// Each is on the same profile.
    pub image_ids: Vec<String>,
    /// As it came.
    pub extracted_data: Option<Box<str>>,
    /// Reads before this do not show it.
    pub visible_at: Instant,
}

/// A file that was uploaded.
#[derive(Debug, Clone)]
pub(super) struct StoredFile {
    pub name: Option<String>,
}

/// One profile.
#[derive(Debug, Default)]
pub(super) struct Profile {
    images: Vec<StoredImage>,
    image_at: HashMap<String, usize>,
    documents: Vec<Document>,
    files: HashMap<String, StoredFile>,
}

impl Profile {
    pub(super) fn images(&self) -> &[StoredImage] {
        &self.images
    }

    /// Finds an image by its id in lower case.
    pub(super) fn image(&self, id: &str) -> Option<&StoredImage> {
        self.image_at.get(id).and_then(|at| self.images.get(*at))
    }

    pub(super) fn file(&self, id: &str) -> Option<&StoredFile> {
        self.files.get(id)
    }

    /// The documents that a list shows which is so old.
    pub(super) fn visible_documents(&self, now: Instant, age: Duration) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.visible_at + age <= now)
    }

    /// An image with the same content and type.
    pub(super) fn equal_image(&self, sha256: &Sha256, image_type: Option<ImageType>) -> Option<&StoredImage> {
        self.images.iter().find(|image| image.sha256 == *sha256 && image.image_type == image_type)
    }

    /// Adds an image; one whose id is known is that image.
    pub(super) fn add_image(&mut self, image: StoredImage) {
        if self.image_at.contains_key(&image.id) {
            return;
        }
        self.image_at.insert(image.id.clone(), self.images.len());
        self.images.push(image);
    }

    pub(super) fn add_document(&mut self, document: Document) {
        for id in &document.image_ids {
            if let Some(image) = self.image_at.get(id).and_then(|at| self.images.get_mut(*at)) {
                image.used = true;
            }
        }
        self.documents.push(document);
    }

    pub(super) fn add_file(&mut self, id: String, file: StoredFile) {
        self.files.insert(id, file);
    }
}

/// A document as [`Sandbox::documents`](super::Sandbox::documents) returns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentView {
    /// Its id.
    pub id: String,
    /// The profile that it is on.
    pub profile: String,
    /// For example `PROOF_OF_IDENTITY`.
    pub category: String,
    /// For example `PASSPORT`.
    pub document_type: String,
    /// Its images, in the order of the request.
    pub images: Vec<ImageView>,
}

/// An image of a [`DocumentView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageView {
    /// Its id.
    pub id: String,
    /// `FRONT`, `BACK`, `FACE`, or nothing.
    pub image_type: Option<ImageType>,
    /// The digest of its content in hexadecimal.
    pub sha256: String,
    /// The size of its content.
    pub bytes: u64,
}

/// Everything that is held.
#[derive(Debug, Default)]
pub(super) struct Store {
    profiles: BTreeMap<ProfileId, Profile>,
}

impl Store {
    pub(super) fn profile(&self, id: &ProfileId) -> Option<&Profile> {
        self.profiles.get(id)
    }

    /// A profile that has documents, other than this one.
    pub(super) fn another_profile(&self, id: &ProfileId) -> Option<&Profile> {
        let others = self.profiles.iter().filter(|(other, _)| *other != id);
        others.map(|(_, profile)| profile).find(|profile| !profile.documents.is_empty())
    }

    pub(super) fn profile_mut(&mut self, id: &ProfileId) -> &mut Profile {
        self.profiles.entry(id.clone()).or_default()
    }

    /// Puts what a call created back where it was; a document's extracted data is not in the ledger and stays away.
    pub(super) fn restore(&mut self, call: &LedgerEntry, visible_at: Instant) {
        let profile = call.profile.as_deref().and_then(ProfileId::parse);
        let (true, Some(profile), Some(id)) = (call.committed, profile, call.id.clone()) else { return };
        let profile = self.profile_mut(&profile);
        match call.operation {
            ApiCall::UploadImage => profile.add_image(StoredImage {
                id,
                image_type: call.image_type.as_deref().and_then(ImageType::parse),
                sha256: call.sha256.as_deref().and_then(Sha256::parse).unwrap_or(Sha256([0; 32])),
                bytes: call.bytes.unwrap_or_default(),
                uploaded: Timestamp(call.at_ms),
                used: false,
            }),
            ApiCall::CreateDocument => profile.add_document(Document {
                id,
                category: call.category.clone().unwrap_or_default(),
                document_type: call.document_type.clone().unwrap_or_default(),
                image_ids: call.image_ids.clone(),
                extracted_data: None,
                visible_at,
            }),
            ApiCall::UploadFile => profile.add_file(id, StoredFile { name: call.name.clone() }),
            _ => {}
        }
    }

    /// Removes a document, not its images; returns whether it was there.
    pub(super) fn remove_document(&mut self, id: &str) -> bool {
        self.profiles.values_mut().any(|profile| {
            let at = profile.documents.iter().position(|document| document.id.eq_ignore_ascii_case(id));
            at.map(|at| profile.documents.remove(at)).is_some()
        })
    }

    /// Every document, visible or not, by profile and then in order of creation.
    pub(super) fn documents(&self) -> Vec<DocumentView> {
        let views = |(id, profile): (&ProfileId, &Profile)| -> Vec<DocumentView> {
            profile.documents.iter().map(|document| view(id, profile, document)).collect()
        };
        self.profiles.iter().flat_map(views).collect()
    }

    /// Counts everything; calls are not counted here.
    pub(super) fn holdings(&self) -> LedgerSummary {
        let mut holdings = LedgerSummary::default();
        for profile in self.profiles.values() {
            holdings.images += count(profile.images.len());
            holdings.orphans += count(profile.images.iter().filter(|image| !image.used).count());
            holdings.documents += count(profile.documents.len());
            holdings.files += count(profile.files.len());
            let mut contents = HashMap::new();
            let mut id_sets = HashMap::new();
            for document in &profile.documents {
                let mut ids: Vec<&str> = document.image_ids.iter().map(String::as_str).collect();
                ids.sort_unstable();
                let mut hashes: Vec<Sha256> =
                    ids.iter().filter_map(|id| profile.image(id)).map(|image| image.sha256).collect();
                hashes.sort_unstable();
                holdings.doubled_ids += again(&mut id_sets, ids);
                holdings.doubled += again(&mut contents, (&document.category, &document.document_type, hashes));
            }
        }
        holdings
    }
}

/// One, where the key has been there before.
fn again<K: std::hash::Hash + Eq>(seen: &mut HashMap<K, ()>, key: K) -> u64 {
    u64::from(seen.insert(key, ()).is_some())
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn view(id: &ProfileId, profile: &Profile, document: &Document) -> DocumentView {
    let images = document.image_ids.iter().filter_map(|id| profile.image(id)).map(|image| ImageView {
        id: image.id.clone(),
        image_type: image.image_type,
        sha256: image.sha256.to_string(),
        bytes: image.bytes,
    });
    DocumentView {
        id: document.id.clone(),
        profile: id.to_string(),
        category: document.category.clone(),
        document_type: document.document_type.clone(),
        images: images.collect(),
    }
}
