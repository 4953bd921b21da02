//! A body as it comes in: where it ends (RFC 9112 sections 6 and 7.1), and whether the wanted text is in it.

use httparse::{Status, parse_chunk_size};

use super::{BODY_MAX, Progress, ill};

/// The longest line of a chunk's size with its extensions, in bytes.
const SIZE_LINE_MAX: usize = 4 * 1024;

/// How the end of a body is known, and how far it is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framing {
    /// In chunks.
    Chunked(Chunk),
    /// After so many bytes more.
    Length(u64),
    /// When the connection ends.
    UntilClose,
}

/// Where in a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the line that says its size, which began with these bytes.
    Size(Vec<u8>),
    /// In its data, of which so many bytes are left, at least one.
    Data(u64),
    /// Behind its data, before the line's end.
    End,
}

impl Framing {
    /// Before the first chunk.
    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunk::Size(Vec::new()))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Body {
    framing: Framing,
    wanted: String,
    /// The last bytes that were looked at: one less than the wanted text has.
    tail: Vec<u8>,
    /// Bytes that were looked at.
    looked: usize,
}

impl Body {
    /// A body that begins; `wanted` is not empty.
    pub(super) const fn new(framing: Framing, wanted: String) -> Self {
        Self { framing, wanted, tail: Vec::new(), looked: 0 }
    }

    /// What is known before another byte comes.
    pub(super) fn verdict(&self) -> Option<Progress> {
        (self.framing == Framing::Length(0)).then(|| self.lacks())
    }

    /// What is known when no other byte will come.
    pub(super) fn at_end(&self) -> Progress {
        match self.framing {
            Framing::UntilClose => self.lacks(),
            Framing::Chunked(_) | Framing::Length(_) => ill("connection closed within the body"),
        }
    }

    /// Takes bytes, at least one, from the front of `bytes`; the verdict as soon as there is one.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Option<Progress> {
        match &mut self.framing {
            Framing::UntilClose => {
                let data = std::mem::take(bytes);
                self.look(data)
            }
            Framing::Length(left) => {
                let data = split_off(bytes, *left);
                *left -= data.len() as u64;
                self.look(data).or_else(|| self.verdict())
            }
            Framing::Chunked(Chunk::Data(left)) => {
                let data = split_off(bytes, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.framing = Framing::Chunked(Chunk::End);
                }
                self.look(data)
            }
            Framing::Chunked(Chunk::End) => match split_off(bytes, 1) {
                b"\r" => None,
                b"\n" => {
                    self.framing = Framing::chunked();
                    None
                }
                _ => Some(ill("HTTP chunk longer than its size")),
            },
            Framing::Chunked(Chunk::Size(line)) => {
                let byte = split_off(bytes, 1);
                line.extend_from_slice(byte);
                if byte != b"\n" {
                    return (line.len() >= SIZE_LINE_MAX).then(|| ill("HTTP chunk size without an end"));
                }
                // A lone LF ends a line too (RFC 9112 section 2.2).
                while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                    line.pop();
                }
                let digits = line.first().is_some_and(u8::is_ascii_hexdigit);
                line.extend_from_slice(b"\r\n");
                match parse_chunk_size(line) {
                    // The last chunk: what follows are trailer fields, which are no body.
                    Ok(Status::Complete((_, 0))) if digits => Some(self.lacks()),
                    Ok(Status::Complete((_, size))) if digits => {
                        self.framing = Framing::Chunked(Chunk::Data(size));
                        None
                    }
                    Ok(_) | Err(_) => Some(ill("HTTP chunk without a size")),
                }
            }
        }
    }

    /// Looks for the wanted text, which may have begun in earlier bytes.
    fn look(&mut self, data: &[u8]) -> Option<Progress> {
        let data = &data[..data.len().min(BODY_MAX - self.looked)];
        self.looked += data.len();
        self.tail.extend_from_slice(data);
        if self.tail.windows(self.wanted.len()).any(|window| window == self.wanted.as_bytes()) {
            return Some(Progress::Well);
        }
        self.tail.drain(..self.tail.len().saturating_sub(self.wanted.len() - 1));
        (self.looked == BODY_MAX).then(|| self.lacks())
    }

    fn lacks(&self) -> Progress {
        let within = if self.looked == BODY_MAX { format!(" in its first {BODY_MAX} bytes") } else { String::new() };
        Progress::Ill(format!("body lacks {:?}{within}", self.wanted))
    }
}

/// The first `most` bytes, or what there is.
fn split_off<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (front, rest) = bytes.split_at(length);
    *bytes = rest;
    front
}
