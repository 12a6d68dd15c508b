//! Escapes text that others choose, such as process names, for the terminal.

use std::fmt::{self, Write};

/// Characters whose category is letter or symbol, but that are blank.
const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{2800}'];

/// Shows text with control characters, bidirectional marks, zero-width characters and the like escaped as
/// `\u{202e}`: a terminal would obey them, or not show them.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if is_printable(c) {
                f.write_char(c)
            } else if BLANK.contains(&c) {
                write!(f, "{}", c.escape_unicode())
            } else {
                write!(f, "{}", c.escape_debug())
            }
        })
    }
}

/// Whether a character is visible and has no other effect.
pub fn is_printable(c: char) -> bool {
    // Rust escapes unprintable characters, and also quotes and backslashes.
    let shown = c.escape_debug().len() == 1 || matches!(c, '\'' | '"' | '\\');
    shown && !BLANK.contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_spelt_out() {
        for (text, shown) in [
            ("qemu-system-x86", "qemu-system-x86"),
            ("a \"b\" 'c' \\d", "a \"b\" 'c' \\d"),
            ("größe 名前 🦀", "größe 名前 🦀"),
            (
                "\u{1b}[2J\n\t\u{7f}\u{9b}",
                "\\u{1b}[2J\\n\\t\\u{7f}\\u{9b}",
            ),
            ("a\u{202e}b\u{200b}c", "a\\u{202e}b\\u{200b}c"),
            (
                "\u{2066}\u{feff}\u{ad}\u{2028}",
                "\\u{2066}\\u{feff}\\u{ad}\\u{2028}",
            ),
            ("\u{e0041}\u{fe0f}\u{34f}", "\\u{e0041}\\u{fe0f}\\u{34f}"),
        ] {
            assert_eq!(Escaped(text).to_string(), shown);
        }
        assert_eq!(Escaped("\u{3164}").to_string(), "\\u{3164}");
    }
}
