//! What commands in the guest have printed.

use anyhow::{Context, Result, ensure};
use hugebar_lab::Output;
use serde_json::Value;

/// The text of a command that has to succeed.
pub(super) fn text(output: &Output) -> Result<String> {
    ensure!(
        output.success(),
        "a command failed in the guest: {output:?}"
    );
    Ok(output.stdout().into_owned())
}

/// The same as JSON.
pub(super) fn parsed(output: &Output) -> Result<Value> {
    let text = text(output)?;
    // The lab's own program says at its end that all is well.
    let json = text.strip_suffix("ok\n").unwrap_or(&text);
    serde_json::from_str(json).with_context(|| format!("not JSON: {text:?}"))
}
