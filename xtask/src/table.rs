//! The table of the demo: what `hugebar map --json` says of several mappings, side by side.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The part of `hugebar map --json` that is shown.
#[derive(Deserialize)]
struct Mapped {
    version: u32,
    regions: Vec<Region>,
}

#[derive(Deserialize)]
struct Region {
    bar: u32,
    size: u64,
    placement: String,
    /// Leaves by their size in bytes; none if nothing could populate the mapping.
    measured: Option<BTreeMap<u64, u64>>,
    faults: Option<u64>,
    populate_ns: Option<u64>,
    verdict: String,
}

/// The sizes of leaves that have a column. x86-64 has no others.
const LEAVES: [(u64, &str); 3] = [(1 << 30, "1 GiB"), (2 << 20, "2 MiB"), (4 << 10, "4 KiB")];

const NUMBERS: std::ops::Range<usize> = 2..7;

/// Rows of text, and how wide they have to be.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One with nothing but the names of the columns.
    pub(crate) fn new() -> Self {
        let mut names = vec!["BAR", "placement"];
        names.extend(LEAVES.map(|(_, name)| name));
        names.extend(["faults", "time", "verdict"]);
        Table {
            rows: vec![names.into_iter().map(str::to_owned).collect()],
        }
    }

    /// Adds a row for each region; `remark` tells what is special about this mapping.
    pub(crate) fn add(&mut self, json: &str, remark: &str) -> Result<()> {
        let mapped: Mapped = serde_json::from_str(json)
            .with_context(|| format!("hugebar did not print what it should: {json:?}"))?;
        ensure!(
            mapped.version == 1,
            "hugebar prints version {} of its report, not 1",
            mapped.version
        );
        for region in mapped.regions {
            let mut row = vec![
                format!("BAR {}, {}{remark}", region.bar, size(region.size)),
                region.placement,
            ];
            let count = |leaf: u64| match &region.measured {
                Some(leaves) => thousands(leaves.get(&leaf).copied().unwrap_or(0)),
                None => "?".to_owned(),
            };
            row.extend(LEAVES.map(|(leaf, _)| count(leaf)));
            row.push(region.faults.map_or("?".to_owned(), thousands));
            row.push(region.populate_ns.map_or("?".to_owned(), time));
            row.push(region.verdict);
            self.rows.push(row);
        }
        Ok(())
    }

    /// The table as text.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let widths: Vec<_> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a String cannot fail.
                let _ = if NUMBERS.contains(&column) {
                    write!(line, "{cell:>width$}  ")
                } else {
                    write!(line, "{cell:<width$}  ")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn size(bytes: u64) -> String {
    let units = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    let whole = units
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes % unit == 0);
    match whole {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn time(nanoseconds: u64) -> String {
    let seconds = Duration::from_nanos(nanoseconds).as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{:.2} ms", seconds * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(measured: &str, verdict: &str) -> String {
        format!(
            r#"{{"version": 1, "device": "0000:00:10.0", "backend": "type1", "kernel": "7.3.4", "regions": [{{"bar": 2, "size": 4294967296,
            "placement": "plain", "hint": false, "areas": [], "measured": {measured}, "faults": 1048576, "populated_by": "type1",
            "populate_ns": 6800000000, "verdict": "{verdict}", "reasons": []}}]}}"#
        )
    }

    #[test]
    fn each_region_has_a_row_and_the_numbers_stand_below_each_other() {
        let mut table = Table::new();
        table
            .add(
                &json(
                    r#"{"4096": 1048576, "2097152": 0, "1073741824": 0}"#,
                    "degraded",
                ),
                "",
            )
            .unwrap();
        table
            .add(&json("null", "unmeasured"), ", hole 0x6000+0x1000")
            .unwrap();
        let text = table.render();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("1 GiB  2 MiB      4 KiB"), "{text}");
        assert!(
            lines[1].contains("1,048,576  1,048,576  6.80 s  degraded"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("BAR 2, 4 GiB, hole 0x6000+0x1000  plain"),
            "{text}"
        );
        assert!(lines[2].ends_with("unmeasured"), "{text}");
        assert_eq!(lines[1].find("6.80 s"), lines[2].find("6.80 s"));
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let mut table = Table::new();
        assert!(table.add("", "").is_err());
        assert!(table.add(r#"{"version": 1, "error": {}}"#, "").is_err());
        assert!(table.add(r#"{"version": 2, "regions": []}"#, "").is_err());
    }

    #[test]
    fn numbers_are_made_for_reading() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(16_777_215), "16,777,215");
        assert_eq!(size(256 << 30), "256 GiB");
        assert_eq!(size(4097), "4097 B");
        assert_eq!(time(570_000), "0.57 ms");
    }
}
