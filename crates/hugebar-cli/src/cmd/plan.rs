//! `hugebar plan`: the leaves of a mapping that does not exist.

use hugebar::facts;
use hugebar::layout::Layout;
use hugebar::phys::Phys;
use hugebar::plan::{Placement, Plan};
use hugebar_host::cost::{self, Cost};

use crate::args::{self, PlanArgs};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, PlanReport};

/// Runs the command.
pub(crate) fn run(args: &PlanArgs) -> Result<Answer, Failure> {
    if args.size == 0 {
        return Err(Failure::Usage("a region of 0 bytes has no leaves".into()));
    }
    let sizes = args.sizes.map_or_else(facts::leaf_sizes, Into::into);
    let mut layout = Layout::whole(args.size, sizes.base())?;
    for &hole in &args.excluded {
        layout = layout.without(hole)?;
    }
    let phys = args.physical.map_or(Phys::Natural, Phys::At);
    let plan = |placement| Plan::new(&layout, phys, &sizes, placement);
    let congruent = plan(Placement::Congruent)?;
    let mut report = PlanReport::new(&congruent, args.physical);
    if let Some(hva) = args.hva {
        let base = sizes.base();
        if hva % base != 0 {
            let message = format!("--hva: {hva:#x} is not a multiple of a page of {base} bytes");
            return Err(Failure::Usage(message));
        }
        report.lies_at(hva, cost::at(&congruent, hva, &sizes));
    } else {
        for placement in args
            .placement
            .map_or(args::Placement::ALL.to_vec(), |own| vec![own])
        {
            let plan = plan(placement.into())?;
            report.add(&plan, Cost::of(&plan, &sizes));
        }
    }
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
