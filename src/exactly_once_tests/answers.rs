//! What the API answers to the calls of the model, as it would come over the wire.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    clock::Timestamp,
    exchange::{Answer, Ending, Exchange, Fault, LimitHeaders, PageHeaders},
    operation::Operation,
};

/// The answer to a call that creates, by what it says of the deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Said {
    /// 200 with the ID.
    Created,
    /// No answer.
    Nothing,
    /// 503.
    Unavailable,
    /// 200 with an error of a class that is not for good.
    TransientError,
    /// 200 with an error that nobody knows.
    UnknownError,
    /// 200 with something else.
    Garbled,
    /// 200 with an ID and an error that is for good.
    RefusedWithId,
    /// 400 with an error of the API.
    Refused,
    /// 200 with such an error.
    RefusedInside,
    /// 429.
    Throttled,
    /// No connection.
    Unreachable,
}

/// What the deed of a call must be for an answer to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Done,
    /// Whatever it is, or becomes.
    Any,
    /// It is not done, and never will be.
    Never,
}

impl Said {
    pub(super) const ALL: [Self; 11] = [
        Self::Created,
        Self::Nothing,
        Self::Unavailable,
        Self::TransientError,
        Self::UnknownError,
        Self::Garbled,
        Self::RefusedWithId,
        Self::Refused,
        Self::RefusedInside,
        Self::Throttled,
        Self::Unreachable,
    ];

    pub(super) const fn deed(self) -> Deed {
        match self {
            Self::Created | Self::RefusedWithId => Deed::Done,
            Self::Nothing | Self::Unavailable | Self::TransientError | Self::UnknownError | Self::Garbled => Deed::Any,
            Self::Refused | Self::RefusedInside | Self::Throttled | Self::Unreachable => Deed::Never,
        }
    }

    /// `id` is of the document, where it was created.
    pub(super) fn exchange(self, id: &str) -> Exchange {
        let error = |code: u32| json!([{"code": code, "message": "x"}]);
        let (status, body) = match self {
            Self::Created => (200, json!({"id": id})),
            Self::Nothing => return fault(Fault::NoAnswer(Duration::from_secs(90))),
            Self::Unavailable => (503, json!({"message": "x"})),
            Self::TransientError => (200, json!({"errors": error(301)})),
            Self::UnknownError => (200, json!({"errors": error(999)})),
            Self::Garbled => (200, json!("?")),
            Self::RefusedWithId => (200, json!({"id": id, "errors": error(201)})),
            Self::Refused => (400, json!({"errors": error(201)})),
            Self::RefusedInside => (200, json!({"errors": error(201)})),
            Self::Throttled => (429, json!({})),
            Self::Unreachable => return fault(Fault::Connect("refused".to_owned())),
        };
        answered(Operation::CreateDocument, status, &body)
    }
}

/// What the API makes of a list of documents, that of the profile as well as the control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Faithful,
    /// `{}`.
    Nothing,
    /// No documents, whatever there is.
    Empty,
    /// The first page, without what came last.
    Page,
    /// That of another profile.
    Foreign,
    /// Documents without images.
    NoImages,
    /// Documents with one image more.
    MoreImages,
    /// Images under another name.
    OtherName,
    /// The list under another name.
    Elsewhere,
    /// No JSON that means anything.
    Garbled,
}

impl Shape {
    pub(super) const ALL: [Self; 10] = [
        Self::Faithful,
        Self::Nothing,
        Self::Empty,
        Self::Page,
        Self::Foreign,
        Self::NoImages,
        Self::MoreImages,
        Self::OtherName,
        Self::Elsewhere,
        Self::Garbled,
    ];

    /// The answer, where the list should show `documents`; `foreign` is one of another profile.
    pub(super) fn exchange(self, documents: &[Listed], foreign: &Listed) -> Exchange {
        let image = |id: &String| json!({"id": id});
        let element = |document: &Listed| {
            let mut images: Vec<Value> = document.images.iter().map(image).collect();
            match self {
                Self::MoreImages => images.push(json!({"id": id_of(99)})),
                Self::OtherName => images = document.images.iter().map(|id| json!({"image_id": id})).collect(),
                _ => {}
            }
            let mut element = json!({"id": document.id, "category": document.category, "document_type": "PASSPORT", "images": images});
            if self == Self::NoImages {
                element.as_object_mut().unwrap().remove("images");
            }
            element
        };
        let shown: Vec<Value> = match self {
            Self::Empty => Vec::new(),
            Self::Page => documents.iter().take(documents.len().saturating_sub(1)).map(element).collect(),
            Self::Foreign => vec![element(foreign)],
            _ => documents.iter().map(element).collect(),
        };
        let body = match self {
            Self::Nothing => json!({}),
            Self::Page => json!({"entity_type": "INDIVIDUAL", "documents": shown, "next": "/page/2"}),
            Self::Elsewhere => json!({"data": {"documents": shown}}),
            Self::Garbled => json!("?"),
            _ => json!({"entity_type": "INDIVIDUAL", "documents": shown}),
        };
        answered(Operation::ReadDocuments, 200, &body)
    }
}

/// A document as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) category: &'static str,
    pub(super) images: Vec<String>,
}

/// A UUID.
pub(super) fn id_of(number: u8) -> String {
    format!("a2c4393a-e219-67a4-5ab4-0000000000{number:02x}")
}

/// The number in a UUID.
pub(super) fn number_of(id: &str) -> u8 {
    u8::from_str_radix(id.get(id.len() - 2..).unwrap(), 16).unwrap()
}

fn answered(operation: Operation, status: u16, body: &Value) -> Exchange {
    let answer = Answer {
        status,
        limits: LimitHeaders::default(),
        body: body.to_string().into_bytes(),
        pages: PageHeaders::default(),
        omitted: Vec::new(),
        ending: Ending::Whole,
    };
    exchange(operation, Ok(answer), true)
}

fn fault(fault: Fault) -> Exchange {
    let handed_over = !fault.certainly_not_sent();
    exchange(Operation::CreateDocument, Err(fault), handed_over)
}

fn exchange(operation: Operation, result: Result<Answer, Fault>, handed_over: bool) -> Exchange {
    Exchange {
        operation,
        result,
        sent_bytes: 0,
        handed_over,
        started: Timestamp(0),
        took: Duration::ZERO,
        answered_after: None,
    }
}
