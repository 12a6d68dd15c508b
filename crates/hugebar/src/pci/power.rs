//! Power states of a function.

use std::fmt;

/// A power state: the higher the number, the deeper the sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PowerState {
    /// Fully on.
    D0,
    /// Light sleep, optional.
    D1,
    /// Deeper sleep, optional.
    D2,
    /// Asleep: configuration space answers, memory does not.
    D3hot,
    /// Without power: nothing answers.
    D3cold,
}

impl PowerState {
    /// Decodes `PCI_PM_CTRL`, which has no value for D3cold.
    pub(crate) fn of_control(control: u16) -> Self {
        match control & 3 {
            0 => Self::D0,
            1 => Self::D1,
            2 => Self::D2,
            _ => Self::D3hot,
        }
    }

    /// `PCI_PM_CTRL` with this state, and all else as it is; `None` for D3cold.
    pub(crate) fn in_control(self, control: u16) -> Option<u16> {
        let state = match self {
            Self::D0 => 0,
            Self::D1 => 1,
            Self::D2 => 2,
            Self::D3hot => 3,
            Self::D3cold => return None,
        };
        Some(control & !3 | state)
    }

    /// Parses the form of sysfs; `None` for `unknown` (no driver was bound yet) and `error`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::D0, Self::D1, Self::D2, Self::D3hot, Self::D3cold];
        all.into_iter().find(|own| own.to_string() == text)
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_by_register_and_by_name() {
        for number in 0..4 {
            let state = PowerState::of_control(0x100 | number);
            // Such as the bit that enables wake-up events.
            assert_eq!(state.in_control(0x101), Some(0x100 | number));
            assert_eq!(state.in_control(0x2), Some(number));
            assert_eq!(PowerState::parse(&state.to_string()), Some(state));
        }
        assert_eq!(PowerState::parse("D3cold"), Some(PowerState::D3cold));
        assert_eq!(PowerState::D3cold.in_control(0), None);
        assert_eq!(PowerState::parse("unknown"), None);
        assert!(PowerState::D3hot > PowerState::D0);
    }
}
