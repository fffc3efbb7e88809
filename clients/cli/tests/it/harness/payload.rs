//! Payloads that change if software parses and reprints them.
//!
//! A generated payload is a valid I-JSON object whose form a serializer would alter: unusual white
//! space, unnecessary escapes, redundant digits, unsorted members, unusual Unicode characters.

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

/// A payload of roughly `size_bytes` that contains `marker`; below 64 bytes only `{}` with spaces.
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

/// A realistic size: mostly small, sometimes kilobytes, rarely up to 100 KiB or only two bytes.
pub fn size_bytes(random: &mut Random) -> usize {
    let size = match random.below(40) {
        0 => random.between(9_000, 100 * 1_024),
        1..=6 => random.between(1_000, 9_000),
        7..=9 => 2,
        _ => random.between(64, 1_000),
    };
    size as usize
}
