//! What several commands share: permission to install, and guests that fail.

use std::process::ExitCode;

use anyhow::Result;
use hugebar_lab::Failure;

/// Whether what is missing may be installed.
#[derive(clap::Args)]
pub(crate) struct Consent {
    /// Install what is missing without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

/// The exit status for a guest that has crashed, hung or run out of time, which is told here. Other errors remain.
pub(crate) fn guest_failed(error: anyhow::Error) -> Result<ExitCode> {
    let failure: Failure = error.downcast()?;
    eprintln!("error: {failure}");
    Ok(ExitCode::from(failure.code()))
}
