//! One use of a device.

/// One use of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Use {
    /// Which use, by its documented name: `block`, `network` ...
    pub code: &'static str,
    /// The finding, in one line.
    pub fact: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether the device can be taken all the same: the users lose it.
    pub can_be_forced: bool,
}

impl Use {
    pub(in crate::admin) fn new(
        code: &'static str,
        fact: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            fact: fact.into(),
            remedy: remedy.into(),
            can_be_forced: true,
        }
    }

    pub(super) fn that_cannot_be_forced(self) -> Self {
        Self {
            can_be_forced: false,
            ..self
        }
    }
}
