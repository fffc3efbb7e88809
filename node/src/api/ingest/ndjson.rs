//! NDJSON: one event on each line.
//!
//! `NDJSON-1`: only a line feed ends a line, as JSON never has one unescaped. Blank lines, also
//! those with a carriage return, are no items and have no index.

/// The first `items_max` lines that are not blank, and the number of all such lines.
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
