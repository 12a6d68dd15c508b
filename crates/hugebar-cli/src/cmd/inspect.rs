//! `hugebar inspect`: the leaves that device mappings of other processes can have, and the best possible.

use hugebar::ErrorKind;
use hugebar::facts::Facts;
use hugebar::pci::{self, Address};
use hugebar::reason::Code;
use hugebar::verdict::Requirement;
use hugebar_host::escape::Escaped;
use hugebar_host::inspect::{Inspection, Inspector, Mapping};
use hugebar_host::procfs;

use super::require;
use crate::args::InspectArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, InspectReport};

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
    let report = InspectReport::new(&facts, &inspection);
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    let Some(required) = args.require else {
        return Ok(Answer::Yes);
    };
    warn_of_unknown(&inspection);
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
fn warn_of_unknown(inspection: &Inspection) {
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
    // Where the policy is known to forbid large leaves, the mapping falls short anyway.
    let may_be_closed = |mapping: &&Mapping| {
        let mut reasons = mapping.reasons.iter();
        let policy = reasons.any(|reason| reason.code == Code::ThpPolicy);
        policy && mapping.largest > mapping.possible.sizes().base()
    };
    for mapping in inspection.mappings().filter(may_be_closed) {
        render::warn(format_args!(
            "--require: the THP policy may limit the mapping at {:#x} to base pages",
            mapping.address
        ));
    }
}

/// Whether the requirement concerns at least one mapping, and all that it concerns meet it.
fn meets(inspection: &Inspection, required: Requirement) -> bool {
    let concerned = |own: &&Mapping| required.concerns(&own.best);
    let mut mappings = inspection.mappings().filter(concerned).peekable();
    mappings.peek().is_some() && mappings.all(|own| required.is_met(&own.best, &own.possible))
}
