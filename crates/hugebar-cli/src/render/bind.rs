//! The report of `hugebar bind` and `hugebar restore`.

use std::fmt;

use serde::Serialize;

use hugebar_host::admin::{Plan, Use};

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
            steps: plan.steps.iter().map(ToString::to_string).collect(),
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
                own.steps
                    .iter()
                    .try_for_each(|step| writeln!(f, "{step}"))?;
                continue;
            }
            let name = |driver: &Option<String>| driver.clone().unwrap_or("no driver".into());
            let (from, to) = (name(&own.from), name(&own.to));
            match from == to {
                true => writeln!(f, "{}  {to}, as before", own.device)?,
                false => writeln!(f, "{}  {from} -> {to}", own.device)?,
            }
        }
        Ok(())
    }
}
