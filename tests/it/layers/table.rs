//! The tables of ARCHITECTURE.md's section "Layers".

pub(super) struct Rules {
    pub(super) layers: Vec<Layer>,
    /// From a module to another, and why.
    pub(super) exceptions: Vec<(String, String)>,
    pub(super) restrictions: Vec<Restriction>,
}

pub(super) struct Layer {
    pub(super) name: String,
    pub(super) modules: Vec<String>,
    /// Names of layers, and of modules in backticks.
    pub(super) may_know: Vec<String>,
}

/// A kind of code, and where it is allowed.
pub(super) struct Restriction {
    pub(super) name: String,
    pub(super) patterns: Vec<String>,
    /// Names of layers, and paths of modules in backticks.
    pub(super) allowed_in: Vec<String>,
}

impl Rules {
    pub(super) fn read(page: &str) -> Self {
        let (_, section) = page.split_once("\n## Layers\n").expect("no section \"Layers\"");
        let section = section.split("\n## ").next().unwrap();
        let layers = rows(section, "layer")
            .map(|[layer, modules, may_know]| Layer {
                name: name(layer),
                modules: in_backticks(modules),
                may_know: list(may_know),
            })
            .collect();
        let restrictions = rows(section, "code")
            .map(|[code, places, why]| {
                assert!(!why.is_empty(), "no reason: {code}");
                let (_, patterns) = code.split_once(": ").unwrap_or_else(|| panic!("no patterns: {code}"));
                Restriction { name: name(code), patterns: in_backticks(patterns), allowed_in: list(places) }
            })
            .collect();
        let exceptions = section.lines().filter_map(|line| line.strip_prefix("- `")).map(|line| {
            let (edge, reason) = line.split_once("`: ").unwrap_or_else(|| panic!("no reason: {line}"));
            let (from, to) = edge.split_once("` may know `").unwrap_or_else(|| panic!("not understood: {line}"));
            assert!(!reason.trim().is_empty(), "no reason: {line}");
            (from.to_owned(), to.to_owned())
        });
        let exceptions = exceptions.collect();
        Self { layers, exceptions, restrictions }
    }

    pub(super) fn layer_of(&self, module: &str) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.modules.iter().any(|other| other == module))
    }

    pub(super) fn is_allowed(&self, from: &str, to: &str) -> bool {
        let (Some(layer), Some(known)) = (self.layer_of(from), self.layer_of(to)) else { return false };
        let quoted = format!("`{to}`");
        layer.may_know.iter().any(|may| *may == known.name || *may == quoted)
            || self.exceptions.iter().any(|(a, b)| a == from && b == to)
    }
}

/// The rows of the table whose first heading is `heading`.
fn rows<'a>(section: &'a str, heading: &str) -> impl Iterator<Item = [&'a str; 3]> {
    let start = format!("| {heading} |");
    let from = section.lines().skip_while(move |line| !line.starts_with(&start));
    let mut rows = from.take_while(|line| line.starts_with('|')).skip(2).peekable();
    assert!(rows.peek().is_some(), "no table of each {heading}");
    rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        cells.try_into().unwrap_or_else(|_| panic!("not three cells: {line}"))
    })
}

fn name(cell: &str) -> String {
    cell.split(':').next().unwrap().trim_matches('*').to_owned()
}

fn in_backticks(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn list(cell: &str) -> Vec<String> {
    cell.split(", ").filter(|item| !matches!(*item, "nothing" | "nowhere")).map(str::to_owned).collect()
}
