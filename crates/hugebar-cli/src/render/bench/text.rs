//! The report as text, and its cells, which the page shows too.

use std::fmt;

use hugebar::leaf::Bytes;
use hugebar_host::bench::{LeftOut, Step};
use indicatif::HumanCount;

use super::report::{BarReport, BenchReport, SeriesReport, Spread};
use crate::render::{table, wrap};

/// The heads of [`cells`].
pub(super) const HEAD: [&str; 12] = [
    "size",
    "placement",
    "rounds",
    "leaves",
    "page tables",
    "map",
    "present",
    "again",
    "DMA map",
    "DMA unmap",
    "unmap",
    "",
];

/// Columns that hold numbers.
pub(super) const NUMBERS: std::ops::Range<usize> = 2..11;

/// What the columns mean.
pub(super) const LEGEND: &str = "Medians, with half of the distance from the least to the most in percent. present: the \
    leaves were installed, one page for each; again: after memory decode was off; DMA map, DMA unmap: the whole for \
    peer-to-peer, without any leaf before.";

/// A row.
pub(super) fn cells(own: &SeriesReport) -> Vec<String> {
    let unknown = || "-".to_owned();
    let leaves = own.leaves.map_or_else(unknown, |leaves| match leaves {
        Spread { min, max, .. } if min == max => HumanCount(min).to_string(),
        Spread { min, max, .. } => format!("{} to {}", HumanCount(min), HumanCount(max)),
    });
    let tables = own
        .page_tables
        .map(|tables| Bytes(tables.median).to_string());
    let mut cells = vec![
        Bytes(own.size).to_string(),
        own.placement.to_string(),
        own.rounds().to_string(),
        leaves,
        tables.unwrap_or_else(unknown),
    ];
    let times = Step::ALL.iter().map(|step| own.times.get(*step));
    cells.extend(times.map(|time| time.map_or_else(unknown, spread)));
    cells.push(remark(own));
    cells
}

/// What is missing from a row, and why.
fn remark(own: &SeriesReport) -> String {
    let why = own.left_out.map(|why| match why {
        LeftOut::Limit => "left out: more base pages than --limit",
        LeftOut::Budget => "left out: no time within --budget",
        _ => "stopped",
    });
    let dma = own.no_dma.as_ref().map(|why| format!("no DMA: {why}"));
    let all: Vec<_> = why.map(str::to_owned).into_iter().chain(dma).collect();
    all.join("; ")
}

/// `1.05 ms ±4%`.
fn spread(own: Spread) -> String {
    let around = (own.max - own.min) as f64 / 2.0 / (own.median.max(1)) as f64;
    format!("{} ±{:.0}%", time(own.median as f64), around * 100.0)
}

/// Nanoseconds, with three digits.
pub(super) fn time(nanoseconds: f64) -> String {
    let (number, unit) = match nanoseconds {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = match number {
        n if n < 10.0 => 2,
        n if n < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

impl BarReport {
    /// `0000:01:00.0 BAR 2, 4 GiB, opened and populated by type1`.
    pub(super) fn title(&self) -> String {
        let by = self.populated_by.unwrap_or("nothing");
        let opened = self.backend.map(|own| own.to_string());
        let opened = opened.unwrap_or_else(|| "others".to_owned());
        let (device, bar, size) = (&self.device, self.bar, Bytes(self.size));
        format!("{device} BAR {bar}, {size}, opened by {opened}, populated by {by}")
    }
}

impl BenchReport {
    /// Kernel and machine.
    pub(super) fn heading(&self) -> String {
        let thp = self.thp.as_deref().unwrap_or("not built in");
        let machine = &self.machine;
        let processor = machine.processor.as_deref().unwrap_or(machine.architecture);
        let threads = machine.threads.unwrap_or(1);
        format!(
            "Linux {}, THP {thp}; {processor}, {threads} threads",
            self.release
        )
    }

    /// A line about all devices.
    pub(super) fn together(&self) -> Option<String> {
        let own = self.together.as_ref()?;
        let uncounted = match own.counted {
            true => "",
            false => " (expected, not counted)",
        };
        Some(format!(
            "All {} devices present, {} in {}{uncounted} leaves: one after another {}, one thread each {}",
            own.devices,
            Bytes(own.bytes),
            HumanCount(own.leaves),
            spread(own.one_after_another),
            spread(own.one_thread_each)
        ))
    }

    /// What was left unmapped.
    pub(super) fn holes(&self) -> Option<String> {
        let holes: Vec<_> = self.holes.iter().map(ToString::to_string).collect();
        (!holes.is_empty()).then(|| format!("Without {}.", holes.join(", ")))
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = table::width();
        writeln!(f, "{}", self.heading())?;
        if let Some(holes) = self.holes() {
            writeln!(f, "{holes}")?;
        }
        for bar in &self.bars {
            writeln!(f, "\n{}", bar.title())?;
            if let Some(why) = &bar.unpopulated {
                writeln!(f, "  {why}")?;
            }
            let rows: Vec<_> = bar.series.iter().map(cells).collect();
            let numbers: Vec<_> = NUMBERS.collect();
            f.write_str(&table::in_parts(&HEAD, &rows, 2, &numbers, width))?;
        }
        if let Some(together) = self.together() {
            writeln!(f, "\n{together}")?;
        }
        write!(f, "\n{}", wrap::hanging("", 0, LEGEND, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (nanoseconds, text) in [
            (999.0, "999 ns"),
            (1500.0, "1.50 µs"),
            (57_200.0, "57.2 µs"),
            (570_000.0, "570 µs"),
            (6.8e9, "6.80 s"),
            (120e9, "120 s"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
        let own = Spread {
            median: 1_000_000,
            min: 900_000,
            max: 1_100_000,
        };
        assert_eq!(spread(own), "1.00 ms ±10%");
    }
}
