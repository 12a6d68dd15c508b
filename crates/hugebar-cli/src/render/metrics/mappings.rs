//! The gauges of `hugebar inspect`: processes and their device mappings.

use hugebar_host::inspect::{Inspection, Judgement, Mapping, Process};
use prometheus::Error;

use super::{Gauge, Gauges, number};

const PROCESS: [&str; 2] = ["pid", "process"];

/// What identifies a mapping.
const MAPPING: [&str; 5] = ["pid", "process", "device", "region", "address"];

/// Each has a series, which is 1 for the judgement that was made.
const JUDGEMENTS: [Judgement; 4] = [
    Judgement::Optimal,
    Judgement::NotCounted,
    Judgement::FallsShort,
    Judgement::Contradicted,
];

/// The gauges of what was inspected.
pub(crate) fn mappings(inspection: &Inspection) -> Result<String, Error> {
    let gauges = Gauges::new();
    seen(&gauges, inspection)?;
    processes(&gauges, &inspection.processes)?;
    let all = MappingGauges::new(&gauges)?;
    for process in &inspection.processes {
        for mapping in &process.mappings {
            all.add(process, mapping)?;
        }
    }
    gauges.text()
}

fn seen(gauges: &Gauges, inspection: &Inspection) -> Result<(), Error> {
    let single = |name, help, value| gauges.gauge(name, help, &[])?.set(&[], value);
    single(
        "hugebar_inspect_mappings",
        "How many mappings of VFIO devices were found.",
        inspection.mappings().count() as u64,
    )?;
    single(
        "hugebar_inspect_unreadable_processes",
        "How many processes could not be read.",
        inspection.unreadable,
    )?;
    single(
        "hugebar_inspect_unanswered_processes",
        "How many of the unreadable processes did not answer in time.",
        inspection.timed_out,
    )?;
    single(
        "hugebar_inspect_processes_may_be_hidden",
        "Whether some processes may be hidden.",
        inspection.hidden.is_some().into(),
    )
}

fn processes(gauges: &Gauges, all: &[Process]) -> Result<(), Error> {
    let disabled = gauges.gauge(
        "hugebar_process_thp_disabled",
        "Whether transparent huge pages are disabled for the process. Absent if the kernel does not say.",
        &PROCESS,
    )?;
    let tables = gauges.gauge(
        "hugebar_process_page_table_bytes",
        "Size of all page tables of the process. Absent if the kernel does not say.",
        &PROCESS,
    )?;
    for own in all {
        let labels = [own.pid.to_string(), own.name.clone()];
        let labels = [labels[0].as_str(), &labels[1]];
        disabled.set_if(&labels, own.thp_disabled.map(u64::from))?;
        tables.set_if(&labels, own.page_tables)?;
    }
    Ok(())
}

struct MappingGauges {
    size: Gauge,
    congruent: Gauge,
    largest: Gauge,
    best: Gauge,
    possible: Gauge,
    optimal: Gauge,
    not_in_base_pages: Gauge,
    judgement: Gauge,
    reason: Gauge,
}

impl MappingGauges {
    fn new(gauges: &Gauges) -> Result<Self, Error> {
        let plain = |name, help| gauges.gauge(name, help, &MAPPING);
        let and = |label| [&MAPPING[..], &[label]].concat();
        let leaves = |name, help| gauges.gauge(name, help, &and("leaf_bytes"));
        Ok(Self {
            size: plain("hugebar_mapping_size_bytes", "Size of the mapping.")?,
            congruent: plain(
                "hugebar_mapping_congruent_bytes",
                "The largest leaf size modulo which its virtual and physical addresses agree.",
            )?,
            largest: plain(
                "hugebar_mapping_largest_leaf_bytes",
                "The size of its largest possible leaf.",
            )?,
            best: leaves(
                "hugebar_mapping_best_leaves",
                "Its leaves at the best address, with all leaf sizes of the machine.",
            )?,
            possible: leaves(
                "hugebar_mapping_possible_leaves",
                "The leaves that are possible at its address, on this kernel and in this process.",
            )?,
            optimal: plain(
                "hugebar_mapping_optimal",
                "Whether the possible leaves are as few as the best.",
            )?,
            not_in_base_pages: plain(
                "hugebar_mapping_not_in_base_pages",
                "Whether the page tables of its process are too small for base pages throughout.",
            )?,
            judgement: gauges.gauge(
                "hugebar_mapping_judgement",
                "1 for the judgement on the mapping, 0 for the others.",
                &and("judgement"),
            )?,
            reason: gauges.gauge(
                "hugebar_mapping_reason",
                "Why it falls short, or what is unknown about it.",
                &and("code"),
            )?,
        })
    }

    fn add(&self, process: &Process, own: &Mapping) -> Result<(), Error> {
        let labels = [
            &process.pid.to_string(),
            &process.name,
            own.device().unwrap_or_default(),
            &number(own.region),
            &format!("{:#x}", own.address),
        ];
        let labels: [&str; 5] = labels;
        self.size.set(&labels, own.size)?;
        self.congruent.set(&labels, own.congruent)?;
        self.largest.set(&labels, own.largest)?;
        self.best.set_leaves(&labels, &own.best)?;
        self.possible.set_leaves(&labels, &own.possible)?;
        self.optimal.set(&labels, own.optimal.into())?;
        self.not_in_base_pages
            .set(&labels, own.not_in_base_pages.into())?;
        for judgement in JUDGEMENTS {
            let (made, name) = (own.judgement == judgement, judgement.to_string());
            let labels = [&labels[..], &[&name]].concat();
            self.judgement.set(&labels, made.into())?;
        }
        for reason in &own.reasons {
            let code = reason.code.to_string();
            self.reason.set(&[&labels[..], &[&code]].concat(), 1)?;
        }
        Ok(())
    }
}
