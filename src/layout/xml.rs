//! XML as a record: attributes with `@`, elements by their names without prefixes. No entity of a DOCTYPE is expanded.

use encoding_rs::Encoding;
use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
};

use super::{
    decode,
    node::{MAX_DEPTH, OWN_TEXT, TreeNode},
};

type Element = (String, Vec<(String, TreeNode)>, String);

/// Reads a small XML file.
pub(super) fn read(bytes: &[u8]) -> Result<TreeNode, String> {
    let text = decode::decode(bytes, declared(bytes)?).ok_or("it is not text in the encoding that it declares")?;
    let broken = |error: &dyn std::fmt::Display| format!("it is not well-formed XML: {error}");
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().map_err(|error| broken(&error))? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
                }
                if root.is_some() {
                    return Err(broken(&"it has more than one root"));
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                if root.is_some() {
                    return Err(broken(&"it has more than one root"));
                }
                let element = element(&start)?;
                close(element, &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open.pop().ok_or_else(|| broken(&"an element ends that did not begin"))?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => {
                if let Some((_, _, own)) = open.last_mut() {
                    own.push_str(&text.xml10_content());
                }
            }
            Event::CData(text) => {
                if let Some((_, _, own)) = open.last_mut() {
                    own.push_str(&text.xml10_content());
                }
            }
            Event::GeneralRef(reference) => {
                let letter = match reference.resolve_char_ref().map_err(|error| broken(&error))? {
                    Some(letter) => letter,
                    None => predefined(&reference).ok_or("it uses an entity that XML does not define")?,
                };
                if let Some((_, _, own)) = open.last_mut() {
                    own.push(letter);
                }
            }
            Event::DocType(_) => return Err("it declares a DOCTYPE, which is not read".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err(broken(&"it ends before its elements do"));
    }
    root.ok_or_else(|| broken(&"it has no element"))
}

/// The encoding that the text declares.
fn declared(bytes: &[u8]) -> Result<&'static Encoding, String> {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return Ok(encoding);
    }
    let head = String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes));
    let head = head.split("?>").next().unwrap_or_default();
    let Some((_, rest)) = head.split_once("encoding") else { return Ok(encoding_rs::UTF_8) };
    let value = rest.trim_start().trim_start_matches('=').trim_start();
    let label: String = value.chars().skip(1).take_while(|letter| !matches!(letter, '"' | '\'')).collect();
    Encoding::for_label(label.as_bytes()).ok_or_else(|| format!("it declares an unknown encoding {label:?}"))
}

fn predefined(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    }
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn element(start: &BytesStart<'_>) -> Result<Element, String> {
    let broken = |error: &dyn std::fmt::Display| format!("it is not well-formed XML: {error}");
    let mut members = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| broken(&error))?;
        let name: &str = attribute.key.as_ref();
        if name == "xmlns" || name.starts_with("xmlns:") {
            continue;
        }
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| broken(&error))?;
        members.push((format!("@{}", local(name)), TreeNode::Text(value.into_owned())));
    }
    Ok((local(start.name().as_ref()).to_owned(), members, String::new()))
}

/// Puts an element into the one that it is in. Elements of one name are a list.
fn close((name, mut members, text): Element, open: &mut [Element], root: &mut Option<TreeNode>) {
    let text = text.trim();
    let node = if members.is_empty() {
        TreeNode::Text(text.to_owned())
    } else {
        if !text.is_empty() {
            members.push((OWN_TEXT.to_owned(), TreeNode::Text(text.to_owned())));
        }
        TreeNode::Object(members)
    };
    let Some((_, outer, _)) = open.last_mut() else {
        *root = Some(node);
        return;
    };
    match outer.iter_mut().find(|(other, _)| *other == name) {
        Some((_, TreeNode::List(items))) => items.push(node),
        Some((_, one)) => {
            let first = std::mem::replace(one, TreeNode::Null);
            *one = TreeNode::List(vec![first, node]);
        }
        None => outer.push((name, node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &TreeNode, path: &str) -> String {
        node.all(path).first().and_then(|node| node.text()).unwrap_or_default().into_owned()
    }

    #[test]
    fn attributes_elements_and_pairs_are_found_without_prefixes() {
        let xml = b"<?xml version='1.0' encoding='ISO-8859-1'?><d:doc xmlns:d='urn:x' id='7'><d:index name='A'>F\xFC&#246;&amp;</d:index>\
                    <d:index name='B' value='b'/><d:page file='1.tif'/><d:page file='2.tif'/></d:doc>";
        let node = read(xml).unwrap();
        assert_eq!(text(&node, "@id"), "7");
        assert_eq!(text(&node, "index[name=A]"), "f\u{fc}\u{f6}&".replace('f', "F"));
        assert_eq!(text(&node, "index[name=B]"), "b");
        assert_eq!(node.items("page").len(), 2);
    }

    #[test]
    fn doctypes_foreign_entities_and_broken_xml_are_refused() {
        for xml in [
            "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><x>&a;</x>",
            "<x>&a;</x>",
            "<x><y></x>",
            "<x",
            "",
            "<x/><y/>",
        ] {
            assert!(read(xml.as_bytes()).is_err(), "{xml}");
        }
    }
}
