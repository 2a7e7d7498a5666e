//! Request bodies that know their length and how far they have come: a file as Base64 within JSON, and plain bytes.
//!
//! A [`FileBody`] uses constant memory whatever the file's size. Invariants: its length is fixed at construction; its
//! last frame, without which the JSON is broken, is sent only after every byte was read, the file has ended where it
//! should, and the checksum is the expected one. So a server never gets the complete body of a file that has changed.

use std::{
    fmt,
    fs::File,
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, ready},
};

use base64::{
    Engine as _,
    engine::{Simd, general_purpose::PAD},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use xxhash_rust::xxh3::Xxh3;

use super::{
    frames::Frames,
    progress::{BodyProgress, Failure, Gate},
    source::SourceReader,
};
use crate::entry::ImageType;

/// How much of a file makes one frame: a multiple of 3, so that only the last is padded, and 64 KiB encoded.
pub const CHUNK_BYTES: usize = 48 * 1024;

/// What follows the Base64.
const TAIL: &[u8] = b"\"}";

/// The alphabet and padding that the API takes (guide); chosen once for this processor.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// Why a body ended before its last frame.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The file's length or checksum is not the expected one.
    #[error("the file has changed since it was checked")]
    Changed,
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Unreadable(#[source] io::Error),
    /// The call is over, so the rest is not wanted.
    #[error("the body was cancelled")]
    Cancelled,
}

/// The part before the Base64: the request's other fields, and the start of `data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head(String);

impl Head {
    /// The start of an image upload; `media_type` makes `data` a data URI.
    #[must_use]
    pub fn image(image_type: Option<ImageType>, media_type: Option<&str>) -> Self {
        Self::new("image_type", image_type.map(ImageType::as_str), media_type)
    }

    /// The start of a file upload; `media_type` makes `data` a data URI.
    #[must_use]
    pub fn file(name: Option<&str>, media_type: Option<&str>) -> Self {
        Self::new("name", name, media_type)
    }

    fn new(field: &str, value: Option<&str>, media_type: Option<&str>) -> Self {
        let field = value.map_or_else(String::new, |value| format!("\"{field}\":{},", serde_json::Value::from(value)));
        let scheme = media_type.map_or_else(String::new, |media_type| {
            let plain = media_type.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+-.".contains(&byte));
            format!("data:{};base64,", if plain { media_type } else { "application/octet-stream" })
        });
        Self(format!("{{{field}\"data\":\"{scheme}"))
    }
}

/// What is done before the last piece of a body goes out.
pub type BeforeLast = Box<dyn FnOnce() + Send + Sync>;

/// A file's content as Base64 within a JSON object.
pub struct FileBody {
    reader: SourceReader,
    bytes: u64,
    checksum: u64,
    hash: Box<Xxh3>,
    /// The part before the Base64, until the first frame takes it.
    head: String,
    /// How much is still to be handed over, encoded and with the JSON around it.
    left: u64,
    /// A frame that was made but not handed over, because the body was held meanwhile.
    ready: Option<Bytes>,
    frames: Frames,
    before_last: Option<BeforeLast>,
    progress: BodyProgress,
}

impl fmt::Debug for FileBody {
    /// Leaves out the frames, which are a customer's document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBody").field("bytes", &self.bytes).field("left", &self.left).finish_non_exhaustive()
    }
}

impl FileBody {
    /// A body of exactly `bytes` bytes of `file`, whose XXH3-64 with this `seed` is `checksum`.
    ///
    /// The file is read from its start, whatever its position. The body must be polled within a tokio runtime.
    #[must_use]
    pub fn new(file: File, bytes: u64, seed: u64, checksum: u64, head: Head) -> Self {
        let encoded = bytes.div_ceil(3).saturating_mul(4);
        Self {
            // One byte more than a chunk, in order to notice data after the expected end.
            reader: SourceReader::new(file, CHUNK_BYTES + 1),
            bytes,
            checksum,
            hash: Box::new(Xxh3::with_seed(seed)),
            left: encoded.saturating_add(head.0.len() as u64).saturating_add(TAIL.len() as u64),
            head: head.0,
            ready: None,
            frames: Frames::default(),
            before_last: None,
            progress: BodyProgress::new(),
        }
    }

    /// Has this done before the last piece goes out: at most once, and never later.
    #[must_use]
    pub fn before_last(mut self, action: Option<BeforeLast>) -> Self {
        self.before_last = action;
        self
    }

    /// The shared view of how far this body has come.
    #[must_use]
    pub fn progress(&self) -> BodyProgress {
        self.progress.clone()
    }

    /// Reads, checks and encodes the next chunk.
    fn poll_make(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, BodyError>> {
        let mut frame = ready!(self.frames.poll_memory(context));
        let missing = usize::try_from(self.bytes.saturating_sub(self.reader.at())).unwrap_or(usize::MAX);
        let last = missing <= CHUNK_BYTES;
        let (expected, wanted) = if last { (missing, missing + 1) } else { (CHUNK_BYTES, CHUNK_BYTES) };
        self.progress.set_waits_for_disk(true);
        let piece = ready!(self.reader.poll_piece(context, wanted)).map_err(BodyError::Unreadable)?;
        self.progress.set_waits_for_disk(false);
        if piece.len() != expected {
            return Poll::Ready(Err(BodyError::Changed));
        }
        self.hash.update(piece);
        if last && self.hash.digest() != self.checksum {
            return Poll::Ready(Err(BodyError::Changed));
        }
        encode(&mut frame, self.head.as_bytes(), piece, if last { TAIL } else { &[] })?;
        self.head = String::new();
        self.reader.advance(expected as u64);
        Poll::Ready(Ok(self.frames.lend(frame)))
    }
}

/// Fills `frame` with `head`, the Base64 of `piece`, and `tail`.
fn encode(frame: &mut Vec<u8>, head: &[u8], piece: &[u8], tail: &[u8]) -> Result<(), BodyError> {
    let encoded = piece.len().div_ceil(3) * 4;
    let (start, end) = (head.len(), head.len() + encoded);
    // A frame that is used again has its old length, so nothing but the difference is filled with zeros.
    frame.resize(end + tail.len(), 0);
    let room = |part: Option<&mut [u8]>, from: &[u8]| {
        if let Some(part) = part {
            part.copy_from_slice(from);
        }
    };
    room(frame.get_mut(..start), head);
    room(frame.get_mut(end..), tail);
    let target = frame.get_mut(start..end).unwrap_or_default();
    match BASE64.encode_slice(piece, target) {
        Ok(written) if written == encoded => Ok(()),
        _ => Err(BodyError::Unreadable(io::Error::other("the Base64 has an unexpected length"))),
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        match this.progress.enter(context) {
            Gate::Open => {}
            Gate::Shut => return Poll::Pending,
            Gate::Cancelled => return Poll::Ready(Some(Err(BodyError::Cancelled))),
        }
        let frame = match this.ready.take() {
            Some(frame) => frame,
            None => match ready!(this.poll_make(context)) {
                Ok(frame) => frame,
                Err(error) => {
                    this.progress.fail(match &error {
                        BodyError::Unreadable(cause) => Failure::Unreadable(cause.to_string()),
                        BodyError::Changed | BodyError::Cancelled => Failure::Changed,
                    });
                    return Poll::Ready(Some(Err(error)));
                }
            },
        };
        let left = this.left.saturating_sub(frame.len() as u64);
        if left == 0
            && let Some(action) = this.before_last.take()
        {
            action();
        }
        if !this.progress.hand_over(frame.len(), left == 0) {
            this.ready = Some(frame);
            // Stopping the body took its waker, so it is woken to be polled again and to return its error.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.left = left;
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        // Without an exact hint the HTTP layer would silently send the body in chunks, without a Content-Length.
        SizeHint::with_exact(self.left)
    }
}

/// Bytes at hand, sent as one frame; used where it must be known whether they were handed over.
#[derive(Debug)]
pub struct BytesBody {
    bytes: Bytes,
    progress: BodyProgress,
}

impl BytesBody {
    /// A body of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), progress: BodyProgress::new() }
    }

    /// The shared view of how far this body has come.
    #[must_use]
    pub fn progress(&self) -> BodyProgress {
        self.progress.clone()
    }
}

impl Body for BytesBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            return Poll::Ready(None);
        }
        match this.progress.enter(context) {
            Gate::Open if this.progress.hand_over(this.bytes.len(), true) => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.bytes)))))
            }
            Gate::Open | Gate::Cancelled => Poll::Ready(Some(Err(BodyError::Cancelled))),
            Gate::Shut => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
