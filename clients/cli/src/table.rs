//! Tables for people: a header and rows, each column as wide as its widest cell.
//!
//! Control characters in cells are escaped. The last column is not padded, so no line ends in
//! blanks. Widths count characters, which is right for the ids, times and types printed here.
//! Machines use `--json` instead.

use super::output::printable;
use std::fmt;

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table without rows.
    pub fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Self {
        Self { header: header.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, surplus ones are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> =
            cells.into_iter().take(self.header.len()).map(|cell| printable(&cell)).collect();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// Whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (index, row) in std::iter::once(&self.header).chain(&self.rows).enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
            formatter.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

/// Shortens a text to `characters_max` characters, the last one an ellipsis.
pub fn shortened(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(characters_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["ID", "TYPE", "NOTE"]);
        table.row(["1".to_owned(), "order.created".to_owned(), "é".to_owned()]);
        table.row(["10000".to_owned(), "a".to_owned()]);
        assert_eq!(
            table.to_string(),
            "ID     TYPE           NOTE\n1      order.created  é\n10000  a"
        );
    }

    #[test]
    fn a_cell_cannot_break_the_line() {
        let mut table = Table::new(["A", "B"]);
        table.row(["x\ny".to_owned(), "z".to_owned(), "surplus".to_owned()]);
        assert_eq!(table.to_string(), "A     B\nx\\ny  z");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shortened("ééé", 3), "ééé");
        assert_eq!(shortened("éééé", 3), "éé…");
    }
}
