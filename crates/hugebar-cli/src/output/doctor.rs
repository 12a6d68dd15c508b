//! What `hugebar doctor` reports.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use hugebar::facts::Facts;

/// The report on the way from firmware to mapping.
#[derive(Debug, Serialize)]
pub(crate) struct DoctorReport {
    version: u32,
    /// `uname -r`.
    release: String,
    pub(crate) device: Option<String>,
    pub(crate) steps: Vec<Step>,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) step: &'static str,
    pub(crate) status: Status,
    pub(crate) fact: String,
    pub(crate) remedy: Option<String>,
}

/// How a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// Works, but not as well as it could.
    Warning,
    /// To be mended before programs can map the device, map it with large leaves, or have it reach memory.
    Blocker,
}

impl Step {
    pub(crate) fn ok(step: &'static str, fact: impl Into<String>) -> Self {
        Self {
            step,
            status: Status::Ok,
            fact: fact.into(),
            remedy: None,
        }
    }

    pub(crate) fn warning(
        step: &'static str,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(step, fact)
        }
    }

    pub(crate) fn blocker(
        step: &'static str,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Blocker,
            ..Self::warning(step, fact, remedy)
        }
    }
}

impl DoctorReport {
    pub(crate) fn new(facts: &Facts) -> Self {
        Self {
            version: super::VERSION,
            release: facts.release.clone(),
            device: None,
            steps: Vec::new(),
        }
    }

    pub(crate) fn blocked(&self) -> bool {
        self.steps.iter().any(|step| step.status == Status::Blocker)
    }
}

/// For people: a line for each step, what is to be done below it.
impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.as_deref().unwrap_or("this host");
        writeln!(f, "{device}  Linux {}", self.release)?;
        for Step {
            step,
            status,
            fact,
            remedy,
        } in &self.steps
        {
            let (color, word) = match status {
                Status::Ok => (AnsiColor::Green, "ok"),
                Status::Warning => (AnsiColor::Yellow, "warning"),
                Status::Blocker => (AnsiColor::Red, "blocker"),
            };
            let style = Style::new().fg_color(Some(color.into())).bold();
            writeln!(f, "  {style}{word:8}{style:#}{step:20}{fact}")?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:30}{remedy}", "")?;
            }
        }
        Ok(())
    }
}
