//! Manual pages, made of the definition of the command line.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// The section for commands of the system's administrator.
const SECTION: &str = "8";

/// A manual page.
pub(crate) struct Page {
    /// The name of its file, such as `hugebar-map.8`.
    pub(crate) file: String,
    pub(crate) text: String,
}

impl Page {
    /// The page of a command. `program` is the whole, which its other pages belong to.
    pub(crate) fn of(command: &Command, program: &Command) -> io::Result<Self> {
        let source = format!("hugebar {}", program.get_version().unwrap_or_default());
        let man = Man::new(command.clone())
            .section(SECTION)
            .source(source)
            .manual("hugebar");
        let mut text = Vec::new();
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut text)?;
        }
        let mut text = String::from_utf8(text).map_err(io::Error::other)?;
        let examples = command.get_before_help().map(ToString::to_string);
        if let Some(examples) = examples {
            let lines = examples.lines().filter(|line| *line != "Examples:");
            text.push_str(".SH EXAMPLES\n.nf\n");
            lines.for_each(|line| add(&mut text, line.trim_start()));
            text.push_str(".fi\n");
        }
        let status = program.get_after_help().map(ToString::to_string);
        if let Some(status) = status {
            text.push_str(".SH \"EXIT STATUS\"\n");
            add(&mut text, status.trim_start_matches("Exit status: "));
        }
        if command.get_name() != program.get_name() {
            text.push_str(&format!(".SH \"SEE ALSO\"\n.BR hugebar ({SECTION})\n"));
        }
        let file = man.get_filename();
        Ok(Self { file, text })
    }
}

/// Adds a line as it is.
fn add(page: &mut String, line: &str) {
    // Lines that begin with these are troff's.
    if line.starts_with(['.', '\'']) {
        page.push_str("\\&");
    }
    page.push_str(&line.replace('\\', "\\e").replace('-', "\\-"));
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_as_they_are() {
        let mut page = String::new();
        for line in [".fi", "'x", "a \\ b", "--bar 0"] {
            add(&mut page, line);
        }
        assert_eq!(page, "\\&.fi\n\\&'x\na \\e b\n\\-\\-bar 0\n");
    }
}
