//! Writes for other programs.

use crate::args::Target;
use crate::exit::Answer;
use crate::failure::Failure;
use crate::render::{self, Readers};

/// Prints a document, or replaces a file by it.
pub(super) fn write(target: Target<'_>, text: &str) -> Result<Answer, Failure> {
    match target {
        Target::Stdout => render::deliver_raw(text.as_bytes()).map_err(Failure::Output)?,
        Target::File(file) => render::replace(file, text, Readers::All)
            .map_err(|error| Failure::File(file.to_owned(), error))?,
    }
    Ok(Answer::Yes)
}
