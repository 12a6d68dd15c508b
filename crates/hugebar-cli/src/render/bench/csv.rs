//! The report as CSV: a row for each placement and size.

use std::io;

use hugebar_host::bench::Step;

use super::report::{BenchReport, Spread};

impl BenchReport {
    /// A row for each placement and size of each BAR. Times are in nanoseconds; what was not measured is empty.
    pub(crate) fn csv(&self) -> io::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = Step::ALL.iter().map(|step| match step {
            Step::Map => "map",
            Step::Present => "present",
            Step::PresentAgain => "present_again",
            Step::DmaMap => "dma_map",
            Step::DmaUnmap => "dma_unmap",
            Step::Unmap => "unmap",
        });
        let measured = ["leaves", "page_tables"].into_iter().chain(names);
        let columns =
            measured.flat_map(|name| ["", "_min", "_max"].map(|end| format!("{name}{end}")));
        let fixed = ["release", "device", "bar", "size", "placement", "rounds"];
        let head = fixed.into_iter().map(str::to_owned).chain(columns);
        writer.write_record(head)?;
        for bar in &self.bars {
            for own in &bar.series {
                let times = Step::ALL.iter().map(|step| own.times.get(*step));
                let measured = [own.leaves, own.page_tables].into_iter().chain(times);
                let fixed = [
                    self.release.clone(),
                    bar.device.clone(),
                    bar.bar.to_string(),
                    own.size.to_string(),
                    own.placement.to_string(),
                    own.rounds().to_string(),
                ];
                writer.write_record(fixed.into_iter().chain(measured.flat_map(columns_of)))?;
            }
        }
        writer
            .into_inner()
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

fn columns_of(spread: Option<Spread>) -> [String; 3] {
    spread.map_or_else(Default::default, |own| {
        [own.median, own.min, own.max].map(|number| number.to_string())
    })
}
