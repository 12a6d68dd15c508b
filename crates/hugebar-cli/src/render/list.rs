//! The report of `hugebar list`.

use std::fmt;

use serde::Serialize;

use hugebar::leaf::Bytes;
use hugebar_host::devices::Described;

use super::device::{BarReport, DeviceReport, escaped};
use super::print::VERSION;
use super::table::{self, Column};
use crate::args::ListColumn;

/// PCI functions, those with the largest BAR first.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListReport<'a> {
    version: u32,
    devices: Vec<Listed<'a>>,
    #[serde(skip)]
    columns: &'a [ListColumn],
    #[serde(skip)]
    headings: bool,
    #[serde(skip)]
    width: Option<u16>,
}

/// A function with its BARs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Listed<'a> {
    #[serde(flatten)]
    device: DeviceReport<'a>,
    bars: Vec<BarReport>,
    /// The number of the largest one.
    largest: Option<u8>,
}

impl<'a> ListReport<'a> {
    pub(crate) fn new(all: &'a [Described], columns: &'a [ListColumn], headings: bool) -> Self {
        let listed = |own: &'a Described| Listed {
            device: DeviceReport::of(own),
            bars: own.bars.iter().map(BarReport::of).collect(),
            largest: own.largest().map(|bar| bar.bar),
        };
        Self {
            version: VERSION,
            devices: all.iter().map(listed).collect(),
            columns,
            headings,
            width: table::width(),
        }
    }
}

impl ListReport<'_> {
    /// With lines of any length.
    pub(crate) fn for_a_file(mut self) -> Self {
        self.width = None;
        self
    }
}

/// As text: a table, or nothing where there are no devices.
impl fmt::Display for ListReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.devices.iter().map(|own| {
            let cells = self.columns.iter().map(|column| own.cell(*column));
            cells.collect()
        });
        let rows = rows.collect();
        f.write_str(&table::chosen(
            self.columns,
            self.headings,
            rows,
            self.width,
        ))
    }
}

impl Column for ListColumn {
    fn heading(self) -> &'static str {
        match self {
            ListColumn::Device => "device",
            ListColumn::Size => "size",
            ListColumn::Bar => "BAR",
            ListColumn::Physical => "physical",
            ListColumn::Bars => "BARs",
            ListColumn::Driver => "driver",
            ListColumn::Group => "group",
            ListColumn::Numa => "NUMA",
            ListColumn::Power => "power",
            ListColumn::Ids => "IDs",
            ListColumn::Class => "class",
            ListColumn::Name => "name",
        }
    }

    fn is_number(self) -> bool {
        use ListColumn::{Bar, Group, Numa, Physical, Size};
        matches!(self, Bar | Size | Physical | Group | Numa)
    }
}

impl Listed<'_> {
    fn cell(&self, column: ListColumn) -> String {
        let none = || "-".to_owned();
        let device = &self.device;
        let largest = self.bars.iter().find(|own| Some(own.bar) == self.largest);
        let cell = match column {
            ListColumn::Device => Some(device.device.clone()),
            ListColumn::Size => largest.map(|own| Bytes(own.size).to_string()),
            ListColumn::Bar => self.largest.map(|bar| bar.to_string()),
            ListColumn::Physical => largest.and_then(|own| own.physical.clone()),
            ListColumn::Bars => {
                let bars = self.bars.iter();
                let bars = bars.map(|own| format!("{}: {}", own.bar, Bytes(own.size)));
                let bars: Vec<_> = bars.collect();
                (!bars.is_empty()).then(|| bars.join(", "))
            }
            ListColumn::Driver => device.driver.map(escaped),
            ListColumn::Group => device.group.map(|group| group.to_string()),
            ListColumn::Numa => device.numa_node.map(|node| node.to_string()),
            ListColumn::Power => device.power_state.map(escaped),
            ListColumn::Ids => device.ids.clone(),
            ListColumn::Class => match (device.class_name, &device.class) {
                (Some(name), _) => Some(escaped(name)),
                (None, code) => code.clone(),
            },
            ListColumn::Name => Some(device.name()).filter(|name| !name.is_empty()),
        };
        cell.unwrap_or_else(none)
    }
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
