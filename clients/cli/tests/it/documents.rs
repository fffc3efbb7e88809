//! Tests of the documents: the commands of the guides run, and links have a target.
//!
//! 1. Every `sh` block in `docs/guides/` is marked `run` or `background`. The blocks of a guide run
//!    in order in one shell, against a node of its own. A `background` block runs until the guide
//!    ends.
//! 2. Every relative link in a Markdown file names a file of the repository and, after `#`, a
//!    heading of that file.
//!
//! The output of the commands is not compared with the guide.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Shell functions that replace the build and the fixed address, and run background blocks.
const SESSION: &str = r#"
set -euo pipefail
cargo() {
  while [ "$1" != -- ]; do shift; done
  shift
  exec triggers "$@"
}
curl() {
  local url given=() argument
  url=$(sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' "$HOME/data/dev/dev.json")
  for argument in "$@"; do given+=("${argument//http:\/\/127.0.0.1:8080/$url}"); done
  command curl -sS --max-time 30 --fail-with-body "${given[@]}"
}
background=()
finish() {
  local code=$?
  # Each is a process group: the shell of the block and the program that it runs.
  [ ${#background[@]} = 0 ] || kill -- "${background[@]/#/-}" 2>/dev/null || true
  wait || true
  exit "$code"
}
trap finish EXIT
# begin BLOCK PATTERN: runs a block until the guide ends; waits until it prints the pattern.
begin() {
  set -m
  "$1" >"$HOME/$1.log" 2>&1 &
  local pid=$!
  set +m
  background+=("$pid")
  until grep -q "$2" "$HOME/$1.log"; do
    kill -0 "$pid" 2>/dev/null || { cat "$HOME/$1.log" >&2; exit 1; }
    sleep 0.05
  done
}
"#;

/// Programs that run until the guide ends, with the text that each prints once it is ready.
const READY: [(&str, &str); 3] =
    [("dev", "is running"), ("serve", "started"), ("listen", "127.0.0.1")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The shell blocks of a document: the words behind `sh`, and the commands.
fn shell_blocks(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("\n```sh");
    parts
        .skip(1)
        .map(|part| {
            let (marks, rest) = part.split_once('\n').expect("a fence ends its line");
            let (commands, _) = rest.split_once("\n```").expect("a block is closed");
            (marks.trim(), commands)
        })
        .collect()
}

/// The shell program that runs a guide.
fn script(guide: &Path, text: &str) -> String {
    let mut blocks = shell_blocks(text);
    if !blocks.iter().any(|(_, commands)| commands.contains("-- dev")) {
        blocks.insert(0, ("background", "cargo run --release -- dev"));
    }
    let mut script = SESSION.to_owned();
    for (at, (mark, commands)) in blocks.iter().enumerate() {
        match *mark {
            "run" => writeln!(script, "{commands}"),
            "background" => {
                let (_, pattern) = READY
                    .iter()
                    .find(|(name, _)| commands.split_whitespace().any(|word| word == *name))
                    .expect("READY has the program");
                writeln!(script, "block_{at}() {{\n{commands}\n}}\nbegin block_{at} '{pattern}'")
            }
            _ => panic!("{}: mark the block `sh run` or `sh background`", guide.display()),
        }
        .expect("a string takes all text");
    }
    script
}

/// Runs the commands of a guide in an empty directory.
fn run(guide: &Path) {
    let text = fs::read_to_string(guide).expect("the guide is readable");
    let home = tempfile::tempdir().expect("a directory can be made");
    let programs = home.path().join("bin");
    fs::create_dir(&programs).expect("a directory can be made");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_triggers"), programs.join("triggers"))
        .expect("a link can be made");
    let path = std::env::var("PATH").expect("PATH is set");
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRIGGERS") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["-c", &script(guide, &text)])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("TRIGGERS__LISTEN__ADDRESS", "127.0.0.1:0")
        .env("TRIGGERS__ADMIN__ADDRESS", "127.0.0.1:0")
        .stdin(Stdio::null())
        .output()
        .expect("bash is installed");
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        guide.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn commands_of_the_guides_run() {
    let guides = root().join("docs/guides");
    for entry in fs::read_dir(guides).expect("the guides are there") {
        run(&entry.expect("the guides can be listed").path());
    }
}

/// The Markdown files below a directory, without build output and hidden folders.
fn markdown_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the directory is readable") {
        let path = entry.expect("the directory can be listed").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && (!name.starts_with('.') || name == ".github") {
            markdown_files(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The anchors of a document's headings, as forges make them.
fn anchors(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The relative links of a document that have no target.
fn broken_links(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("the document is readable");
    let mut broken = Vec::new();
    for part in text.split("](").skip(1) {
        let Some((link, _)) = part.split_once(')') else { continue };
        if link.contains("://") || link.contains(char::is_whitespace) {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let directory = file.parent().expect("a file is in a directory");
        let target = if path.is_empty() { file.to_owned() } else { directory.join(path) };
        let is_right = match fs::read_to_string(&target) {
            Ok(text) if !anchor.is_empty() => anchors(&text).iter().any(|it| it == anchor),
            _ => target.exists(),
        };
        if !is_right {
            broken.push(format!("{}: {link}", file.display()));
        }
    }
    broken
}

#[test]
fn links_have_a_target() {
    let mut files = Vec::new();
    markdown_files(&root(), &mut files);
    assert!(files.iter().any(|file| file.ends_with("README.md")), "the documents are found");
    let broken: Vec<String> = files.iter().flat_map(|file| broken_links(file)).collect();
    assert!(broken.is_empty(), "links without a target:\n{}", broken.join("\n"));
}
