//! Text on the stack, and numbers in text: without the parts of `core` that can panic.

use core::ffi::c_char;

/// A line of at most `N` bytes; what is too much is cut off.
pub(crate) struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Line<N> {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }

    pub(crate) fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length = self.length.wrapping_add(1);
        }
    }

    /// A number in decimal.
    pub(crate) fn number(&mut self, number: u64) {
        self.digits::<10>(number);
    }

    /// `0x` and a number in hexadecimal.
    pub(crate) fn hexadecimal(&mut self, number: u64) {
        self.text("0x");
        self.digits::<16>(number);
    }

    fn digits<const BASE: u64>(&mut self, mut number: u64) {
        // From the last one on: 20 decimal digits at most.
        let mut digits = [0; 20];
        let mut length = 0_usize;
        for place in digits.iter_mut().rev() {
            let digit = (number % BASE) as u8;
            *place = match digit {
                0..10 => digit.wrapping_add(b'0'),
                _ => digit.wrapping_sub(10).wrapping_add(b'a'),
            };
            length = length.wrapping_add(1);
            number /= BASE;
            if number == 0 {
                break;
            }
        }
        let blank = digits.len().saturating_sub(length);
        digits
            .iter()
            .skip(blank)
            .for_each(|&digit| self.byte(digit));
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The line for C, or `None` if there is no room for the zero at its end.
    pub(crate) fn terminated(&mut self) -> Option<*const c_char> {
        *self.bytes.get_mut(self.length)? = 0;
        Some(self.bytes.as_ptr().cast())
    }
}

/// The decimal number at the beginning of a text, and the rest of the text.
pub(crate) fn number(mut text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = None;
    while let [digit @ b'0'..=b'9', rest @ ..] = text {
        let value = u64::from(digit.wrapping_sub(b'0'));
        number = Some(
            number
                .unwrap_or(0_u64)
                .checked_mul(10)?
                .checked_add(value)?,
        );
        text = rest;
    }
    Some((number?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_usual() {
        for number in [0, 7, 9, 10, 4096, 99_999, 1 << 40, u64::MAX - 1, u64::MAX] {
            let mut line = Line::<64>::new();
            line.number(number);
            line.text(" ");
            line.hexadecimal(number);
            let expected = format!("{number} {number:#x}");
            assert_eq!(line.bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn what_is_too_long_is_cut_off() {
        let mut line = Line::<4>::new();
        line.text("abc");
        assert!(line.terminated().is_some());
        assert_eq!(line.bytes, *b"abc\0");
        line.text("def");
        assert_eq!(line.bytes(), b"abcd");
        assert!(line.terminated().is_none());
    }

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        assert_eq!(number(b"511 vfio-dev"), Some((511, &b" vfio-dev"[..])));
        let all = u64::MAX.to_string();
        assert_eq!(number(all.as_bytes()), Some((u64::MAX, &b""[..])));
        for none in ["", " 1", "-1", "18446744073709551616"] {
            assert_eq!(number(none.as_bytes()), None, "{none}");
        }
    }
}
