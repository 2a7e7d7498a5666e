//! The configuration as a tree of values that know where they come from: the file, overlaid by the environment.
//!
//! Nothing here knows which keys exist. A value of the environment keeps its text, because whether `2024` is a number
//! or a name is for the key to say.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::finding::{ConfigFinding, Origin};

/// What every variable that sets a key begins with.
pub(super) const PREFIX: &str = "PASSFORT_INGEST__";

/// The most drops that there may be: each needs watches and scans of its own.
pub(super) const MAX_DROPS: usize = 1000;

/// The sections of which there may be several, each under two brackets.
const ARRAYS: [&str; 2] = ["drop", "alert"];

/// How deep the file may nest: no key of ours is below the third level.
const MAX_DEPTH: usize = 6;

/// How many faults of syntax are named at once: after the first few, the rest are their echo.
const MAX_SYNTAX_FINDINGS: usize = 10;

/// A table of the tree.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and its origin.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// The text as the environment has it; absent for values of the file.
    pub(super) raw: Option<String>,
}

/// A value as TOML knows it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Table),
    /// What no key takes, described with its article.
    Other(&'static str),
}

impl Value {
    /// What it is, with its article.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a fraction",
            Self::Boolean(_) => "true or false",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Reads a file's text.
///
/// # Errors
///
/// Every fault of syntax. The parser's own messages are used, but never its quotations: that line may contain a key.
pub(super) fn parse(text: &str) -> Result<Table, Vec<ConfigFinding>> {
    let lines = Lines::of(text);
    let (root, faults) = DeTable::parse_recoverable(text);
    if faults.is_empty() {
        return Ok(table(root.get_ref(), &lines, 0));
    }
    let finding = |fault: &toml::de::Error| ConfigFinding {
        key: String::new(),
        origin: fault.span().map(|span| Origin::Line(lines.number(span.start))),
        reason: format!("it is not TOML: {}", fault.message().lines().next().unwrap_or_default()),
        cure: "mend this line; strings are written in double quotes".to_owned(),
    };
    Err(faults.iter().take(MAX_SYNTAX_FINDINGS).map(finding).collect())
}

/// Where the lines of a text begin, so that a position finds its line quickly.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn number(&self, position: usize) -> usize {
        self.0.partition_point(|newline| *newline < position) + 1
    }
}

fn table(from: &DeTable<'_>, lines: &Lines, depth: usize) -> Table {
    from.iter()
        .map(|(key, value)| {
            let origin = Origin::Line(lines.number(key.span().start));
            (key.get_ref().to_string(), Node { value: convert(value.get_ref(), lines, depth + 1), origin, raw: None })
        })
        .collect()
}

fn convert(from: &DeValue<'_>, lines: &Lines, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Other("a deeply nested value");
    }
    match from {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number that is too large"), Value::Integer),
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Other("a fraction"), Value::Float),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(_) => Value::Other("a date or a time"),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| {
                    let origin = Origin::Line(lines.number(item.span().start));
                    Node { value: convert(item.get_ref(), lines, depth + 1), origin, raw: None }
                })
                .collect(),
        ),
        DeValue::Table(entries) => Value::Table(table(entries, lines, depth)),
    }
}

/// Puts the variables that begin with [`PREFIX`] over the file's values; others are left alone.
pub(super) fn overlay(root: &mut Table, variables: &mut dyn Iterator<Item = (String, String)>) -> Vec<ConfigFinding> {
    let mut findings = Vec::new();
    let mut settings: Vec<(Vec<KeySegment>, String, String)> = Vec::new();
    for (name, raw) in variables {
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let steps: Vec<KeySegment> = path.split("__").map(KeySegment::read).collect();
        settings.push((steps, name, raw));
    }
    // In order of number, so that a second drop can follow a first that the environment makes too.
    settings.sort_by(|one, other| one.0.cmp(&other.0));
    for (steps, name, raw) in settings {
        let refused = |reason: &str, cure: &str| ConfigFinding {
            key: String::new(),
            origin: Some(Origin::Variable(name.clone())),
            reason: reason.to_owned(),
            cure: cure.to_owned(),
        };
        let target = match steps.as_slice() {
            [KeySegment::Word(section), KeySegment::Word(key)] if !section.is_empty() && !key.is_empty() => {
                table_in(root, section, &name).map(|table| (table, key))
            }
            [KeySegment::Word(section), KeySegment::Number(at), KeySegment::Word(key)]
                if ARRAYS.contains(&section.as_str()) && !key.is_empty() =>
            {
                item_in(root, section, *at, &name).map(|table| (table, key))
            }
            [KeySegment::Word(key)] if !key.is_empty() => Ok((&mut *root, key)),
            _ => Err("it names no key"),
        };
        match target {
            Ok((table, key)) => {
                table.insert(key.clone(), Node { value: value(&raw), origin: Origin::Variable(name), raw: Some(raw) });
            }
            Err(reason) => {
                findings.push(refused(reason, "write PASSFORT_INGEST__API__BASE_URL or PASSFORT_INGEST__DROP__0__PATH"))
            }
        }
    }
    findings
}

/// One level of a variable's name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum KeySegment {
    Number(usize),
    Word(String),
}

impl KeySegment {
    fn read(text: &str) -> Self {
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        number.map_or_else(|| Self::Word(text.to_ascii_lowercase()), Self::Number)
    }
}

fn table_in<'t>(root: &'t mut Table, section: &str, variable: &str) -> Result<&'t mut Table, &'static str> {
    let empty = || Node { value: Value::Table(Table::new()), origin: Origin::Variable(variable.to_owned()), raw: None };
    if ARRAYS.contains(&section) {
        return Err("it lacks the number of the drop or alert");
    }
    match &mut root.entry(section.to_owned()).or_insert_with(empty).value {
        Value::Table(table) => Ok(table),
        _ => Err("its first part names no section"),
    }
}

fn item_in<'t>(root: &'t mut Table, section: &str, at: usize, variable: &str) -> Result<&'t mut Table, &'static str> {
    let made = |value| Node { value, origin: Origin::Variable(variable.to_owned()), raw: None };
    let items = root.entry(section.to_owned()).or_insert_with(|| made(Value::Array(Vec::new())));
    let Value::Array(items) = &mut items.value else {
        return Err("the file does not write this section with two brackets, as [[drop]]");
    };
    if at == items.len() && at < MAX_DROPS {
        items.push(made(Value::Table(Table::new())));
    }
    match items.get_mut(at).map(|node| &mut node.value) {
        Some(Value::Table(table)) => Ok(table),
        Some(_) => Err("the file does not write this section with two brackets, as [[drop]]"),
        None => Err("there is none of the number before it; the first is 0"),
    }
}

/// A variable's value: TOML where it is that, else its text.
fn value(raw: &str) -> Value {
    // A line break would let one variable look like several keys.
    if raw.contains('\n') {
        return Value::Text(raw.to_owned());
    }
    match DeValue::parse(raw.trim()) {
        Ok(parsed) => match convert(parsed.get_ref(), &Lines::of(raw), 0) {
            Value::Other(_) => Value::Text(raw.to_owned()),
            known => known,
        },
        Err(_) => Value::Text(raw.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaid(text: &str, variables: &[(&str, &str)]) -> (Table, Vec<ConfigFinding>) {
        let mut root = parse(text).unwrap();
        let owned = variables.iter().map(|(name, raw)| ((*name).to_owned(), (*raw).to_owned()));
        let findings = overlay(&mut root, &mut owned.collect::<Vec<_>>().into_iter());
        (root, findings)
    }

    #[test]
    fn a_fault_of_syntax_names_its_line_and_quotes_nothing() {
        let findings = parse("[api]\napi_key = s3cret-value\n").unwrap_err();
        assert_eq!(findings[0].origin, Some(Origin::Line(2)));
        assert!(!format!("{findings:?}").contains("s3cret"), "{findings:?}");
    }

    #[test]
    fn a_key_knows_its_line() {
        let root = parse("[api]\n\nbase_url = \"x\"\n").unwrap();
        let Value::Table(api) = &root["api"].value else { panic!("no table") };
        assert_eq!(api["base_url"].origin, Origin::Line(3));
    }

    #[test]
    fn a_variable_replaces_a_value_and_may_add_drops_in_order() {
        let (root, findings) = overlaid(
            "[[drop]]\nname = \"a\"\n",
            &[
                ("PASSFORT_INGEST__DROP__1__NAME", "b"),
                ("PASSFORT_INGEST__DROP__0__NAME", "c"),
                ("PASSFORT_INGEST__WORKERS__MAX_IN_FLIGHT", "4"),
                ("PASSFORT_INGEST_CONFIG", "ignored"),
                ("HOME", "ignored"),
            ],
        );
        assert_eq!(findings, []);
        let Value::Array(drops) = &root["drop"].value else { panic!("no array") };
        assert_eq!(drops.len(), 2);
        let Value::Table(first) = &drops[0].value else { panic!("no table") };
        assert!(matches!(&first["name"].value, Value::Text(text) if text == "c"));
        assert!(!root.contains_key("home"));
    }

    #[test]
    fn variables_that_name_no_key_are_findings() {
        for name in [
            "",
            "API____X",
            "API__BASE__URL",
            "DROP__2__NAME",
            "DROP__NAME",
            "DROP__0",
            "DROP__99999999999999999999__A",
        ] {
            let full = format!("{PREFIX}{name}");
            let (_, findings) = overlaid("[[drop]]\nname = \"a\"\n", &[(&full, "x")]);
            assert_eq!(findings.len(), 1, "{full}");
        }
    }

    #[test]
    fn one_variable_is_one_value() {
        assert!(matches!(value("1\nb = 2"), Value::Text(_)));
        assert!(matches!(value("[\"a\", \"b\"]"), Value::Array(items) if items.len() == 2));
        assert!(matches!(value("true"), Value::Boolean(true)));
        assert!(matches!(value("22:00:00"), Value::Text(_)));
        assert!(matches!(value("Mon-Fri"), Value::Text(_)));
    }

    #[test]
    fn deep_nesting_is_survived() {
        let _ = parse(&format!("a = {}", "[".repeat(100_000)));
        let _ = parse(&format!("a = {}{}", "[".repeat(70), "]".repeat(70)));
        let _ = parse(&format!("{} = 1", vec!["a"; 50_000].join(".")));
    }
}
