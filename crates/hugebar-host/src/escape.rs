//! Text that somebody else chose, such as the name of a process, safe to show on a terminal.

use std::fmt::{self, Write};

/// Letters and signs by their category, but blank.
const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{2800}'];

/// Shows text without what a terminal would obey, and what nobody would see: control characters, marks of
/// writing direction, characters without width and the like become `\u{202e}`.
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

/// Whether a character is seen, and does nothing else.
pub fn is_printable(c: char) -> bool {
    // What Rust would not print as it is, but for what it would quote.
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
