//! The report of `hugebar bind` and `hugebar restore`.

use std::fmt;

use serde::Serialize;

use hugebar_host::admin::{Plan, Use};

use super::change;
use super::print::VERSION;

/// The report of `hugebar bind` and `hugebar restore`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BindReport {
    version: u32,
    dry_run: bool,
    devices: Vec<Changed>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Changed {
    device: String,
    /// Its drivers before and afterwards.
    from: Option<String>,
    to: Option<String>,
    /// What it was in use for: only with `--force`.
    #[cfg_attr(test, schemars(with = "Vec<super::schema::Use>"))]
    uses: Vec<Use>,
    /// The steps, as lines for a shell.
    steps: Vec<String>,
}

impl BindReport {
    /// `now` are the drivers afterwards.
    pub(crate) fn new(plans: &[Plan], now: Vec<Option<String>>, dry_run: bool) -> Self {
        let changed = plans.iter().zip(now).map(|(plan, to)| Changed {
            device: plan.device.to_string(),
            from: plan.from.clone(),
            to,
            uses: plan.uses.clone(),
            steps: change::steps(Some(plan)),
        });
        Self {
            version: VERSION,
            dry_run,
            devices: changed.collect(),
        }
    }
}

/// A line for each device; with `--dry-run` only the steps, for a shell.
impl fmt::Display for BindReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for own in &self.devices {
            if self.dry_run {
                change::write_steps(f, &own.steps)?;
                continue;
            }
            let from = change::driver(own.from.as_deref());
            let to = change::driver(own.to.as_deref());
            match from == to {
                true => writeln!(f, "{}  {to}, as before", own.device)?,
                false => writeln!(f, "{}  {from} -> {to}", own.device)?,
            }
        }
        Ok(())
    }
}
