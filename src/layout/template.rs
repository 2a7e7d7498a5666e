//! Templates: text with the values of a record in it, each through a closed list of filters.

use std::borrow::Cow;

use super::{
    finding::{FindingKind, LayoutError, RecordFinding},
    lookup::{Lookups, Match},
    node::TreeNode,
    text::{fold, is_cell_error, pad, quoted},
};
use crate::nearest::nearest;

/// What a template asks a record for.
pub(super) trait Values {
    /// The value of a name; nothing where the record has none.
    fn value(&self, name: &SlotName) -> Option<Found<'_>>;

    /// All names, of a record that has its own; empty where they are known from the list.
    fn own_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A value of a record.
pub(super) enum Found<'a> {
    Text(Cow<'a, str>),
    TreeNode(&'a TreeNode),
    /// Several different ones.
    Several,
}

/// A name in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotName {
    pub(super) text: String,
    /// As it is compared.
    pub(super) folded: String,
}

#[derive(Debug, Clone)]
enum TemplateFilter {
    Upper,
    Lower,
    Plain,
    Pad(usize),
    Lookup(String),
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Slot(SlotName, Vec<TemplateFilter>),
}

/// A template, read.
#[derive(Debug, Clone)]
pub(super) struct Template {
    parts: Vec<Part>,
}

/// What a template comes to.
pub(super) enum FilledTemplate {
    Text(String),
    /// The value of this name is empty.
    Empty(String),
}

impl FilledTemplate {
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Empty(_) => None,
        }
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// What is wrong, with the cure.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(letter) = rest.chars().next() {
            let after = rest.get(letter.len_utf8()..).unwrap_or_default();
            rest = match letter {
                '{' | '}' if after.starts_with(letter) => {
                    plain.push(letter);
                    after.get(1..).unwrap_or_default()
                }
                '}' => return Err(("a '}' has no '{' before it".into(), "write }} where the brace is meant".into())),
                '{' => {
                    let (slot, after) = after
                        .split_once('}')
                        .ok_or(("a '{' has no '}'", "close it, or write {{ where the brace is meant"))
                        .map_err(|(reason, cure)| (reason.to_owned(), cure.to_owned()))?;
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(read_slot(slot)?);
                    after
                }
                other => {
                    plain.push(other);
                    after
                }
            };
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// The names that it uses.
    pub(super) fn names(&self) -> impl Iterator<Item = &SlotName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Slot(name, _) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// The lookups that it uses.
    pub(super) fn lookups(&self) -> impl Iterator<Item = &str> {
        let filters = self.parts.iter().flat_map(|part| match part {
            Part::Slot(_, filters) => filters.as_slice(),
            Part::Text(_) => &[],
        });
        filters.filter_map(|filter| match filter {
            TemplateFilter::Lookup(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether it is the same for every record.
    pub(super) fn is_constant(&self) -> bool {
        self.names().next().is_none()
    }

    /// The name, where it is nothing but that.
    pub(super) fn single(&self) -> Option<&SlotName> {
        match self.parts.as_slice() {
            [Part::Slot(name, filters)] if filters.is_empty() => Some(name),
            _ => None,
        }
    }

    /// Fills in the values of a record. The first empty one decides.
    ///
    /// # Errors
    ///
    /// What is wrong with a value; [`LayoutError`] where a lookup cannot be read.
    pub(super) fn fill(
        &self,
        record: &dyn Values,
        lookups: &Lookups,
    ) -> Result<Result<FilledTemplate, RecordFinding>, LayoutError> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Slot(name, filters) => {
                    let value = match text_of(record.value(name), name) {
                        Ok(value) => value,
                        Err(finding) => return Ok(Err(*finding)),
                    };
                    let mut value = value.trim().to_owned();
                    if value.is_empty() {
                        return Ok(Ok(FilledTemplate::Empty(name.text.clone())));
                    }
                    if is_cell_error(&value) {
                        let reason = format!("the cell {} shows an error instead of a value", quoted(&name.text));
                        let cure = "correct the cell in the list";
                        return Ok(Err(RecordFinding::error(FindingKind::InvalidValue, reason, cure).value(value)));
                    }
                    for filter in filters {
                        value = match filter.apply(value, name, lookups)? {
                            Ok(value) => value,
                            Err(finding) => return Ok(Err(finding)),
                        };
                    }
                    filled.push_str(&value);
                }
            }
        }
        let trimmed = filled.trim();
        Ok(Ok(if trimmed.is_empty() {
            FilledTemplate::Empty("the template".into())
        } else {
            FilledTemplate::Text(trimmed.to_owned())
        }))
    }
}

fn text_of<'a>(found: Option<Found<'a>>, name: &SlotName) -> Result<Cow<'a, str>, Box<RecordFinding>> {
    let text = match found {
        None => Some(Cow::Borrowed("")),
        Some(Found::Text(text)) => Some(text),
        Some(Found::TreeNode(node)) => node.text(),
        Some(Found::Several) => None,
    };
    text.ok_or_else(|| {
        let reason = format!("{} has several values, or is an object", quoted(&name.text));
        let cure = format!("name the value within it, as {{{0}.NAME}} or {{{0}[name=…]}}", name.text);
        Box::new(RecordFinding::error(FindingKind::InvalidValue, reason, cure))
    })
}

fn read_slot(slot: &str) -> Result<Part, (String, String)> {
    let mut pieces = slot.split('|').map(str::trim);
    let name = pieces.next().unwrap_or_default();
    if name.is_empty() {
        return Err(("a placeholder has no name".into(), "write {NAME}, a column of the list".into()));
    }
    let filters = pieces.map(read_filter).collect::<Result<_, _>>()?;
    Ok(Part::Slot(SlotName { text: name.to_owned(), folded: fold(name) }, filters))
}

fn read_filter(text: &str) -> Result<TemplateFilter, (String, String)> {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default();
    let argument = words.next();
    let filter = match (name, argument) {
        ("upper", None) => TemplateFilter::Upper,
        ("lower", None) => TemplateFilter::Lower,
        ("plain", None) => TemplateFilter::Plain,
        ("pad", Some(width)) => match width.parse() {
            Ok(width) if (1..=64).contains(&width) => TemplateFilter::Pad(width),
            _ => return Err((format!("pad {width} is not a number from 1 to 64"), "write e.g. pad 5".into())),
        },
        ("lookup", Some(lookup)) => TemplateFilter::Lookup(lookup.to_owned()),
        ("pad", None) => return Err(("pad has no number".into(), "write e.g. pad 5".into())),
        ("lookup", None) => return Err(("lookup has no name".into(), "write lookup NAME, of [lookup.NAME]".into())),
        _ => {
            let known = ["upper", "lower", "plain", "pad", "lookup"];
            let hint = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let reason = format!("there is no filter {}{hint}", quoted(text));
            return Err((reason, "the filters are upper, lower, plain, pad N and lookup NAME".into()));
        }
    };
    if words.next().is_some() {
        return Err((format!("the filter {} has a word too many", quoted(text)), "divide filters by |".into()));
    }
    Ok(filter)
}

impl TemplateFilter {
    fn apply(
        &self,
        value: String,
        name: &SlotName,
        lookups: &Lookups,
    ) -> Result<Result<String, RecordFinding>, LayoutError> {
        Ok(Ok(match self {
            Self::Upper => value.to_uppercase(),
            Self::Lower => value.to_lowercase(),
            Self::Plain => value.replace('_', " ").split_whitespace().collect::<Vec<_>>().join(" "),
            Self::Pad(width) => pad(&value, *width),
            Self::Lookup(lookup) => {
                let found = lookups.find(lookup, &value)?;
                let (table, key) = lookups.words(lookup);
                match found {
                    Match::One(found) => found,
                    Match::None => {
                        let reason = format!("no such {key} in {table}");
                        let cure = format!("add it to {table}, or correct {} in the list", quoted(&name.text));
                        return Ok(Err(RecordFinding::error(FindingKind::UnknownKey, reason, cure).value(value)));
                    }
                    Match::Several => {
                        let reason = format!("{table} has this {key} more than once, with different values");
                        let cure = format!("keep the right one in {table}");
                        return Ok(Err(RecordFinding::error(FindingKind::AmbiguousKey, reason, cure).value(value)));
                    }
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pairs(Vec<(&'static str, &'static str)>);

    impl Values for Pairs {
        fn value(&self, name: &SlotName) -> Option<Found<'_>> {
            let found = self.0.iter().find(|(own, _)| fold(own) == name.folded)?;
            Some(Found::Text(Cow::Borrowed(found.1)))
        }
    }

    fn filled(template: &str) -> Option<String> {
        let record = Pairs(vec![("Kunden-Nr", " 17 "), ("kind", "Driving__licence "), ("none", ""), ("bad", "#n/a")]);
        let filled = Template::parse(template).unwrap().fill(&record, &Lookups::default()).unwrap();
        filled.ok().and_then(FilledTemplate::into_text)
    }

    #[test]
    fn values_go_through_their_filters() {
        assert_eq!(filled("{kunden-nr | pad 5}/{kind | plain | upper}").unwrap(), "00017/DRIVING LICENCE");
        assert_eq!(filled("{{{Kunden-Nr}}}").unwrap(), "{17}");
    }

    #[test]
    fn an_empty_value_empties_the_whole() {
        assert_eq!(filled("DMS-{none}"), None);
        assert_eq!(filled("DMS-{bad}"), None);
    }

    #[test]
    fn what_is_no_template_is_refused_with_a_cure() {
        for text in ["{a", "a}", "{}", "{a | uper}", "{a | pad}", "{a | lookup}", "{a | pad 5 6}", "{a | pad x}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert!(Template::parse("{a | uper}").unwrap_err().0.contains("upper"));
    }
}
