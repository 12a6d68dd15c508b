//! The demo's table: the results of `hugebar map --json` for several mappings, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, presets};
use hugebar::leaf::{Bytes, LeafSizes};
use indicatif::HumanCount;
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
    /// Leaves by their size in bytes; `None` if nothing could populate the mapping.
    measured: Option<BTreeMap<u64, u64>>,
    faults: Option<u64>,
    populate_ns: Option<u64>,
    verdict: String,
}

/// The columns that hold numbers.
const NUMBERS: std::ops::Range<usize> = 2..7;

/// A row for each mapping.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with only the header.
    pub(crate) fn new() -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING);
        let mut names = vec!["BAR".to_owned(), "placement".to_owned()];
        names.extend(sizes().map(|size| Bytes(size).to_string()));
        names.extend(["faults", "time", "verdict"].map(str::to_owned));
        table.set_header(names);
        for column in NUMBERS {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Table(table)
    }

    /// Adds a row for each region; `remark` describes this mapping.
    pub(crate) fn add(&mut self, json: &str, remark: &str) -> Result<()> {
        let mapped: Mapped = serde_json::from_str(json)
            .with_context(|| format!("hugebar printed an unexpected report: {json:?}"))?;
        ensure!(
            mapped.version == 1,
            "hugebar prints version {} of its report, not 1",
            mapped.version
        );
        for region in mapped.regions {
            let mut row = vec![
                format!("BAR {}, {}{remark}", region.bar, Bytes(region.size)),
                region.placement,
            ];
            let unknown = || "?".to_owned();
            let leaves = |size| region.measured.as_ref().map(|all| all.get(&size).copied());
            let count = |number: Option<u64>| HumanCount(number.unwrap_or(0)).to_string();
            row.extend(sizes().map(|size| leaves(size).map_or_else(unknown, count)));
            row.push(
                region
                    .faults
                    .map_or_else(unknown, |faults| count(Some(faults))),
            );
            row.push(region.populate_ns.map_or_else(unknown, time));
            row.push(region.verdict);
            self.0.add_row(row);
        }
        Ok(())
    }

    /// The table as text.
    pub(crate) fn render(&self) -> String {
        format!("{}\n", self.0.trim_fmt())
    }
}

/// The sizes of leaves, largest first. The machines of the demo are x86-64.
fn sizes() -> impl Iterator<Item = u64> {
    let sizes = LeafSizes::X86_64.as_slice().to_vec();
    sizes.into_iter().rev()
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
        let end = |line: &str, cell: &str| line.find(cell).map(|start| start + cell.len());
        assert!(lines[0].contains("1 GiB"), "{text}");
        assert_eq!(
            end(lines[0], "4 KiB"),
            end(lines[1], "1,048,576"),
            "to the right: {text}"
        );
        assert!(lines[1].contains("6.80 s"), "{text}");
        assert!(lines[2].contains("BAR 2, 4 GiB, hole 0x6000+0x1000"));
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
    fn times_are_made_for_reading() {
        assert_eq!(time(570_000), "0.57 ms");
        assert_eq!(time(6_800_000_000), "6.80 s");
    }
}
