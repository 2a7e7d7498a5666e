//! Nested records: what JSON and XML come to, and how a name finds a value in them.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::text::fold;

/// How deep a record may be nested.
pub(super) const MAX_DEPTH: usize = 64;

/// The name under which an element's own text is kept.
pub(super) const OWN_TEXT: &str = "#text";

/// A value of a nested record. Numbers keep their digits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TreeNode {
    Null,
    Text(String),
    /// A number, `true` or `false`, as it was written.
    Literal(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl TreeNode {
    /// Reads JSON; numbers keep their digits.
    pub(super) fn json(text: &str) -> Result<Self, String> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Self::of_raw(raw, 0)
    }

    fn of_raw(raw: &RawValue, depth: usize) -> Result<Self, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        let text = raw.get().trim();
        let read = |error: serde_json::Error| error.to_string();
        Ok(match text.as_bytes().first() {
            Some(b'{') => Self::Object(
                serde_json::from_str::<Members<'_>>(text)
                    .map_err(read)?
                    .0
                    .into_iter()
                    .map(|(name, value)| Ok((name, Self::of_raw(value, depth + 1)?)))
                    .collect::<Result<_, String>>()?,
            ),
            Some(b'[') => Self::List(
                serde_json::from_str::<Elements<'_>>(text)
                    .map_err(read)?
                    .0
                    .into_iter()
                    .map(|value| Self::of_raw(value, depth + 1))
                    .collect::<Result<_, String>>()?,
            ),
            Some(b'"') => Self::Text(serde_json::from_str(text).map_err(read)?),
            Some(b'n') => Self::Null,
            _ => Self::Literal(text.to_owned()),
        })
    }

    /// As JSON, with the digits of its numbers.
    pub(super) fn to_json(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
        match self {
            Self::Null => "null".to_owned(),
            Self::Text(text) => quoted(text),
            Self::Literal(text) => text.clone(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::to_json).collect::<Vec<_>>().join(",")),
            Self::Object(members) => {
                let member = |(name, value): &(String, Self)| format!("{}:{}", quoted(name), value.to_json());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// What a template writes for it.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => Some(Cow::Borrowed("")),
            Self::Text(text) | Self::Literal(text) => Some(Cow::Borrowed(text)),
            Self::List(items) => match items.as_slice() {
                [] => Some(Cow::Borrowed("")),
                [one] => one.text(),
                _ => None,
            },
            Self::Object(members) => match self.member(OWN_TEXT) {
                Some(text) => text.text(),
                // An element that has attributes alone is empty.
                None => members.iter().all(|(name, _)| name.starts_with('@')).then_some(Cow::Borrowed("")),
            },
        }
    }

    fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        let exact = members.iter().find(|(own, _)| own == name);
        exact.or_else(|| members.iter().find(|(own, _)| fold(own) == fold(name))).map(|(_, value)| value)
    }

    /// The values that a path leads to: `a.b`, `props[name=CustomerNo]`. A list is each of its items.
    pub(super) fn all(&self, path: &str) -> Vec<&Self> {
        if let Some(found) = self.member(path) {
            return vec![found];
        }
        let mut found = vec![self];
        for step in steps(path) {
            let (name, pick) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
                Some((name, pick)) => (name, pick.split_once('=')),
                None => (step, None),
            };
            found = found
                .into_iter()
                .flat_map(|node| match node {
                    Self::List(items) => items.iter().collect(),
                    other => vec![other],
                })
                .filter_map(|node| if name.is_empty() || name == "." { Some(node) } else { node.member(name) })
                .collect();
            if let Some((key, wanted)) = pick {
                found = found
                    .into_iter()
                    .flat_map(|node| match node {
                        Self::List(items) => items.iter().collect(),
                        other => vec![other],
                    })
                    .filter(|node| node.has(key.trim(), wanted))
                    .map(|node| node.picked(key.trim()))
                    .collect();
            }
        }
        found
    }

    /// The items of the lists that a path leads to.
    pub(super) fn items(&self, path: &str) -> Vec<&Self> {
        let mut items = Vec::new();
        for node in self.all(path) {
            match node {
                Self::Null => {}
                Self::List(list) => items.extend(list),
                other => items.push(other),
            }
        }
        items
    }

    /// Whether a member, or attribute, has this value.
    fn has(&self, key: &str, wanted: &str) -> bool {
        let value = self.member(key).or_else(|| self.member(&format!("@{key}")));
        let wanted = wanted.trim().trim_matches(['\'', '"']);
        value.and_then(Self::text).is_some_and(|text| fold(&text) == fold(wanted))
    }

    /// The value of a name/value pair.
    fn picked(&self, key: &str) -> &Self {
        let Self::Object(members) = self else { return self };
        let own = self.member(OWN_TEXT).filter(|text| text.text().is_some_and(|text| !text.trim().is_empty()));
        let named = || ["value", "@value"].iter().find_map(|name| self.member(name));
        let only = || {
            let mut others = members.iter().filter(|(name, _)| fold(name.trim_start_matches('@')) != fold(key));
            match (others.next(), others.next()) {
                (Some((_, value)), None) => Some(value),
                _ => None,
            }
        };
        own.or_else(named).or_else(only).unwrap_or(self)
    }

    /// Every name that a template may use, with its path, to a bound.
    pub(super) fn names(&self, before: &str, names: &mut Vec<String>) {
        let Self::Object(members) = self else { return };
        for (name, value) in members.iter().filter(|(name, _)| name != OWN_TEXT) {
            if names.len() >= 200 {
                return;
            }
            let path = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
            if !names.contains(&path) {
                names.push(path.clone());
            }
            value.names(&path, names);
        }
    }
}

/// The steps of a path; a dot in brackets is none.
fn steps(path: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut steps) = (0_u32, 0, Vec::new());
    for (at, letter) in path.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '.' if depth == 0 => {
                steps.push(path.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    steps.push(path.get(begin..).unwrap_or_default());
    steps.retain(|step| !step.is_empty());
    steps
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementsVisitor;
        impl<'de> Visitor<'de> for ElementsVisitor {
            type Value = Vec<&'de RawValue>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(ElementsVisitor).map(Elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &TreeNode, path: &str) -> String {
        node.all(path).first().and_then(|node| node.text()).unwrap_or_default().into_owned()
    }

    #[test]
    fn numbers_keep_their_digits() {
        let json = r#"{"a":{"serial":123456789012345678901234,"x":1.50,"list":[true,null]}}"#;
        let node = TreeNode::json(json).unwrap();
        assert_eq!(node.to_json(), json);
        assert_eq!(text(&node, "a.serial"), "123456789012345678901234");
    }

    #[test]
    fn pairs_are_found_by_their_name() {
        let node = TreeNode::json(
            r#"{"props":[{"name":"CustomerNo","value":"17"},{"name":"DocType","value":"Pass"}],
                "pairs":[{"key":"A","text":"x"}],"a.b":"dotted"}"#,
        )
        .unwrap();
        assert_eq!(text(&node, "props[name=customerno]"), "17");
        assert_eq!(text(&node, "props[name=DocType]"), "Pass");
        assert_eq!(text(&node, "pairs[key=A]"), "x");
        assert_eq!(text(&node, "a.b"), "dotted");
        assert!(node.all("props[name=None]").is_empty());
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        assert!(TreeNode::json(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_err());
    }
}
