//! `hugebar inspect`: the leaves that device mappings of other processes can have, and the best possible.

use hugebar::ErrorKind;
use hugebar::facts::Facts;
use hugebar::pci::{self, Address};
use hugebar::reason::Code;
use hugebar::verdict::Requirement;
use hugebar_host::escape::Escaped;
use hugebar_host::inspect::{Inspection, Inspector, Judgement, Mapping, watchers};
use hugebar_host::procfs;

use super::{export, require};
use crate::args::InspectArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, InspectReport, MappingTable};

/// Runs the command.
pub(crate) fn run(args: &InspectArgs) -> Result<Answer, Failure> {
    let facts = Facts::observe();
    require::check(args.require, &facts.leaf_sizes)?;
    let mut inspector = Inspector::new(&facts)?;
    if args.smaps {
        inspector = inspector.reading_smaps(|pid, name| {
            render::warn(format_args!(
                "reading smaps removes the 1 GiB leaves of process {pid} ({})",
                Escaped(name)
            ));
        });
    }
    let inspection = match args.target.as_deref() {
        Some(target) if !target.is_empty() && target.bytes().all(|b| b.is_ascii_digit()) => {
            let pid = target.parse();
            let pid = pid.map_err(|_| Failure::Usage(format!("{target} is not a process ID")))?;
            inspector.only(pid)?
        }
        Some(target) => inspector.of_device(device(target)?).all()?,
        None => inspector.all()?,
    };
    if let Some(target) = args.metrics.target() {
        export::write(target, &render::mappings(&inspection)?)?;
    } else if !args.table.columns.is_empty() && !args.json {
        let table = MappingTable {
            inspection: &inspection,
            columns: &args.table.columns,
            headings: !args.table.no_headings,
        };
        render::deliver_text(&table.to_string()).map_err(Failure::Output)?;
    } else {
        let pids: Vec<_> = inspection.processes.iter().map(|own| own.pid).collect();
        let watchers = args
            .watchers
            .map(|time| watchers(&pids, time))
            .transpose()?;
        let mut report = InspectReport::new(&facts, &inspection);
        if let Some(watchers) = &watchers {
            report.add_watchers(watchers);
        }
        render::deliver(&report, args.json).map_err(Failure::Output)?;
    }
    let Some(required) = args.require else {
        return Ok(Answer::Yes);
    };
    warn_of_unknown(&inspection, required);
    let concerns = |own: &Mapping| required.concerns(&own.best);
    if !inspection.mappings().any(concerns) {
        if let Some(answer) = require::absent(required, &facts.leaf_sizes) {
            render::warn(answer);
        }
    }
    Ok(Answer::of(meets(&inspection, required)))
}

fn device(target: &str) -> Result<Address, Failure> {
    let function = pci::locate(target).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => Failure::Usage(format!("{error}, or a process ID")),
        _ => error.into(),
    })?;
    Ok(function.address())
}

/// Warns about what the answer to `--require` leaves out.
fn warn_of_unknown(inspection: &Inspection, required: Requirement) {
    let refused = inspection.refused();
    if refused > 0 {
        render::warn(format_args!(
            "--require: {refused} processes could not be read <{}>",
            procfs::missing_privilege()
        ));
    }
    if inspection.timed_out > 0 {
        let count = inspection.timed_out;
        render::warn(format_args!("--require: {count} processes do not answer"));
    }
    if let Some(which) = inspection.hidden {
        render::warn(format_args!("--require: processes {which} are hidden"));
    }
    let concerned = |own: &&Mapping| required.concerns(&own.best);
    for mapping in inspection.mappings().filter(concerned) {
        if let Some(doubt) = doubt(mapping, required) {
            render::warn(format_args!("--require: {doubt}"));
        }
    }
}

/// Why it is uncertain that a mapping has the leaves that it can have, if these would do.
fn doubt(mapping: &Mapping, required: Requirement) -> Option<String> {
    let by_rule = required.is_met(&mapping.best, &mapping.possible);
    if !by_rule || mapping.judgement == Judgement::Contradicted {
        return None;
    }
    let address = mapping.address;
    if !mapping.meets(required) {
        return Some(format!(
            "{address:#x} does not count: its alignment, or what handles its faults, is unknown"
        ));
    }
    let large = mapping.largest > mapping.possible.sizes().base();
    let has = |code| large && mapping.reasons.iter().any(|reason| reason.code == code);
    let what = if has(Code::ThpPolicy) {
        "the THP policy may limit it to base pages"
    } else if has(Code::Kernel) {
        "this kernel may have base pages only"
    } else if has(Code::Driver) {
        "its driver, which is not vfio-pci, may limit it to base pages"
    } else {
        return None;
    };
    Some(format!("{address:#x}: {what}"))
}

/// Whether the requirement concerns at least one mapping, and all that it concerns meet it.
fn meets(inspection: &Inspection, required: Requirement) -> bool {
    let concerned = |own: &&Mapping| required.concerns(&own.best);
    let mut mappings = inspection.mappings().filter(concerned).peekable();
    mappings.peek().is_some() && mappings.all(|own| own.meets(required))
}
