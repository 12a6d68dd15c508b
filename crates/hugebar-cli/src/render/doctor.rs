//! The report of `hugebar doctor`.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use hugebar::facts::Facts;
use hugebar_host::doctor::{Status, Step};

use super::device::escaped;
use super::print::VERSION;
use super::{table, wrap};

/// The column in which facts begin.
pub(super) const FACTS: usize = 30;

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

impl DoctorReport {
    /// As text: a line for each step, the remedy below it.
    fn text(&self, width: Option<u16>) -> String {
        let device = self.device.as_deref().unwrap_or("this host");
        let mut text = format!("{device}  Linux {}\n", self.release);
        for own in &self.steps {
            let (color, word) = match own.status {
                Status::Ok => (AnsiColor::Green, "ok"),
                Status::Warning => (AnsiColor::Yellow, "warning"),
                _ => (AnsiColor::Red, "blocker"),
            };
            let style = Style::new().fg_color(Some(color.into())).bold();
            let start = format!("  {style}{word:8}{style:#}{:20}", own.step);
            text.push_str(&wrap::hanging(&start, FACTS, &escaped(&own.fact), width));
            let below = " ".repeat(FACTS);
            if let Some(remedy) = &own.remedy {
                text.push_str(&wrap::hanging(&below, FACTS, &escaped(remedy), width));
            }
            if let Some(command) = &own.command {
                text.push_str(&format!("{below}or: {}\n", escaped(command)));
            }
        }
        text
    }

    /// The text with lines of any length.
    pub(crate) fn for_a_file(&self) -> String {
        self.text(None)
    }
}

/// As text, for the terminal.
impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(table::width()))
    }
}
