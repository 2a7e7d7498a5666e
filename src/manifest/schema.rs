//! The JSON Schema of the JSON manifest, for editors and for senders who check before they send.
//!
//! Written by hand beside the rules, because they say more than the types do; a test holds the fields to those that the
//! reader knows. It is a little stricter than the reader, which also takes `null` for a field that is not given.

use serde_json::{Value, json};

use crate::entry::ImageType;

use super::{
    ManifestBounds,
    fields::{MAX_NAME_CHARS, MAX_REFERENCE_CHARS, MAX_WORD_CHARS},
    known,
};

/// The schema, in the draft of 2020-12.
#[must_use]
pub fn schema() -> Value {
    let defaults = ManifestBounds::default();
    let profile_id = json!({
        "type": "string",
        "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
        "description": "The profile's id: a UUID in any letter case. An entry's own wins over the one at the top.",
        "examples": ["a2c4393a-e219-67a4-5ab4-2186952e9038"]
    });
    let reference = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_REFERENCE_CHARS, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        "description": "The sender's own key, unique within its drop."
    });
    let replace = json!({
        "type": "boolean", "default": false,
        "description": "Whether the entry may replace an earlier one that has the same reference and other content; \
                        only together with a reference."
    });
    let path = json!({
        "type": "string", "minLength": 1, "maxLength": defaults.max_path_bytes, "pattern": "^[^/].*$",
        "description": "The file's path, relative to the manifest's folder; it must stay inside the drop.",
        "examples": ["17/front.jpg"]
    });
    let sha256 = json!({
        "type": "string", "pattern": "^[0-9A-Fa-f]{64}$",
        "description": "The file's SHA-256 in hexadecimal digits; checked where it is given."
    });
    let bytes = json!({
        "type": "integer", "minimum": 0, "description": "The file's size in bytes; checked where it is given."
    });
    let failure = json!({
        "description": "What a list of failed entries says of the entry; passed over, so that a mended list is a manifest."
    });
    let word = |description: &str, known: &[&str]| {
        json!({
            "type": "string", "pattern": format!("^[A-Z0-9_]{{1,{MAX_WORD_CHARS}}}$"), "description": description,
            "examples": known
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest of passfort-ingest",
        "description": "What is to be created on which profiles: documents with their images, and files.",
        "type": "object",
        "additionalProperties": false,
        "required": ["version"],
        "anyOf": [
            { "required": ["documents"], "properties": { "documents": { "minItems": 1 } } },
            { "required": ["files"], "properties": { "files": { "minItems": 1 } } }
        ],
        "properties": {
            "version": { "const": 1, "description": "The version of this format." },
            "profile_id": profile_id,
            "documents": {
                "type": "array", "items": { "$ref": "#/$defs/document" },
                "description": "The documents, in the order in which receipts list them."
            },
            "files": {
                "type": "array", "items": { "$ref": "#/$defs/file" },
                "description": "The files that no document uses; receipts list them after the documents."
            }
        },
        "$defs": {
            "document": {
                "type": "object",
                "description": "A document and its images.",
                "additionalProperties": false,
                "required": ["category", "document_type", "images"],
                "properties": {
                    "profile_id": profile_id,
                    "reference": reference,
                    "category": word("What the document proves. Other values are taken with a warning.", &known::CATEGORIES),
                    "document_type": word(
                        "What the document is. Other values are taken with a warning.", &known::DOCUMENT_TYPES
                    ),
                    "images": {
                        "type": "array", "items": { "$ref": "#/$defs/image" },
                        "minItems": 1, "maxItems": defaults.max_images,
                        "description": "The document's images, in their order."
                    },
                    "extracted_data": {
                        "type": "object",
                        "description": format!(
                            "Passed on with the document as it is; at most 256 KiB as JSON, and lists and objects in one \
                             another at most {} deep, the document itself among them.", defaults.max_nesting
                        )
                    },
                    "replace": replace,
                    "code": failure,
                    "reason": failure,
                    "cure": failure
                }
            },
            "image": {
                "type": "object",
                "description": "One image of a document.",
                "additionalProperties": false,
                "required": ["path"],
                "properties": {
                    "path": path,
                    "image_type": {
                        "enum": ImageType::ALL.map(ImageType::as_str),
                        "description": "Which side it shows; not sent where it is not given."
                    },
                    "sha256": sha256,
                    "bytes": bytes
                }
            },
            "file": {
                "type": "object",
                "description": "A file on the profile.",
                "additionalProperties": false,
                "required": ["path"],
                "properties": {
                    "profile_id": profile_id,
                    "reference": reference,
                    "path": path,
                    "name": {
                        "type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS,
                        "pattern": "^[^/\\u0000-\\u001f\\u007f-\\u009f]*$",
                        "description": "The name that the portal shows; the portal takes the type from its extension. Without it, the file's own.",
                        "examples": ["PEP Declaration Form.pdf"]
                    },
                    "sha256": sha256,
                    "bytes": bytes,
                    "replace": replace,
                    "code": failure,
                    "reason": failure,
                    "cure": failure
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::{
            json::TOP_FIELDS,
            object::{DOCUMENT_FIELDS, FAILURE_FIELDS, FILE_FIELDS, IMAGE_FIELDS},
        },
        *,
    };

    #[test]
    fn the_schema_has_exactly_the_fields_that_the_reader_knows() {
        let schema = schema();
        for (pointer, fields) in [
            ("", TOP_FIELDS.to_vec()),
            ("/$defs/document", [&DOCUMENT_FIELDS[..], &FAILURE_FIELDS].concat()),
            ("/$defs/file", [&FILE_FIELDS[..], &FAILURE_FIELDS].concat()),
            ("/$defs/image", IMAGE_FIELDS.to_vec()),
        ] {
            let object = schema.pointer(pointer).unwrap();
            let listed: BTreeSet<_> = object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(listed, fields.into_iter().collect::<BTreeSet<_>>(), "{pointer}");
            assert_eq!(object["additionalProperties"], false, "{pointer}");
        }
    }

    #[test]
    fn every_field_has_a_description_and_every_reference_a_target() {
        fn look(value: &Value, schema: &Value) {
            if let Some(properties) = value.get("properties").and_then(Value::as_object) {
                for (name, property) in properties {
                    // The alternatives under anyOf only add how many items there must be.
                    assert!(property.get("description").is_some() || property.get("minItems").is_some(), "{name}");
                }
            }
            if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
            match value {
                Value::Object(fields) => fields.values().for_each(|value| look(value, schema)),
                Value::Array(items) => items.iter().for_each(|value| look(value, schema)),
                _ => {}
            }
        }
        let schema = schema();
        look(&schema, &schema);
    }
}
