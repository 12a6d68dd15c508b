//! Text between the edges of the terminal.

use std::iter;
use std::sync::OnceLock;

use regex_lite::{Captures, Regex};
use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter};

/// How narrow a text becomes at most, also where the lines get too long.
const NARROWEST: usize = 20;

/// Stands for a space at which a line is not broken.
const GLUE: &str = "\u{a0}";

/// A value behind a start that is `indent` wide, broken between words where lines are limited. Commands that write to the
/// kernel's files stay whole, so that they can be copied: those that do not fit begin further left. Sizes stay whole too.
pub(super) fn hanging(start: &str, indent: usize, value: &str, width: Option<u16>) -> String {
    let room = width.map_or(usize::MAX, |width| {
        usize::from(width).saturating_sub(indent).max(NARROWEST)
    });
    let options = Options::new(room)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let value = glued(value);
    let lines = textwrap::wrap(&value, options);
    let starts = iter::once(start.to_owned()).chain(iter::repeat(" ".repeat(indent)));
    let longest = lines.iter().map(|line| display_width(line)).max();
    let left = usize::from(width.unwrap_or(u16::MAX)).saturating_sub(longest.unwrap_or(0));
    let lines = starts.zip(lines).map(|(start, line)| {
        if display_width(&line) > room && start.trim().is_empty() {
            let start = " ".repeat(left.min(indent));
            return format!("{start}{line}\n");
        }
        format!("{start}{line}\n")
    });
    lines.collect::<String>().replace(GLUE, " ")
}

/// The same text, in which commands and sizes are words.
fn glued(text: &str) -> String {
    static COMMAND: OnceLock<Option<Regex>> = OnceLock::new();
    let command =
        COMMAND.get_or_init(|| Regex::new(r"echo \S+ > \S+|\b[0-9]+ ([KMGT]iB|bits|bytes)\b").ok());
    let Some(command) = command else {
        return text.to_owned();
    };
    let glued = |found: &Captures<'_>| found[0].replace(' ', GLUE);
    command.replace_all(text, glued).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_not_in_commands() {
        let text = "take it away (echo 1 > /sys/x/remove; echo 1 > /sys/rescan) and look";
        let expected = "\
- take it away
  (echo 1 > /sys/x/remove;
  echo 1 > /sys/rescan) and
  look
";
        assert_eq!(hanging("- ", 2, text, Some(28)), expected);
        assert_eq!(hanging("- ", 2, text, None), format!("- {text}\n"));
        // Where a command does not fit behind the start, it begins further left.
        let text = "bind it: echo vfio-pci > /sys/driver_override; echo 1 > /sys/probe";
        let expected = [
            "          bind it:\n",
            "   echo vfio-pci > /sys/driver_override;\n",
            "          echo 1 > /sys/probe\n",
        ]
        .concat();
        let below = " ".repeat(10);
        assert_eq!(hanging(&below, 10, text, Some(40)), expected);
        let expected = "sizes 512 MiB, 1024 MiB,\n      64 GiB\n";
        assert_eq!(
            hanging("sizes ", 6, "512 MiB, 1024 MiB, 64 GiB", Some(28)),
            expected
        );
        // At least 20 characters.
        let expected = "  name  one two three four\n        five six\n";
        for width in [30, 10] {
            let text = "one two three four five six";
            assert_eq!(
                hanging("  name  ", 8, text, Some(width)),
                expected,
                "{width}"
            );
        }
    }
}
