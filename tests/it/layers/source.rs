//! The production code of `src` as tokens, and the paths that each of its files names.
//!
//! Modules are found as the compiler finds them, from `lib.rs` on. What only tests compile is left out.

use std::collections::{BTreeMap, BTreeSet};

/// The texts of the files, by their paths below the project's folder.
pub(crate) type Texts = BTreeMap<String, String>;

/// A module with a file of its own.
pub(crate) struct File {
    pub(crate) path: String,
    /// Its path below the crate: empty for `lib.rs`.
    pub(super) module: Vec<String>,
    /// Without `use` declarations.
    pub(crate) tokens: Vec<Token>,
    pub(super) mentions: Vec<Mention>,
    /// What `use` declarations bind, by the name that they give it.
    imports: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    /// A string literal begins with a quotation mark and ends without one.
    pub(crate) text: String,
}

/// A path that a file names, in full: it begins with `crate` where it leads into this crate.
pub(super) struct Mention {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
    pub(super) is_reexport: bool,
}

pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    modules: BTreeMap<Vec<String>, usize>,
}

impl Tree {
    pub(crate) fn read(texts: &Texts) -> Self {
        let mut tree = Self { files: Vec::new(), modules: BTreeMap::new() };
        tree.load(texts, "src/lib.rs", Vec::new());
        if texts.contains_key("src/main.rs") {
            tree.load(texts, "src/main.rs", vec!["main".to_owned()]);
        }
        for index in 0..tree.files.len() {
            let file = &tree.files[index];
            let (uses, paths, rest) = mentions(&file.tokens);
            let mut imports = BTreeMap::new();
            let mut found = Vec::new();
            for (written, alias) in uses {
                let mention = Mention { segments: tree.in_full(&file.module, &imports, &written), ..written };
                imports.insert(alias, mention.segments.clone());
                found.push(mention);
            }
            for written in paths {
                found.push(Mention { segments: tree.in_full(&file.module, &imports, &written), ..written });
            }
            let file = &mut tree.files[index];
            (file.tokens, file.mentions, file.imports) = (rest, found, imports);
        }
        tree
    }

    fn load(&mut self, texts: &Texts, path: &str, module: Vec<String>) {
        let text = texts.get(path).unwrap_or_else(|| panic!("no file {path}"));
        let tokens = without_tests(&tokens(text));
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => path.trim_end_matches(".rs").to_owned(),
        };
        let children: Vec<_> = tokens
            .windows(3)
            .filter(|window| window[0].text == "mod" && window[2].text == ";")
            .map(|window| window[1].text.clone())
            .collect();
        self.modules.insert(module.clone(), self.files.len());
        self.files.push(File {
            path: path.to_owned(),
            module: module.clone(),
            tokens,
            mentions: Vec::new(),
            imports: BTreeMap::new(),
        });
        for child in children {
            let places = [format!("{folder}/{child}.rs"), format!("{folder}/{child}/mod.rs")];
            let place = places.iter().find(|place| texts.contains_key(*place));
            let place = place.unwrap_or_else(|| panic!("{path} declares `{child}`, which has no file"));
            self.load(texts, place, [module.as_slice(), &[child]].concat());
        }
    }

    /// A path from the crate's root on, or from the name of another crate.
    fn in_full(&self, module: &[String], imports: &BTreeMap<String, Vec<String>>, written: &Mention) -> Vec<String> {
        let (first, rest) = written.segments.split_first().unwrap();
        let here = |module: &[String], rest: &[String]| [&["crate".to_owned()], module, rest].concat();
        match first.as_str() {
            "crate" | "passfort_ingest" => here(&[], rest),
            "self" => here(module, rest),
            "super" => {
                let ups = written.segments.iter().take_while(|segment| *segment == "super").count();
                here(&module[..module.len().saturating_sub(ups)], &written.segments[ups..])
            }
            _ if self.modules.contains_key([module, std::slice::from_ref(first)].concat().as_slice()) => {
                here(module, &written.segments)
            }
            _ => imports.get(first).map_or_else(|| written.segments.clone(), |import| [import, rest].concat()),
        }
    }

    /// The file that a path of this crate leads to, and what is left of the path: the name of an item.
    pub(super) fn resolve<'a>(&self, segments: &'a [String]) -> Option<(&File, &'a [String])> {
        let path = segments.strip_prefix(&["crate".to_owned()])?;
        let known = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        Some((&self.files[self.modules[&path[..known]]], &path[known..]))
    }

    /// Like [`Tree::resolve`], and on to the file that defines the item where it is only imported there.
    pub(super) fn definition(&self, segments: &[String]) -> Option<&File> {
        let (mut segments, mut seen) = (segments.to_vec(), BTreeSet::new());
        loop {
            let (file, item) = self.resolve(&segments)?;
            let import = item.first().and_then(|name| file.imports.get(name));
            let Some(import) = import.filter(|import| import[0] == "crate") else { return Some(file) };
            let next = [import.as_slice(), &item[1..]].concat();
            if !seen.insert(std::mem::replace(&mut segments, next)) {
                return Some(file);
            }
        }
    }
}

/// Splits Rust into identifiers, literals and punctuation; `::` is one token. Comments and lifetimes are left out.
#[expect(clippy::string_slice, reason = "tokens begin and end at ASCII characters")]
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (length, token) = match rest[0] {
            b'/' if rest.starts_with(b"//") => (rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()), None),
            b'/' if rest.starts_with(b"/*") => (block_comment(rest), None),
            b'"' => {
                let length = quoted(rest, b'"');
                (length, Some(text[at..at + length - 1].to_owned()))
            }
            b'\'' if rest.get(1) == Some(&b'\\') || text[at + 1..].chars().nth(1) == Some('\'') => {
                (quoted(rest, b'\''), None)
            }
            // A lifetime.
            b'\'' => (1 + rest[1..].iter().take_while(|byte| is_word(**byte)).count(), None),
            b':' if rest.starts_with(b"::") => (2, Some("::".to_owned())),
            byte if is_word(byte) => {
                let length = rest.iter().take_while(|byte| is_word(**byte)).count();
                let word = &text[at..at + length];
                let hashes = rest[length..].iter().take_while(|byte| **byte == b'#').count();
                if matches!(word, "r" | "br" | "cr") && rest.get(length + hashes) == Some(&b'"') {
                    let start = at + length + hashes;
                    let close = format!("\"{}", "#".repeat(hashes));
                    let inner = text[start + 1..].find(&close).unwrap();
                    (start + 1 + inner + close.len() - at, Some(text[start..start + 1 + inner].to_owned()))
                } else if word == "r" && hashes == 1 {
                    (2, None)
                } else if matches!(word, "b" | "c") && matches!(rest.get(length), Some(b'"' | b'\'')) {
                    (1, None)
                } else {
                    (length, Some(word.to_owned()))
                }
            }
            byte if byte.is_ascii_whitespace() => (1, None),
            byte => (1, Some(char::from(byte).to_string())),
        };
        found.extend(token.map(|text| Token { line, text }));
        line += rest[..length].iter().filter(|byte| **byte == b'\n').count();
        at += length;
    }
    found
}

/// The length of a literal, with its quotation marks.
fn quoted(rest: &[u8], mark: u8) -> usize {
    let mut at = 1;
    while rest[at] != mark {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        match &rest[at..at + 2] {
            b"/*" => (at, depth) = (at + 2, depth + 1),
            b"*/" => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

/// Without the items, fields and arms that are marked `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    const ITEMS: [&str; 13] =
        ["fn", "mod", "use", "struct", "enum", "union", "impl", "const", "static", "type", "trait", "unsafe", "async"];
    let (mut at, mut kept) = (0, Vec::new());
    while at < tokens.len() {
        if tokens[at].text != MARK[0] || !is_at(&tokens[at..], &MARK) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        while is_at(&tokens[at..], &["#"]) {
            at = after_group(tokens, at + 1);
        }
        if is_at(&tokens[at..], &["pub"]) {
            at += 1;
            if is_at(&tokens[at..], &["("]) {
                at = after_group(tokens, at);
            }
        }
        let is_item = ITEMS.contains(&tokens[at].text.as_str());
        loop {
            match tokens.get(at).map(|token| token.text.as_str()) {
                Some(";") => break at += 1,
                Some(",") if !is_item => break at += 1,
                Some("{") => {
                    at = after_group(tokens, at);
                    break at += usize::from(!is_item && is_at(&tokens[at..], &[","]));
                }
                Some("(" | "[") => at = after_group(tokens, at),
                Some(")" | "]" | "}") | None => break,
                Some(_) => at += 1,
            }
        }
    }
    kept
}

fn is_at(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// The place behind the group that opens at `at`.
fn after_group(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    loop {
        match tokens[at].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
}

/// The paths of `use` declarations with the names that they bind, those of other code, and the tokens of that.
fn mentions(tokens: &[Token]) -> (Vec<(Mention, String)>, Vec<Mention>, Vec<Token>) {
    let (mut uses, mut paths, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        if token.text == "use" {
            // `use<'a>` of a bound is none.
            let is_declaration = tokens.get(at + 1).is_some_and(|next| next.text != "<");
            if is_declaration {
                let before = at.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
                let mut found = Vec::new();
                at = use_tree(tokens, at + 1, &[], &mut found);
                uses.extend(found.into_iter().map(|(line, segments, alias)| {
                    (Mention { line, segments, is_reexport: matches!(before, "pub" | ")") }, alias)
                }));
                continue;
            }
        }
        let starts = is_name(token) && at.checked_sub(1).is_none_or(|before| tokens[before].text != "::");
        if starts {
            let mut segments = vec![token.text.clone()];
            let mut next = at + 1;
            while next + 1 < tokens.len() && tokens[next].text == "::" && is_name(&tokens[next + 1]) {
                segments.push(tokens[next + 1].text.clone());
                next += 2;
            }
            if segments.len() > 1 {
                paths.push(Mention { line: token.line, segments, is_reexport: false });
            }
        }
        rest.push(token.clone());
        at += 1;
    }
    (uses, paths, rest)
}

fn is_name(token: &Token) -> bool {
    token.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// One branch of a `use` declaration: the line, the path and the bound name of each leaf; returns the place behind it.
fn use_tree(tokens: &[Token], mut at: usize, above: &[String], found: &mut Vec<(usize, Vec<String>, String)>) -> usize {
    let mut path = above.to_vec();
    let mut alias = None;
    let line = tokens[at].line;
    loop {
        match tokens[at].text.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens[at].text != "}" {
                    at = use_tree(tokens, at, &path, found);
                    at += usize::from(tokens[at].text == ",");
                }
                return at + 1;
            }
            "as" => {
                alias = Some(tokens[at + 1].text.clone());
                at += 2;
            }
            "," | "}" | ";" => break,
            "self" if !path.is_empty() => at += 1,
            name => {
                path.push(name.to_owned());
                at += 1;
            }
        }
    }
    let alias = alias.unwrap_or_else(|| path.last().unwrap().clone());
    found.push((line, path, alias));
    at
}
