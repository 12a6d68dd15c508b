//! Reads text line by line, as bytes, in bounded memory.

use std::io::{self, BufRead};

/// How much of a line is kept: more than any number or name of the kernel needs. Only paths, which
/// others choose, are longer.
const LONGEST: usize = 1 << 10;

/// Passes on each line without its end, truncated if it is too long.
pub(super) fn each(
    mut input: impl BufRead,
    mut line: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut kept = Vec::with_capacity(LONGEST);
    loop {
        let buffer = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        if buffer.is_empty() {
            return if kept.is_empty() { Ok(()) } else { line(&kept) };
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = LONGEST.saturating_sub(kept.len());
        kept.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            line(&kept)?;
            kept.clear();
        }
    }
}

/// The value of a `name: value` line, as in `status`, `fdinfo` and `smaps`.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read, repeat};

    use super::*;

    fn all(input: impl Read, buffer: usize) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let input = BufReader::with_capacity(buffer, input);
        each(input, |line| {
            lines.push(line.to_vec());
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn lines_whatever_the_buffer_is() {
        for buffer in [1, 2, 3, 100] {
            let lines = all(&b"one\n\n\xff two\nthree"[..], buffer);
            assert_eq!(lines, [&b"one"[..], b"", b"\xff two", b"three"]);
        }
        assert!(all(&b""[..], 8).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let long = repeat(b'x').take(1 << 26).chain(&b"\nnext\n"[..]);
        let lines = all(long, 4096);
        assert_eq!(lines[0], vec![b'x'; LONGEST]);
        assert_eq!(lines[1..], [b"next"]);
    }

    #[test]
    fn fields_by_their_whole_name() {
        let text =
            "pos:\t0\nino:\t101\nvfio-device-syspath: /sys/devices/pci0000:00/0000:00:10.0\n";
        assert_eq!(field(text, "ino"), Some("101"));
        let path = "/sys/devices/pci0000:00/0000:00:10.0";
        assert_eq!(field(text, "vfio-device-syspath"), Some(path));
        assert_eq!(field(text, "vfio"), None);
    }
}
