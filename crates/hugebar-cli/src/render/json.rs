//! JSON that is safe to show on a terminal.

use hugebar_host::escape::is_printable;

/// Escapes unprintable characters of a JSON document (`\u202e`), without changing its meaning.
pub(super) fn shown(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        // Outside strings the only such character is the line end.
        if is_printable(c) || c == '\n' {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_the_same() {
        let name = "a\u{202e}\u{e0041}\u{9b}é\"\\\n";
        let document = serde_json::to_string_pretty(&[name]).unwrap();
        let text = shown(&document);
        assert!(text.contains("\\u202e\\udb40\\udc41\\u009b"), "{text}");
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, [name]);
        assert_eq!(shown("{\n  \"a\": 1\n}"), "{\n  \"a\": 1\n}");
    }
}
