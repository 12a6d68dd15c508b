//! Tables that fit the terminal.

use std::env;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// How narrow the last column becomes at most, also where the lines get too long.
const NARROWEST: u16 = 20;

/// A table of rows that all have these columns. Only the last column wraps, where lines are limited.
pub(super) fn table(
    head: Option<Vec<&str>>,
    rows: impl IntoIterator<Item = Vec<String>>,
    right: &[usize],
    width: Option<u16>,
) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if let Some(head) = head {
        table.set_header(head);
    }
    table.add_rows(rows);
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(width) = width {
        table.set_width(width);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        let last = table.column_count().saturating_sub(1);
        for column in table.column_iter_mut().take(last) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        if let Some(column) = table.column_mut(last) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST)));
        }
    }
    table
}

/// The lines of a table, without spaces at their ends. One that is too wide is printed in parts below one another, which all
/// begin with the first `keys` columns. A part leaves out rows of which it would show nothing else.
pub(super) fn in_parts(
    head: &[&str],
    rows: &[Vec<String>],
    keys: usize,
    right: &[usize],
    width: Option<u16>,
) -> String {
    let lines = |columns: &[usize]| {
        let head = columns.iter().map(|&own| head[own]).collect();
        let has_more = |row: &&Vec<String>| {
            let mut more = columns.iter().skip(keys);
            more.any(|&own| !row[own].is_empty())
        };
        let rows = rows.iter().filter(has_more).map(|row| {
            let cells = columns.iter().map(|&own| row[own].clone());
            cells.collect()
        });
        let numbers = columns.iter().enumerate();
        let numbers = numbers.filter(|(_, own)| right.contains(own));
        let numbers: Vec<_> = numbers.map(|(at, _)| at).collect();
        let table = table(Some(head), rows, &numbers, None);
        let lines = table.lines();
        lines.map(|line| line.trim_end().to_owned()).collect()
    };
    let fits = |lines: &Vec<String>| {
        let widest = lines.iter().map(|line| measure(line)).max();
        width.is_none_or(|width| widest.unwrap_or(0) <= usize::from(width))
    };
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut columns: Vec<_> = (0..keys).collect();
    for column in keys..head.len() {
        columns.push(column);
        if columns.len() > keys + 1 && !fits(&lines(&columns)) {
            columns.pop();
            parts.push(lines(&columns));
            columns.truncate(keys);
            columns.push(column);
        }
    }
    parts.push(lines(&columns));
    let parts = parts.iter().map(|lines| lines.join("\n") + "\n");
    parts.collect::<Vec<_>>().join("\n")
}

/// How wide a line is on a terminal, which shows no escape sequences.
fn measure(line: &str) -> usize {
    let plain = anstream::adapter::strip_str(line).to_string();
    textwrap::core::display_width(&plain)
}

/// A column that users choose by its name.
pub(super) trait Column: Copy {
    fn heading(self) -> &'static str;
    /// Whether it is aligned to the right.
    fn is_number(self) -> bool;
}

/// A table of chosen columns, as lines without spaces at their ends; nothing where there are no rows.
pub(super) fn chosen<C: Column>(
    columns: &[C],
    headings: bool,
    rows: Vec<Vec<String>>,
    width: Option<u16>,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = headings.then(|| columns.iter().map(|own| own.heading()).collect());
    let numbers = columns.iter().enumerate();
    let numbers = numbers.filter(|(_, column)| column.is_number());
    let numbers: Vec<_> = numbers.map(|(number, _)| number).collect();
    let table = table(head, rows, &numbers, width);
    let lines = table.lines();
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How many columns a line may have: `COLUMNS`, or the width of the terminal; `None` where stdout is neither.
pub(super) fn width() -> Option<u16> {
    let wanted = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || terminal_size::terminal_size_of(std::io::stdout());
    wanted
        .filter(|width| *width > 0)
        .or_else(|| terminal().map(|(width, _)| width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_too_wide_is_printed_in_parts() {
        let head = ["size", "a", "b", "c"];
        let row = |size: &str| {
            vec![
                size.to_owned(),
                "1".to_owned(),
                "22".to_owned(),
                "\u{1b}[31m333\u{1b}[0m".to_owned(),
            ]
        };
        let rows = [row("4 KiB"), row("1 GiB")];
        let of = |width| {
            in_parts(&head, &rows, 1, &[1, 2], width)
                .replace("\u{1b}[31m", "")
                .replace("\u{1b}[0m", "")
        };
        let whole = " size   a   b  c\n 4 KiB  1  22  333\n 1 GiB  1  22  333\n";
        assert_eq!(of(None), whole);
        assert_eq!(of(Some(18)), whole);
        let parts =
            " size   a   b\n 4 KiB  1  22\n 1 GiB  1  22\n\n size   c\n 4 KiB  333\n 1 GiB  333\n";
        assert_eq!(of(Some(17)), parts);
        // One column beside the keys at least.
        assert_eq!(of(Some(3)).lines().count(), 11);
        // Rows of which a part has nothing.
        let mut noted = row("2 MiB");
        noted[3] = String::new();
        let rows = [row("4 KiB"), noted];
        let text = in_parts(&head, &rows, 1, &[1, 2], Some(17));
        let (_, last) = text.split_once("\n\n").unwrap();
        assert_eq!((last.lines().count(), last.contains("2 MiB")), (2, false));
    }
}
