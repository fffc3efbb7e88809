//! The graph of the modules of a crate, and its circles.
//!
//! A module is a file. Module `a` uses module `b` if a path in the file of `a` names an item of
//! `b`; a path to a re-exported item counts as a use of the module that defines it. Two rules hold
//! for each module `m`:
//! 1. its child modules, each with everything below it, do not use each other in a circle;
//! 2. if something below `m` uses an item of `m`, then `m` uses nothing below itself.
//!
//! `mod`, `pub use` and the assembly of routes (`routes!(…)`, `child::routes()`) are no uses.

use super::source::{self, Path, Source};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path as FilePath;

type Module = Vec<String>;

/// The modules of a crate and their uses.
pub(super) struct Modules {
    sources: BTreeMap<Module, Source>,
    /// For each module, the modules it uses, with a path that shows it.
    uses: BTreeMap<Module, BTreeMap<Module, String>>,
}

impl Modules {
    /// Reads the source files below a crate's `src`.
    pub(super) fn of_crate(directory: &FilePath) -> Self {
        let mut files = Vec::new();
        collect(directory, &mut Vec::new(), &mut files);
        assert!(!files.is_empty(), "{} has sources", directory.display());
        Self::of(files)
    }

    fn of(files: Vec<(Module, String)>) -> Self {
        let names: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
        let children = |module: &Module| {
            let below =
                names.iter().filter(|it| it.len() == module.len() + 1 && it.starts_with(module));
            below.filter_map(|it| it.last().cloned()).collect::<BTreeSet<_>>()
        };
        let read = |(module, text): (Module, String)| {
            let source = source::read(&text, &children(&module));
            (module, source)
        };
        let mut sources: BTreeMap<_, _> = files.into_iter().map(read).collect();
        let test_modules: Vec<Module> = sources
            .iter()
            .flat_map(|(module, source)| {
                source
                    .test_modules
                    .iter()
                    .map(|name| [module.as_slice(), std::slice::from_ref(name)].concat())
            })
            .collect();
        sources.retain(|module, _| !test_modules.iter().any(|it| module.starts_with(it)));
        let mut modules = Self { sources, uses: BTreeMap::new() };
        modules.uses = modules.sources.keys().map(|it| (it.clone(), modules.uses_of(it))).collect();
        modules
    }

    fn uses_of(&self, module: &Module) -> BTreeMap<Module, String> {
        let paths = self.sources[module].paths.iter();
        let paths = paths.filter(|path| !path.is_reexport && !path.is_route);
        let resolved = paths.filter_map(|path| Some((self.target(module, path, 0)?, path)));
        resolved
            .filter(|(target, _)| target != module)
            .map(|(target, path)| (target, path.segments.join("::")))
            .collect()
    }

    /// The module whose item a path names; none for an item of another crate.
    fn target(&self, module: &Module, path: &Path, depth: usize) -> Option<Module> {
        let absolute = self.absolute(module, &path.segments)?;
        let length = (0..=absolute.len())
            .rev()
            .find(|length| self.sources.contains_key(&absolute[..*length]))?;
        let (found, item) = (absolute[..length].to_vec(), absolute.get(length));
        let reexport = self.sources[&found]
            .paths
            .iter()
            .find(|it| it.is_reexport && it.segments.last() == item && item.is_some());
        match reexport {
            // A chain of re-exports is short.
            Some(reexport) if depth < 8 => self.target(&found, reexport, depth + 1).or(Some(found)),
            _ => Some(found),
        }
    }

    fn absolute(&self, module: &Module, segments: &[String]) -> Option<Module> {
        let ups = segments.iter().take_while(|it| *it == "super").count();
        let (base, rest) = match segments.first()?.as_str() {
            "crate" => (Vec::new(), &segments[1..]),
            "self" => (module.clone(), &segments[1..]),
            "super" => (module[..module.len().checked_sub(ups)?].to_vec(), &segments[ups..]),
            child => {
                let child = [module.as_slice(), &[child.to_owned()]].concat();
                (self.sources.contains_key(&child).then(|| module.clone())?, segments)
            }
        };
        Some([base.as_slice(), rest].concat())
    }

    /// The paths of all files that begin like this, with the module that has them.
    pub(super) fn paths_to(&self, prefix: &[&str]) -> Vec<String> {
        let found = self.sources.iter().flat_map(|(module, source)| {
            let fits = |path: &&Path| {
                path.segments.iter().zip(prefix).filter(|(a, b)| a == b).count() == prefix.len()
            };
            source
                .paths
                .iter()
                .filter(fits)
                .map(|path| format!("{}: {}", name(module), path.segments.join("::")))
        });
        found.collect()
    }

    /// A line for each breach of the two rules.
    pub(super) fn circles(&self) -> Vec<String> {
        let mut found = Vec::new();
        for module in self.sources.keys() {
            found.extend(self.circle_below(module));
            found.extend(self.circle_with_parent(module));
        }
        found
    }

    fn circle_below(&self, parent: &Module) -> Option<String> {
        let mut graph: BTreeMap<&Module, BTreeMap<&Module, String>> = BTreeMap::new();
        let names: BTreeSet<Module> = self
            .sources
            .keys()
            .filter(|it| it.len() > parent.len() && it.starts_with(parent))
            .map(|it| it[..=parent.len()].to_vec())
            .collect();
        let child = |module: &Module| {
            module
                .starts_with(parent)
                .then(|| module.get(..=parent.len()).and_then(|it| names.get(it)))
                .flatten()
        };
        for (module, uses) in &self.uses {
            for (target, path) in uses {
                if let (Some(from), Some(to)) = (child(module), child(target))
                    && from != to
                {
                    graph
                        .entry(from)
                        .or_default()
                        .insert(to, format!("{} uses {path}", name(module)));
                }
            }
        }
        let circle =
            graph.keys().filter_map(|start| shortest_circle(&graph, start)).min_by_key(Vec::len)?;
        Some(format!("circle below {}: {}", name(parent), circle.join("; ")))
    }

    fn circle_with_parent(&self, parent: &Module) -> Option<String> {
        let is_below = |it: &Module| it.len() > parent.len() && it.starts_with(parent);
        let (_, down) = self.uses.get(parent)?.iter().find(|(target, _)| is_below(target))?;
        let (child, up) = self
            .uses
            .iter()
            .filter(|(module, _)| is_below(module))
            .find_map(|(module, uses)| Some((module, uses.get(parent)?)))?;
        Some(format!("circle: {} uses {down}; {} uses {up}", name(parent), name(child)))
    }
}

/// The uses along the shortest circle through `start`.
fn shortest_circle(
    graph: &BTreeMap<&Module, BTreeMap<&Module, String>>,
    start: &Module,
) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([(start, Vec::new())]);
    let mut seen = BTreeSet::new();
    while let Some((at, way)) = ways.pop_front() {
        for (next, path) in graph.get(at).into_iter().flatten() {
            let way: Vec<String> = way.iter().cloned().chain([path.clone()]).collect();
            if *next == start {
                return Some(way);
            }
            if seen.insert(*next) {
                ways.push_back((*next, way));
            }
        }
    }
    None
}

fn name(module: &Module) -> String {
    if module.is_empty() { "crate".to_owned() } else { module.join("::") }
}

fn collect(directory: &FilePath, module: &mut Module, files: &mut Vec<(Module, String)>) {
    for entry in fs::read_dir(directory).expect("the directory of a module can be read") {
        let path = entry.expect("an entry can be read").path();
        let stem = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() {
            module.push(stem);
            collect(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            let is_root = module.is_empty() && ["lib", "main"].contains(&stem.as_str());
            let own = if is_root { Vec::new() } else { [module.as_slice(), &[stem]].concat() };
            files.push((own, text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        let module =
            |name: &str| name.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        Modules::of(files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect())
            .circles()
    }

    #[test]
    fn a_planted_circle_is_found() {
        let files = [
            ("", ""),
            ("a", "use crate::b::B;"),
            ("b", "fn f() { crate::c::d::g() }"),
            ("c", ""),
            ("c/d", "use super::super::a::{self, A};"),
        ];
        let found = circles(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        for path in ["a uses crate::b::B", "b uses crate::c::d::g", "c::d uses super::super::a"] {
            assert!(found[0].contains(path), "{found:?}");
        }
        assert!(circles(&files[..4]).is_empty());
    }

    #[test]
    fn a_parent_and_its_child_do_not_use_each_other() {
        let child = ("a/b", "use super::A;");
        assert_eq!(circles(&[("", ""), ("a", "use b::B;"), child]).len(), 1);
        let assembly = "pub use b::B; fn f() { b::routes(); routes!(b::get) }";
        assert!(circles(&[("", ""), ("a", assembly), child]).is_empty());
    }

    #[test]
    fn a_reexported_item_is_used_where_it_is_defined() {
        let siblings = [
            ("", ""),
            ("a", "pub use b::B;"),
            ("a/b", "use super::c::C;"),
            ("a/c", "use super::B;"),
        ];
        assert_eq!(circles(&siblings).len(), 1);
    }
}
