//! The frames that PID 1 sends over a serial port: several streams and the status of each command share one line.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::job::Status;

/// Every frame begins with these bytes, so that a lost or stray byte on the line is noticed at the next frame.
const MARK: [u8; 2] = *b"hb";

/// Length of what precedes the payload: mark, kind, command index (u16) and payload length (u32), little-endian.
const HEADER: usize = 9;

/// The longest payload; longer output is cut into several frames.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// PID 1's first frame: the payload is the release of the running kernel.
    Hello = 1,
    /// A piece of a command's standard output.
    Stdout = 2,
    /// A piece of a command's standard error.
    Stderr = 3,
    /// The end of a command: the payload is an [`Ended`] in JSON.
    Status = 4,
    /// The guest could not be set up: the payload says why. The last frame.
    Failed = 5,
    /// All commands have run. The last frame.
    Done = 6,
}

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Hello,
        Kind::Stdout,
        Kind::Stderr,
        Kind::Status,
        Kind::Failed,
        Kind::Done,
    ];
}

/// How a command ended, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// Nanoseconds from its start to its end, by the guest's clock.
    pub wall_ns: u64,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: Kind,
    /// The command of the job that it belongs to; 0 if none.
    pub command: u16,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Makes a frame.
    pub fn new(kind: Kind, command: u16, payload: impl Into<Vec<u8>>) -> Self {
        Frame {
            kind,
            command,
            payload: payload.into(),
        }
    }

    /// Writes the frame in one piece.
    ///
    /// # Errors
    /// If the payload is longer than [`MAX_PAYLOAD`], or the line fails.
    pub fn write(&self, line: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.payload.len())
            .ok()
            .filter(|_| self.payload.len() <= MAX_PAYLOAD)
            .ok_or_else(|| invalid(format!("a payload of {} bytes", self.payload.len())))?;
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&MARK);
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.command.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        line.write_all(&bytes)
    }

    /// Reads the next frame; `None` at the end of the line.
    ///
    /// # Errors
    /// `UnexpectedEof` if the line ends within a frame, `InvalidData` if the data is no frame.
    pub fn read(line: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER];
        // Between two frames the line may end.
        let begun = loop {
            match line.read(&mut header) {
                Ok(0) => return Ok(None),
                Ok(begun) => break begun,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        line.read_exact(&mut header[begun..])?;
        let [m0, m1, kind, c0, c1, l0, l1, l2, l3] = header;
        if [m0, m1] != MARK {
            return Err(invalid(format!(
                "{header:02x?} is not the start of a frame"
            )));
        }
        let kind = Kind::ALL
            .into_iter()
            .find(|known| *known as u8 == kind)
            .ok_or_else(|| invalid(format!("a frame of unknown kind {kind}")))?;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_PAYLOAD)
            .ok_or_else(|| invalid(format!("a frame of {length} bytes")))?;
        let mut payload = vec![0; length];
        line.read_exact(&mut payload)?;
        Ok(Some(Frame {
            kind,
            command: u16::from_le_bytes([c0, c1]),
            payload,
        }))
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(frames: &[Frame]) -> Vec<u8> {
        let mut line = Vec::new();
        for frame in frames {
            frame.write(&mut line).unwrap();
        }
        line
    }

    #[test]
    fn frames_of_every_kind_come_back_in_order() {
        let frames: Vec<_> = Kind::ALL
            .into_iter()
            .zip([0, 1, 255, 256, 65535, 7])
            .map(|(kind, command)| Frame::new(kind, command, vec![kind as u8; 300]))
            .chain([Frame::new(Kind::Stdout, 0, *b"hb\n\r\0\x03\x11\x13")])
            .collect();
        let line = written(&frames);
        let mut rest = line.as_slice();
        for frame in &frames {
            assert_eq!(Frame::read(&mut rest).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::read(&mut rest).unwrap(), None);
    }

    #[test]
    fn a_line_cut_anywhere_within_a_frame_is_an_error() {
        let line = written(&[Frame::new(Kind::Status, 3, *b"payload")]);
        for cut in 1..line.len() {
            let error = Frame::read(&mut &line[..cut]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }

    #[test]
    fn garbage_is_told_from_frames() {
        let good = written(&[Frame::new(Kind::Hello, 0, *b"6.1")]);
        for (at, byte) in [(0, b'x'), (1, b'x'), (2, 0), (2, 99), (8, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            let error = Frame::read(&mut bad.as_slice()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at}");
        }
    }

    #[test]
    fn too_long_a_payload_is_not_written() {
        let mut line = Vec::new();
        let frame = Frame::new(Kind::Stdout, 0, vec![0; MAX_PAYLOAD + 1]);
        assert!(frame.write(&mut line).is_err());
        assert!(line.is_empty());
    }
}
