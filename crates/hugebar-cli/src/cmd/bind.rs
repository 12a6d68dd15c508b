//! `hugebar bind`: takes devices from their drivers for VFIO.

use hugebar::pci::{self, Function};
use hugebar::vfio::{held_by_others, remedy};
use hugebar_host::admin::{self, Owner, Plan};

use super::change;
use crate::args::{BindArgs, RestoreArgs};
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, BindReport};

/// Runs the command.
pub(crate) fn run(args: &BindArgs) -> Result<Answer, Failure> {
    let mut options = change::options(&args.common.change, args.common.force);
    options.driver.clone_from(&args.driver);
    options.owner = args.owner.as_deref().map(Owner::find).transpose()?;
    let functions = functions(&args.common)?;
    let plans = functions
        .iter()
        .map(|function| admin::bind(function, &options));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    run_all(&args.common, &plans)?;
    if !args.common.change.dry_run {
        let all = functions.iter().zip(&plans);
        for (function, _) in all.filter(|(_, plan)| plan.from != plan.to) {
            after(function, &args.driver)?;
        }
        if args.owner.is_some() {
            render::note("the owner lasts until a device is unbound");
        }
    }
    Ok(Answer::Yes)
}

/// The functions, with those of their groups if that was asked for; none twice.
pub(super) fn functions(args: &RestoreArgs) -> Result<Vec<Function>, Failure> {
    let mut functions = Vec::new();
    for name in &args.devices {
        let function = pci::locate(name)?;
        match args.group && !function.is_bridge() {
            true => functions.extend(admin::members(&function)?),
            false => functions.push(function),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    functions.retain(|function| seen.insert(function.address()));
    Ok(functions)
}

/// Does the steps of all, or with `--dry-run` shows them. Nothing changes if one of the devices is refused.
pub(super) fn run_all(args: &RestoreArgs, plans: &[Plan]) -> Result<(), Failure> {
    plans.iter().try_for_each(Plan::check)?;
    for plan in plans.iter().filter(|plan| !plan.steps.is_empty()) {
        change::warn_of_uses(plan);
    }
    let args = &args.change;
    for (done, plan) in plans.iter().enumerate() {
        change::run(args, plan).inspect_err(|_| {
            for plan in &plans[..done] {
                render::note(format_args!("{} is done", plan.device));
            }
        })?;
    }
    let driver = |plan: &Plan| match args.dry_run {
        true => Ok(plan.to.clone()),
        // The kernel may have chosen it.
        false => Function::at(plan.device)?.driver(),
    };
    let now = plans.iter().map(driver).collect::<Result<_, _>>()?;
    let report = BindReport::new(plans, now, args.dry_run);
    render::deliver(&report, args.json).map_err(Failure::Output)
}

/// Tells what keeps the group of a device from being used, and how the binding lasts.
fn after(function: &Function, driver: &str) -> Result<(), Failure> {
    let address = function.address();
    let held = function
        .iommu_group()?
        .map(held_by_others)
        .unwrap_or_default();
    if !held.is_empty() {
        let held = held.join(", ");
        let remedy = remedy::free_group(Some(address), std::slice::from_ref(&held));
        render::warn(format_args!(
            "{address}: no program can open it yet: {held} in its group; {remedy} (--group)"
        ));
    }
    let lasting = admin::lasting(function)?;
    for own in &lasting {
        let path = own.path.display();
        render::note(format_args!(
            "{address}: {path} binds it at every boot ({})",
            own.kind
        ));
    }
    if lasting.is_empty() {
        render::note(format_args!(
            "{address}: bound until the next boot; to make it last: driverctl set-override {address} {driver}, \
             or a rule of udev (docs/bind.md)"
        ));
    }
    Ok(())
}
