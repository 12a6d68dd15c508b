//! `hugebar list`: the PCI functions with large BARs.

use std::time::SystemTime;

use hugebar::facts::Facts;
use hugebar::leaf::MIB;
use hugebar_host::devices::{self, Described};
use hugebar_host::pci_ids::PciIds;

use super::export;
use crate::args::ListArgs;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, ListReport};

/// The size from which on a BAR can have a large leaf on x86-64.
const LARGE: u64 = 2 * MIB;

/// Whether a device is listed without `--all`.
pub(super) fn is_large(own: &Described) -> bool {
    own.largest().is_some_and(|bar| bar.resource.size >= LARGE)
}

/// Runs the command.
pub(crate) fn run(args: &ListArgs) -> Result<Answer, Failure> {
    let mut all = devices::list(&PciIds::read())?;
    let before = all.len();
    all.retain(|own| args.all || is_large(own));
    if let Some(target) = args.metrics.target() {
        return export::write(target, &render::bars(&all, &Facts::observe())?);
    }
    if let Some(target) = args.features.target() {
        let expires = SystemTime::now().checked_add(args.features.expiry);
        let expires =
            expires.ok_or_else(|| Failure::Usage("--nfd-expiry: too far away".to_owned()))?;
        let text = render::features(&all, &Facts::observe(), expires);
        return export::write(target, &text);
    }
    if all.is_empty() && before > 0 {
        render::warn("no device has a BAR of 2 MiB or more; --all lists those with smaller ones");
    }
    let report = ListReport::new(&all, &args.table.columns, !args.table.no_headings);
    render::deliver(&report, args.json).map_err(Failure::Output)?;
    Ok(Answer::Yes)
}
