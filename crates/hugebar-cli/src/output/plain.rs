//! Text that somebody else chose, such as the name of a process, as a terminal may be given it.

use std::fmt::{self, Write};

/// Letters and signs by their category, but blank.
const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}', '\u{2800}'];

/// Shows text without what a terminal would obey, and what nobody would see: control characters, marks of
/// writing direction, characters without width and the like become `\u{202e}`.
pub(crate) struct Plain<'a>(pub(crate) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if is_plain(c) {
                f.write_char(c)
            } else if BLANK.contains(&c) {
                write!(f, "{}", c.escape_unicode())
            } else {
                write!(f, "{}", c.escape_debug())
            }
        })
    }
}

/// A JSON document with the same characters as `\u202e`: it says the same, and can be shown.
pub(super) fn json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        // Outside of strings there are none of these but line ends.
        if is_plain(c) || c == '\n' {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    }
    shown
}

/// Whether a character is seen, and does nothing else.
fn is_plain(c: char) -> bool {
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
            assert_eq!(Plain(text).to_string(), shown);
        }
        assert_eq!(Plain("\u{3164}").to_string(), "\\u{3164}");
    }

    #[test]
    fn a_document_says_the_same() {
        let name = "a\u{202e}\u{e0041}\u{9b}é\"\\\n";
        let document = serde_json::to_string_pretty(&[name]).unwrap();
        let shown = json(&document);
        assert!(shown.contains("\\u202e\\udb40\\udc41\\u009b"), "{shown}");
        let read: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, [name]);
        assert_eq!(json("{\n  \"a\": 1\n}"), "{\n  \"a\": 1\n}");
    }
}
