//! Reads which modules a Rust source file uses: a small parser of `use` trees and of paths in code.
//!
//! It knows no types and expands no macros. It removes comments, strings and code for tests, then
//! looks for paths that start at `crate`, `super`, `self`, another crate of the workspace, or a
//! child module.

use std::collections::BTreeSet;

/// A path as written, such as `super::error::ApiError`, and how it occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) segments: Vec<String>,
    /// It stands in `pub use`.
    pub(super) is_reexport: bool,
    /// It only assembles routes: it stands in `routes!(…)`, or calls a function named `routes`.
    pub(super) is_route: bool,
}

/// The paths and the child modules of one source file.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) paths: Vec<Path>,
    /// Modules that exist for tests only.
    pub(super) test_modules: BTreeSet<String>,
}

/// Reads a file. `children` are the names of the module's child modules.
pub(super) fn read(text: &str, children: &BTreeSet<String>) -> Source {
    let mut reader = Reader { tokens: tokens(text), at: 0, children, source: Source::default() };
    reader.items();
    reader.source
}

/// Splits a text into identifiers, `::` and single characters, without comments and without the
/// content of literals.
fn tokens(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let peek = |at: usize| characters.get(at).copied().unwrap_or(' ');
    while at < characters.len() {
        let rest = &characters[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|it| *it == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => {
                2 + rest[2..].windows(2).position(|it| it == ['*', '/']).unwrap_or(0) + 2
            }
            ['"', ..] => string_length(rest),
            ['r', '"' | '#', ..] if raw_length(rest) > 0 => raw_length(rest),
            ['\'', '\\', ..] => 3 + rest[3..].iter().position(|it| *it == '\'').unwrap_or(0) + 1,
            ['\'', _, '\'', ..] => 3,
            [':', ':', ..] => {
                tokens.push("::".to_owned());
                2
            }
            [first, ..] if first.is_alphanumeric() || *first == '_' => {
                let mut end = at;
                while peek(end).is_alphanumeric() || peek(end) == '_' {
                    end += 1;
                }
                tokens.push(characters[at..end].iter().collect());
                end - at
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    tokens.push(first.to_string());
                }
                1
            }
            [] => 1,
        };
        at += length;
    }
    tokens
}

fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a raw string, or 0 if none begins here.
fn raw_length(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|it| **it == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = &rest[2 + hashes..];
    2 + hashes + body.windows(end.len()).position(|it| it == end).unwrap_or(0) + end.len()
}

struct Reader<'a> {
    tokens: Vec<String>,
    at: usize,
    children: &'a BTreeSet<String>,
    source: Source,
}

impl Reader<'_> {
    fn token(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", String::as_str)
    }

    fn is_next(&self, expected: &[&str]) -> bool {
        expected.iter().enumerate().all(|(ahead, token)| self.token(ahead) == *token)
    }

    fn items(&mut self) {
        let mut routes_end = 0;
        while self.at < self.tokens.len() {
            if self.is_next(&["#", "[", "cfg", "(", "test"])
                || self.is_next(&["#", "[", "cfg", "(", "all", "(", "test"])
            {
                self.at = self.closing(self.at + 1) + 1;
                self.skip_test_item();
            } else if self.is_next(&["routes", "!", "("]) {
                routes_end = self.closing(self.at + 2);
                self.at += 3;
            } else if self.token(0) == "use" && self.token(1) != "<" {
                let before = &self.tokens[..self.at];
                let is_reexport = before.last().is_some_and(|it| it == "pub")
                    || before.ends_with(&[")".to_owned()]) && self.is_after_visibility();
                self.at += 1;
                self.use_tree(&[], is_reexport);
            } else {
                self.path(routes_end);
            }
        }
    }

    /// Whether `pub(…)` stands before the present token.
    fn is_after_visibility(&self) -> bool {
        let open = self.tokens[..self.at].iter().rposition(|it| it == "(");
        open.is_some_and(|open| open > 0 && self.tokens[open - 1] == "pub")
    }

    /// Skips the item behind `#[cfg(test)]` or `#[cfg(all(test, …))]`, and notes its name if it is
    /// a module of a file of its own.
    fn skip_test_item(&mut self) {
        while self.token(0) == "#" {
            self.at = self.closing(self.at + 1) + 1;
        }
        let is_use = (0..6).map(|ahead| self.token(ahead)).any(|it| it == "use");
        let module = (0..6).find(|ahead| self.token(*ahead) == "mod");
        if let Some(ahead) = module
            && self.token(ahead + 2) == ";"
        {
            let name = self.token(ahead + 1).to_owned();
            self.source.test_modules.insert(name);
        }
        while self.at < self.tokens.len() && self.token(0) != ";" {
            if self.token(0) == "{" && !is_use {
                self.at = self.closing(self.at);
                break;
            }
            self.at += 1;
        }
        self.at += 1;
    }

    /// The position of the bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len()
    }

    fn use_tree(&mut self, prefix: &[String], is_reexport: bool) {
        let mut segments = prefix.to_vec();
        loop {
            match self.token(0) {
                "::" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while self.token(0) != "}" && self.at < self.tokens.len() {
                        self.use_tree(&segments, is_reexport);
                        if self.token(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "," | "}" | ";" | "as" | "" => break,
                segment => {
                    // `a::{self}` is `a`.
                    if segment != "self" || segments.is_empty() {
                        segments.push(segment.to_owned());
                    }
                    self.at += 1;
                }
            }
        }
        if self.token(0) == "as" {
            self.at += 2;
        }
        self.note(segments, is_reexport, false);
    }

    fn path(&mut self, routes_end: usize) {
        let is_start = self.at == 0 || !["::", "."].contains(&self.tokens[self.at - 1].as_str());
        // A visibility such as `pub(in crate::http)` is no use.
        let is_visibility = self.tokens[..self.at].ends_with(&["(".to_owned(), "in".to_owned()]);
        let is_path = is_start && !is_visibility && self.token(1) == "::";
        let is_own = ["crate", "super", "self"].contains(&self.token(0))
            || self.token(0).starts_with("triggers_")
            || self.children.contains(self.token(0));
        if !is_path || !is_own {
            self.at += 1;
            return;
        }
        let is_in_routes = self.at < routes_end;
        let mut segments = vec![self.token(0).to_owned()];
        self.at += 1;
        while self.token(0) == "::"
            && self.token(1).starts_with(|it: char| it.is_alphabetic() || it == '_')
        {
            segments.push(self.token(1).to_owned());
            self.at += 2;
        }
        let is_routes_call = segments.last().is_some_and(|it| it == "routes");
        self.note(segments, false, is_in_routes || is_routes_call);
    }

    fn note(&mut self, segments: Vec<String>, is_reexport: bool, is_route: bool) {
        self.source.paths.push(Path { segments, is_reexport, is_route });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let children = ["child".to_owned()].into();
        let found = read(text, &children).paths;
        found.into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn nested_use_trees_are_read() {
        let text =
            "use crate::{a::{self, B as C, d::*}, e};\npub(crate) use super::f; use child::G;
            pub(in crate::h) fn i() {}";
        let expected =
            ["crate::a", "crate::a::B", "crate::a::d::*", "crate::e", "super::f", "child::G"];
        assert_eq!(paths(text), expected);
    }

    #[test]
    fn paths_in_code_are_read_and_comments_and_strings_are_not() {
        let text = r##"
            // crate::comment::x
            fn f() -> crate::a::B { child::g(super::super::h()); x.child();
            "crate::text::y"; other::child::z() }
            /* crate::comment::z */ const T: &str = r#"super::raw"#;
            const C: char = '"'; type D = crate::e::F<'static>;
        "##;
        assert_eq!(paths(text), ["crate::a::B", "child::g", "super::super::h", "crate::e::F"]);
    }

    #[test]
    fn code_for_tests_is_left_out() {
        let text = "#[cfg(test)] use crate::a::{B, C};\n#[cfg(test)] mod live;
            #[cfg(test)] #[x(y)] fn f() { crate::d::e() }
            use crate::kept;\n#[cfg(all(test, unix))]\nmod tests { use super::*; }";
        assert_eq!(paths(text), ["crate::kept"]);
        assert_eq!(read(text, &BTreeSet::new()).test_modules, ["live".to_owned()].into());
    }

    #[test]
    fn reexports_and_routes_are_told_apart() {
        let text = "pub use child::A; pub(super) use child::B; f(use child::C);
            routes!(child::get, child::put); child::routes(); child::other();";
        let found = read(text, &["child".to_owned()].into()).paths;
        let kinds: Vec<_> = found.iter().map(|path| (path.is_reexport, path.is_route)).collect();
        let expected = [
            (true, false),
            (true, false),
            (false, false),
            (false, true),
            (false, true),
            (false, true),
            (false, false),
        ];
        assert_eq!(kinds, expected);
    }
}
