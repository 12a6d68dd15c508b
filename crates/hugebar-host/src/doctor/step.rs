//! One step of the doctor.

/// One step of the doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Step {
    /// Which step, by its documented name: `iommu`, `driver` ...
    pub step: &'static str,
    /// Its status.
    pub status: Status,
    /// The finding, in one line.
    pub fact: String,
    /// What to do about it; `None` if there is nothing to do.
    pub remedy: Option<String>,
    /// The command of `hugebar` that does it ([`crate::admin`]); `None` if there is none.
    pub command: Option<String>,
}

/// The status of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could.
    Warning,
    /// Has to be fixed before programs can map the device, map it with large leaves, or let it reach memory.
    Blocker,
}

impl Step {
    pub(crate) fn ok(step: &'static str, fact: impl Into<String>) -> Self {
        Self {
            step,
            status: Status::Ok,
            fact: fact.into(),
            remedy: None,
            command: None,
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

    /// The same with a command of `hugebar` that does what the remedy says.
    pub(crate) fn by(self, command: String) -> Self {
        Self {
            command: Some(command),
            ..self
        }
    }
}
