//! NDJSON: one event a line.
//!
//! Invariant: `NDJSON-1` the line feed alone ends a line, as JSON texts never contain one unescaped; blank lines, also such
//! with a carriage return, are no events and have no index. It does not look into lines.

/// The lines that are not blank, the first `items_max` of them, and how many there are in all.
pub(super) fn lines(body: &[u8], items_max: usize) -> (Vec<&[u8]>, usize) {
    let (mut kept, mut count) = (Vec::new(), 0);
    for line in
        body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
    {
        count += 1;
        if count <= items_max {
            kept.push(line);
        }
    }
    (kept, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_no_items() {
        assert_eq!(lines(b"", 9), (vec![], 0));
        assert_eq!(lines(b"\n\r\n  \n", 9), (vec![], 0));
        assert_eq!(lines(b"a\r\n\n b \nc", 2), (vec![&b"a"[..], b"b"], 3));
    }
}
