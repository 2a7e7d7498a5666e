//! Checks `src` against the tables in ARCHITECTURE.md's section "Layers".

pub(crate) mod source;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
    sync::LazyLock,
};

use self::{
    source::{File, Mention, Texts, Tree, tokens},
    table::Rules,
};

pub(crate) static TREE: LazyLock<Tree> = LazyLock::new(|| {
    let mut texts = Texts::new();
    read_folder(Path::new(env!("CARGO_MANIFEST_DIR")), "src", &mut texts);
    Tree::read(&texts)
});

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    Rules::read(&fs::read_to_string(page).unwrap())
});

fn read_folder(root: &Path, folder: &str, texts: &mut Texts) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_folder(root, &path, texts);
        } else if path.ends_with(".rs") {
            texts.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

/// Each edge from one module below the crate to another, with the mentions that make it.
fn edges(tree: &Tree) -> BTreeMap<(String, String), Vec<String>> {
    let mut edges = BTreeMap::<_, Vec<_>>::new();
    for (file, mention) in mentions(tree) {
        let (Some(from), Some(to)) = (file.module.first(), mention.segments.get(1)) else { continue };
        if mention.segments[0] == "crate" && from != to {
            edges.entry((from.clone(), to.clone())).or_default().push(place(file, mention));
        }
    }
    edges
}

fn mentions(tree: &Tree) -> impl Iterator<Item = (&File, &Mention)> {
    tree.files.iter().flat_map(|file| file.mentions.iter().map(move |mention| (file, mention)))
}

fn place(file: &File, mention: &Mention) -> String {
    format!("{}:{}: {}", file.path, mention.line, mention.segments.join("::"))
}

/// Edges that the table of layers does not allow, and differences between its modules and those that exist.
fn forbidden_edges(tree: &Tree, rules: &Rules) -> Vec<String> {
    let existing: BTreeSet<_> = tree.files.iter().filter_map(|file| file.module.first()).collect();
    let listed: Vec<_> = rules.layers.iter().flat_map(|layer| &layer.modules).collect();
    let mut wrong = Vec::new();
    for module in &existing {
        match listed.iter().filter(|other| *other == module).count() {
            1 => {}
            0 => wrong.push(format!("`{module}` is in no layer: add it to the table in ARCHITECTURE.md")),
            _ => wrong.push(format!("`{module}` is in two layers")),
        }
    }
    for module in listed.iter().filter(|module| !existing.contains(**module)) {
        wrong.push(format!("`{module}` is in the table in ARCHITECTURE.md, and there is no such module"));
    }
    let edges = edges(tree);
    for ((from, to), places) in &edges {
        let layer = |module| rules.layer_of(module).map_or("no layer", |layer| layer.name.as_str());
        if !existing.contains(to) {
            wrong.push(format!("name the module where the item is, not the crate:\n    {}", places.join("\n    ")));
        } else if !rules.is_allowed(from, to) {
            wrong.push(format!(
                "`{from}` ({}) may not know `{to}` ({}). Move what both need to a layer that both may know, or take it \
                 as an argument; or change the table in ARCHITECTURE.md, with a reason:\n    {}",
                layer(from),
                layer(to),
                places.join("\n    ")
            ));
        }
    }
    for layer in &rules.layers {
        for module in layer.may_know.iter().filter_map(|known| known.strip_prefix('`')?.strip_suffix('`')) {
            if !edges.keys().any(|(from, to)| to == module && layer.modules.contains(from)) {
                wrong.push(format!("{} does not use `{module}` any more: remove it in ARCHITECTURE.md", layer.name));
            }
        }
    }
    for (from, to) in &rules.exceptions {
        if !edges.contains_key(&(from.clone(), to.clone())) {
            wrong.push(format!("`{from}` does not know `{to}` any more: remove the exception in ARCHITECTURE.md"));
        }
    }
    wrong
}

/// Circles of modules below the crate, and of files below one of them.
///
/// A file may use what its own ancestors define, and a module may re-export what its descendants define.
fn circles(tree: &Tree) -> Vec<String> {
    let mut graph = BTreeMap::<String, BTreeMap<String, String>>::new();
    for ((from, to), places) in edges(tree) {
        graph.entry(from).or_default().insert(to, places[0].clone());
    }
    for (file, mention) in mentions(tree).filter(|(_, mention)| !mention.is_reexport) {
        let Some(to) = tree.definition(&mention.segments) else { continue };
        let is_below_one = file.module.first() == to.module.first();
        if is_below_one && !file.module.starts_with(&to.module) {
            let known = graph.entry(file.path.clone()).or_default();
            known.entry(to.path.clone()).or_insert_with(|| place(file, mention));
        }
    }
    let mut found = BTreeMap::new();
    for start in graph.keys() {
        if let Some(circle) = shortest_circle(&graph, start) {
            found.entry(circle.iter().copied().collect::<BTreeSet<_>>()).or_insert_with(|| {
                let steps = circle.iter().zip(circle.iter().cycle().skip(1));
                let steps: Vec<_> = steps.map(|(from, to)| graph[*from][*to].as_str()).collect();
                format!(
                    "{} and back: move what they share to a file of its own, or take it as an argument:\n    {}",
                    circle.join(" → "),
                    steps.join("\n    ")
                )
            });
        }
    }
    found.into_values().collect()
}

fn shortest_circle<'a>(graph: &'a BTreeMap<String, BTreeMap<String, String>>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut before = BTreeMap::<&str, &str>::new();
    let mut next = VecDeque::from([start]);
    while let Some(from) = next.pop_front() {
        for to in graph.get(from).into_iter().flat_map(BTreeMap::keys) {
            if to == start {
                let mut circle = vec![from];
                while *circle.last().unwrap() != start {
                    circle.push(before[circle.last().unwrap()]);
                }
                circle.reverse();
                return Some(circle);
            }
            if !before.contains_key(to.as_str()) {
                before.insert(to, from);
                next.push_back(to);
            }
        }
    }
    None
}

/// Code outside the places that the table of restrictions allows, and places that the table names for nothing.
fn misplaced_code(tree: &Tree, rules: &Rules) -> Vec<String> {
    let mut wrong = Vec::new();
    for rule in &rules.restrictions {
        let mut used = BTreeSet::new();
        for file in &tree.files {
            let module = file.module.join("::");
            let layer = file.module.first().and_then(|module| rules.layer_of(module)).map(|layer| layer.name.as_str());
            let allowed = rule.allowed_in.iter().find(|place| match place.strip_prefix('`') {
                Some(path) => format!("{module}::").starts_with(&format!("{}::", path.trim_end_matches('`'))),
                None => layer == Some(place.as_str()),
            });
            for pattern in &rule.patterns {
                for line in lines_with(file, pattern) {
                    match allowed {
                        Some(place) => _ = used.insert(place),
                        None => wrong.push(format!(
                            "{}:{line}: `{pattern}`: {} is allowed in {} only. Call what is there, or change the \
                             table in ARCHITECTURE.md, with a reason",
                            file.path,
                            rule.name,
                            rule.allowed_in.join(", ")
                        )),
                    }
                }
            }
        }
        for place in rule.allowed_in.iter().filter(|place| !used.contains(place)) {
            wrong
                .push(format!("ARCHITECTURE.md allows {} in {place}, where there is none: remove it there", rule.name));
        }
    }
    wrong
}

/// The lines where the file's code has the pattern's tokens, or a path has its segments. A pattern in quotation marks is
/// found in string literals, where it is a word.
fn lines_with(file: &File, pattern: &str) -> BTreeSet<usize> {
    let wanted: Vec<_> = tokens(pattern).into_iter().map(|token| token.text).collect();
    if let [literal] = wanted.as_slice()
        && let Some(word) = literal.strip_prefix('"')
    {
        let is_there = |text: &str| {
            let mut words = text.split(|next: char| !next.is_alphanumeric() && next != '_');
            text.starts_with('"') && words.any(|other| other == word)
        };
        return file.tokens.iter().filter(|token| is_there(&token.text)).map(|token| token.line).collect();
    }
    let segments: Vec<_> = wanted.iter().filter(|text| *text != "::").cloned().collect();
    let starts = file.tokens.iter().enumerate().filter(|(_, token)| token.text == wanted[0]);
    let in_code =
        starts.filter(|(at, _)| file.tokens[*at..].iter().map(|token| &token.text).take(wanted.len()).eq(&wanted));
    let in_paths = file.mentions.iter().filter(|mention| {
        let mut starts = (0..mention.segments.len()).filter(|at| mention.segments[*at] == segments[0]);
        starts.any(|at| mention.segments[at..].starts_with(&segments))
    });
    in_code.map(|(_, token)| token.line).chain(in_paths.map(|mention| mention.line)).collect()
}

#[track_caller]
fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}:\n\n{}\n", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_edge_between_modules_is_in_the_table() {
    assert_none(&forbidden_edges(&TREE, &RULES));
}

#[test]
fn neither_modules_nor_files_form_a_circle() {
    assert_none(&circles(&TREE));
}

#[test]
fn each_kind_of_code_is_where_it_is_allowed() {
    assert_none(&misplaced_code(&TREE, &RULES));
}

#[test]
fn all_of_the_production_code_is_read() {
    assert!(TREE.files.len() > 150, "only {} files were read", TREE.files.len());
    assert!(mentions(&TREE).count() > 3000, "only {} paths were read", mentions(&TREE).count());
    let has_tests = |file: &&File| file.path.ends_with("tests.rs") || file.path.contains("test_support");
    assert_eq!(TREE.files.iter().find(has_tests).map(|file| &file.path), None);
}

/// A small crate under small tables.
struct Fixture {
    tree: Tree,
    rules: Rules,
}

impl Fixture {
    fn new(sources: &[(&str, &str)]) -> Self {
        const PAGE: &str = "
## Layers

| layer | modules | may know |
|---|---|---|
| **ground**: values | `a`, `b` | nothing |
| **above**: things | `c`, `d` | ground, `a` |

- `c` may know `d`: a reason

| code | allowed in | why |
|---|---|---|
| **SQL**: `rusqlite`, `\"SELECT\"` | `c`, `d::home` | a reason |
| **threads**: `thread::spawn`, `.spawn(` | above | a reason |

## More
";
        let base = [
            ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("src/a.rs", ""),
            ("src/b.rs", ""),
            ("src/c.rs", "use crate::{d, a}; const QUERY: &str = r#\"SELECT 1\"#; fn f() { std::thread::spawn(g); }"),
            ("src/d.rs", "mod home;"),
            ("src/d/home.rs", "use rusqlite::Connection;"),
        ];
        let texts = base.iter().chain(sources).map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self { tree: Tree::read(&texts.collect()), rules: Rules::read(PAGE) }
    }

    #[track_caller]
    fn finds(wrong: Vec<String>, expected: &[&str]) {
        assert_eq!(wrong.len(), expected.len(), "{wrong:#?}");
        for (wrong, expected) in wrong.iter().zip(expected) {
            assert!(wrong.contains(expected), "{wrong} without {expected}");
        }
    }
}

#[track_caller]
fn edge_in_a(text: &str, expected: &[&str]) {
    let fixture = Fixture::new(&[("src/a.rs", text)]);
    Fixture::finds(forbidden_edges(&fixture.tree, &fixture.rules), expected);
}

#[test]
fn an_edge_is_found_however_it_is_written() {
    edge_in_a("\nuse crate::b::Item;", &["src/a.rs:2: crate::b::Item"]);
    edge_in_a("use std::fmt;\nuse crate::{a, d::{\nhome::{self as other, Item}}};", &["src/a.rs:3: crate::d::home"]);
    edge_in_a("use crate::b as other;", &["`a` (ground) may not know `b` (ground)"]);
    edge_in_a("pub use crate::b::*;", &["src/a.rs:1: crate::b::*"]);
    edge_in_a("fn f() -> crate::b::Item { x }", &["src/a.rs:1: crate::b::Item"]);
    edge_in_a("fn f(x: Vec<super::b::Item>) {}", &["src/a.rs:1: crate::b::Item"]);
    edge_in_a("fn f() { use super::b; }", &["src/a.rs:1: crate::b"]);
    edge_in_a("use crate as all; fn f() { all::c::g() }", &["src/a.rs:1: crate::c::g"]);
    edge_in_a("// crate::b::Item\n/* /* */ crate::b::Item */ const X: &str = \"crate::b::Item\";", &[]);
    edge_in_a("use crate::Item;", &["name the module where the item is"]);
}

#[test]
fn a_path_by_super_is_followed_from_where_it_is() {
    let fixture = Fixture::new(&[("src/d/home.rs", "use super::super::c::Item; fn f() { super::c(); rusqlite::f() }")]);
    Fixture::finds(forbidden_edges(&fixture.tree, &fixture.rules), &["src/d/home.rs:1: crate::c::Item"]);
}

#[test]
fn code_that_only_tests_compile_is_skipped() {
    edge_in_a("#[cfg(test)]\nmod tests { use crate::b::Item; fn f() { crate::b::f(); } }", &[]);
    edge_in_a("#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\nuse crate::c;", &["src/a.rs:4: crate::c"]);
    edge_in_a("#[cfg(test)] pub(crate) use crate::b::Item; use crate::c;", &["src/a.rs:1: crate::c"]);
    edge_in_a("#[cfg(test)] fn f<A, B>(x: crate::b::X) -> [u8; 2] { crate::b::f() } use crate::c;", &["crate::c"]);
    edge_in_a("struct S { #[cfg(test)] pub x: crate::b::X, y: crate::c::X }", &["crate::c::X"]);
    edge_in_a("fn f() { match x { #[cfg(test)] 1 => { crate::b::f() } 2 => crate::c::f() } }", &["crate::c"]);
    edge_in_a("fn f<'a>(x: &'a str) { let y = ['\"', '\\'', 'x']; } #[cfg(test)] mod t { use crate::b; }", &[]);
}

#[test]
fn the_table_has_each_module_and_no_other() {
    let fixture = Fixture::new(&[("src/lib.rs", "mod b; mod c; mod d; mod e;"), ("src/e/mod.rs", "")]);
    let expected = ["`e` is in no layer", "`a` is in the table", "name the module"];
    Fixture::finds(forbidden_edges(&fixture.tree, &fixture.rules), &expected);
}

#[test]
fn what_the_table_allows_and_nothing_uses_is_found() {
    let fixture = Fixture::new(&[("src/c.rs", "")]);
    let expected = ["above does not use `a` any more", "remove the exception"];
    Fixture::finds(forbidden_edges(&fixture.tree, &fixture.rules), &expected);
}

#[test]
fn circles_are_found() {
    let of = |sources: &[(&str, &str)]| circles(&Fixture::new(sources).tree);
    let expected = ["a → b and back"];
    Fixture::finds(of(&[("src/a.rs", "use crate::b;"), ("src/b.rs", "fn f() { crate::a::g() }")]), &expected);
    let module = ("src/a.rs", "mod x; mod y; pub use self::y::Y; fn f() { x::g() } struct Own;");
    let there = ("src/a/x.rs", "use super::y::Y;");
    Fixture::finds(of(&[module, there, ("src/a/y.rs", "use super::Own;")]), &[]);
    let expected = ["src/a/x.rs → src/a/y.rs and back"];
    Fixture::finds(of(&[module, there, ("src/a/y.rs", "use super::x;")]), &expected);
    // By what their parent re-exports.
    Fixture::finds(of(&[module, ("src/a/x.rs", "use super::Y;"), ("src/a/y.rs", "use super::x;")]), &expected);
}

#[test]
fn misplaced_code_is_found() {
    let of = |path, text| {
        let fixture = Fixture::new(&[(path, text)]);
        misplaced_code(&fixture.tree, &fixture.rules)
    };
    Fixture::finds(of("src/a.rs", "use std::thread;\nfn f() { thread::spawn(g) }"), &["src/a.rs:2: `thread::spawn`"]);
    Fixture::finds(of("src/a.rs", "use std::{thread::{Builder, spawn as start}};"), &["src/a.rs:1: `thread::spawn`"]);
    Fixture::finds(of("src/a.rs", "fn f() { Builder::new()\n.spawn(g) }"), &["src/a.rs:2: `.spawn(`"]);
    Fixture::finds(of("src/a.rs", "const Q: &str = \"x; SELECT 1\";"), &["src/a.rs:1: `\"SELECT\"`: SQL"]);
    Fixture::finds(of("src/a.rs", "/// SELECT\nconst Q: &str = \"SELECTED, select\";"), &[]);
    Fixture::finds(of("src/d/home.rs", ""), &["allows SQL in `d::home`"]);
    Fixture::finds(of("src/a.rs", "#[cfg(test)] mod tests { use rusqlite::Connection; }"), &[]);
}
