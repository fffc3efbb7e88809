//! The sources that the checks read: every `*.rs` and `*.md` file of the workspace.

use std::path::{Path, PathBuf};

/// A file of the workspace.
pub(super) struct Source {
    /// Path relative to the workspace.
    pub(super) path: String,
    pub(super) lines: Vec<String>,
    /// Number of lines before the test code; all lines of a file that is not a test.
    pub(super) product_lines: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let test = lines.iter().position(|line| line.starts_with("#[cfg(test)]"));
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
        let product_lines = if is_test { 0 } else { test.unwrap_or(lines.len()) };
        Self { path: path.to_owned(), lines, product_lines }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The folder of the crate: the part of the path before `src`, `tests` or `benches`.
    pub(super) fn crate_folder(&self) -> &str {
        let end = ["/src/", "/tests/", "/benches/"].iter().filter_map(|part| self.path.find(part));
        &self.path[..end.min().unwrap_or(0)]
    }

    /// Lines with their numbers, from 1.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }
}

/// The sources of the workspace, sorted by path.
pub(super) fn workspace_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("sources are text");
        let relative = path.strip_prefix(&root).expect("the path is below the workspace");
        Source::new(&relative.display().to_string(), &text)
    };
    paths.into_iter().map(source).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            let is_skipped = name.starts_with('.') || ["target", "data", "results"].contains(&name);
            if !is_skipped {
                collect(&path, paths);
            }
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            paths.push(path);
        }
    }
}
