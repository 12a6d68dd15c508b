//! The report of `hugebar doctor`.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use hugebar::facts::Facts;
use hugebar_host::doctor::{Status, Step};

use super::print::VERSION;

/// The report of `hugebar doctor`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DoctorReport {
    version: u32,
    /// `uname -r`.
    release: String,
    pub(crate) device: Option<String>,
    #[cfg_attr(test, schemars(with = "Vec<super::schema::Step>"))]
    pub(crate) steps: Vec<Step>,
}

impl DoctorReport {
    pub(crate) fn new(facts: &Facts) -> Self {
        Self {
            version: VERSION,
            release: facts.release.clone(),
            device: None,
            steps: Vec::new(),
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.steps.iter().any(|step| step.status == Status::Blocker)
    }
}

/// As text: a line for each step, the remedy below it.
impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.as_deref().unwrap_or("this host");
        writeln!(f, "{device}  Linux {}", self.release)?;
        for Step {
            step,
            status,
            fact,
            remedy,
            ..
        } in &self.steps
        {
            let (color, word) = match status {
                Status::Ok => (AnsiColor::Green, "ok"),
                Status::Warning => (AnsiColor::Yellow, "warning"),
                _ => (AnsiColor::Red, "blocker"),
            };
            let style = Style::new().fg_color(Some(color.into())).bold();
            writeln!(f, "  {style}{word:8}{style:#}{step:20}{fact}")?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:30}{remedy}", "")?;
                // The commands that bind it.
                if *step == "driver" && remedy.contains("driver_override") {
                    writeln!(f, "{:30}or: hugebar bind {device}", "")?;
                }
            }
        }
        Ok(())
    }
}
