//! The only place that writes results to stdout and messages to stderr.
//!
//! Each result line is flushed, so that `tail` in a pipe shows it at once. A closed stdout is a
//! `CommandError::Output`, never a panic. Log lines of a node are not written here.

use super::exit::CommandResult;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};

/// Writes one result line (or several) and a line end.
pub fn line(text: &str) -> CommandResult {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

/// Writes bytes as they are.
pub fn bytes(bytes: &[u8]) -> CommandResult {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Writes one JSON document on one line.
pub fn json(value: &impl Serialize) -> CommandResult {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    line(&text)
}

/// Writes a JSON text on one line.
///
/// # Errors
/// `CommandError::Output`.
pub fn json_text(text: &str) -> CommandResult {
    line(&on_one_line(text))
}

/// The same JSON value on one line, with its numbers and strings as they are written.
pub fn on_one_line(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // In JSON a line end stands between tokens, never in a string.
            '\n' | '\r' | '\t' => text.push(' '),
            // A terminal may obey control characters, which JSON allows in strings only.
            '\u{7f}'..='\u{9f}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => text.push(other),
        }
    }
    text
}

/// Writes a result: the JSON document with `--json`, otherwise the text.
pub fn result(is_json: bool, value: &impl Serialize, text: &str) -> CommandResult {
    if is_json { json(value) } else { line(text) }
}

/// Writes a message for the person at the terminal.
pub fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    // If stderr is closed, there is nowhere to report it.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
}

/// Writes a progress line. On a terminal it replaces the previous one.
pub fn progress(text: &str) {
    let mut stderr = io::stderr().lock();
    // As in `note`.
    let _ = if stderr.is_terminal() {
        write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush())
    } else {
        writeln!(stderr, "{text}")
    };
}

/// Clears the progress line, so that the next output starts at the left.
pub fn progress_end() {
    if io::stderr().is_terminal() {
        progress("");
    }
}

/// Escapes control characters, so that text from elsewhere cannot control the terminal.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[2Jb\nc é"), "a\\u{1b}[2Jb\\nc é");
    }

    #[test]
    fn json_is_written_on_one_line_and_means_the_same() {
        let text = "{\r\n\t\"a\": [1.0,\n\"\\n\u{9b}é\"]\n}";
        assert_eq!(on_one_line(text), "{   \"a\": [1.0, \"\\n\\u009bé\"] }");
    }
}
