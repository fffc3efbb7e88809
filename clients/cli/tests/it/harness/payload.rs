//! Payloads that come back changed from anything that parses and prints them again.
//!
//! A made payload is a valid JSON object (I-JSON: unique names, no lone surrogates, no noncharacters) full of what
//! a re-serialization would alter: white space of every kind, escapes that need not be escapes, numbers with idle
//! digits, members in no order, Unicode on both sides of every boundary.
//!
//! Not here: invalid input; see the tests of bad input.

use super::random::Random;

const SPACES: [&str; 6] = ["", " ", "\t", "\n", "\r\n", "  \t \n "];

const VALUES: [&str; 12] = [
    "1.0",
    "-0.0",
    "1E+2",
    "0.1000",
    "[ ]",
    "{ }",
    "[1 ,2,\t[null , true]]",
    "\"\\u00e9\\/\\u0000\\n\"",
    "\"\\ud83d\\ude00 😀 \u{2028}\u{200f}\u{feff}\"",
    "\"\u{7f}\u{80}\u{7ff}\u{800}\u{fffd}\u{10000}\u{10fffd}\"",
    "\"e\u{301} é ＡＢＣ العربية 中文\"",
    "{\"z\":1,\"a\":2 ,\"\":3}",
];

/// A payload of roughly `size_bytes` that carries `marker`; below 64 bytes there is no room and it is `{}` with
/// white space inside.
pub fn payload(random: &mut Random, marker: &str, size_bytes: usize) -> String {
    if size_bytes < 64 {
        return format!("{{{}}}", random.pick(&SPACES));
    }
    let mut text =
        format!("{{{}\"marker\"{}:\"{marker}\"", random.pick(&SPACES), random.pick(&SPACES));
    for member in 0..random.between(1, 6) {
        let (before, between) = (random.pick(&SPACES), random.pick(&SPACES));
        text.push_str(&format!(
            "{before},{between}\"ключ {member}\"{between}:{}",
            random.pick(&VALUES)
        ));
    }
    let padding_bytes = size_bytes.saturating_sub(text.len() + 12);
    let letters = ["x", "ß", "漢", "\\\"", "\\u0041"];
    let letter = random.pick(&letters);
    text.push_str(&format!(
        ",\"pad\":\"{}\"{}}}",
        letter.repeat(padding_bytes / letter.len()),
        random.pick(&SPACES)
    ));
    text
}

/// Sizes as partners have them: mostly small, some of kilobytes, a few up to 100 KiB, some of two bytes.
pub fn size_bytes(random: &mut Random) -> usize {
    let size = match random.below(40) {
        0 => random.between(9_000, 100 * 1_024),
        1..=6 => random.between(1_000, 9_000),
        7..=9 => 2,
        _ => random.between(64, 1_000),
    };
    size as usize
}
