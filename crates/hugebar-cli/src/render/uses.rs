//! What a device is in use for, in JSON.

use serde::Serialize;

use hugebar_host::admin::{Plan, Use};

/// One use of a device.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct UseReport<'a> {
    code: &'a str,
    fact: &'a str,
    remedy: &'a str,
    can_be_forced: bool,
}

impl<'a> UseReport<'a> {
    /// The uses that a plan overrules.
    pub(super) fn of(plan: Option<&'a Plan>) -> Vec<Self> {
        let one = |own: &'a Use| Self {
            code: own.code,
            fact: &own.fact,
            remedy: &own.remedy,
            can_be_forced: own.can_be_forced,
        };
        let all = plan.into_iter().flat_map(|plan| &plan.uses);
        all.map(one).collect()
    }
}

/// The steps of a plan, as lines for a shell.
pub(super) fn steps(plan: Option<&Plan>) -> Vec<String> {
    let steps = plan.into_iter().flat_map(|plan| &plan.steps);
    steps.map(ToString::to_string).collect()
}
