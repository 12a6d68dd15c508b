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

/// How many columns a line may have: `COLUMNS`, or the width of the terminal; `None` where stdout is neither.
pub(super) fn width() -> Option<u16> {
    let wanted = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || terminal_size::terminal_size_of(std::io::stdout());
    wanted
        .filter(|width| *width > 0)
        .or_else(|| terminal().map(|(width, _)| width.0))
}
