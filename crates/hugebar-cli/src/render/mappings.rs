//! The mappings that `hugebar inspect` finds, in columns of choice.

use std::fmt;

use hugebar::leaf::Bytes;
use hugebar_host::inspect::{Inspection, Mapping, Process};

use super::device::escaped;
use super::table::{self, Column};
use crate::args::InspectColumn;

/// A row for each mapping of all processes.
pub(crate) struct MappingTable<'a> {
    pub(crate) inspection: &'a Inspection,
    pub(crate) columns: &'a [InspectColumn],
    pub(crate) headings: bool,
}

/// As text: a table, or nothing where there are no mappings.
impl fmt::Display for MappingTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes = self.inspection.processes.iter();
        let rows = processes.flat_map(|process| {
            let mappings = process.mappings.iter();
            mappings.map(move |own| self.row(process, own))
        });
        let table = table::chosen(self.columns, self.headings, rows.collect(), table::width());
        f.write_str(&table)
    }
}

impl MappingTable<'_> {
    fn row(&self, process: &Process, own: &Mapping) -> Vec<String> {
        let cells = self.columns.iter();
        cells.map(|column| cell(*column, process, own)).collect()
    }
}

impl Column for InspectColumn {
    fn heading(self) -> &'static str {
        match self {
            InspectColumn::Pid => "PID",
            InspectColumn::Process => "process",
            InspectColumn::Device => "device",
            InspectColumn::Driver => "driver",
            InspectColumn::Region => "region",
            InspectColumn::Offset => "offset",
            InspectColumn::Size => "size",
            InspectColumn::Address => "address",
            InspectColumn::Physical => "physical",
            InspectColumn::Congruent => "congruent",
            InspectColumn::Possible => "possible",
            InspectColumn::Best => "best",
            InspectColumn::Judgement => "judgement",
            InspectColumn::Reasons => "reasons",
        }
    }

    fn is_number(self) -> bool {
        use InspectColumn::{Address, Offset, Physical, Pid, Region, Size};
        matches!(self, Pid | Region | Offset | Size | Address | Physical)
    }
}

fn cell(column: InspectColumn, process: &Process, own: &Mapping) -> String {
    let hex = |number: Option<u64>| number.map(|number| format!("{number:#x}"));
    let cell = match column {
        InspectColumn::Pid => Some(process.pid.to_string()),
        InspectColumn::Process => Some(escaped(&process.name)),
        InspectColumn::Device => own.device().map(str::to_owned),
        InspectColumn::Driver => own.driver.as_deref().map(escaped),
        InspectColumn::Region => own.region.map(|region| region.to_string()),
        InspectColumn::Offset => hex(own.offset),
        InspectColumn::Size => Some(format!("{:#x}", own.size)),
        InspectColumn::Address => hex(Some(own.address)),
        InspectColumn::Physical => hex(own.physical),
        InspectColumn::Congruent => Some(Bytes(own.congruent).to_string()),
        InspectColumn::Possible => Some(own.possible.to_string()),
        InspectColumn::Best => Some(own.best.to_string()),
        InspectColumn::Judgement => Some(own.judgement.to_string()),
        InspectColumn::Reasons => {
            let codes = own.reasons.iter().map(|reason| reason.code.to_string());
            let codes: Vec<_> = codes.collect();
            (!codes.is_empty()).then(|| codes.join(","))
        }
    };
    cell.unwrap_or_else(|| "-".to_owned())
}
