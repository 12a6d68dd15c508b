//! How the command ends: its exit status.

use std::process::ExitCode;

/// The result of a command that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, or yes.
    Yes,
    /// The answer is no: a requirement is not met, or there is a blocker.
    No,
    /// A part failed, which has been reported.
    Failed,
}

impl Answer {
    /// `Yes` or `No`.
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
