//! How the command ends: its exit status.

use std::process::ExitCode;

/// What a command that ran to its end has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, or yes.
    Yes,
    /// The answer is no: what was required is not so.
    No,
    /// A part of it went wrong, which has been told.
    Failed,
}

impl Answer {
    /// Yes if it is so.
    pub(crate) fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Yes => Self::SUCCESS,
            Answer::No => Self::from(1),
            Answer::Failed => Self::from(FAILED),
        }
    }
}

/// The exit status of an error or of wrong usage.
pub(crate) const FAILED: u8 = 2;
