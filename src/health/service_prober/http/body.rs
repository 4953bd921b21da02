//! A response body that is read piece by piece: where it ends (RFC 9112 sections 6 and 7.1), and whether it contains
//! the wanted text.

use httparse::{Status, parse_chunk_size};

use super::{BODY_MAX, ResponseVerdict, unhealthy};

/// The largest length of the line with the size of a chunk and its extensions, in bytes.
const SIZE_LINE_MAX: usize = 4 * 1024;

/// How the end of a body is found, and how far away it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framing {
    /// By the chunked transfer coding.
    Chunked(Chunk),
    /// After this many more bytes.
    Length(u64),
    /// When the connection ends.
    UntilClose,
}

/// The position within a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the line with the chunk's size, which began with these bytes.
    Size(Vec<u8>),
    /// In the data of the chunk, of which this many bytes are left (at least one).
    Data(u64),
    /// After the data, before the end of the line.
    End,
}

impl Framing {
    /// The framing before the first chunk.
    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunk::Size(Vec::new()))
    }
}

/// A body; see the module documentation.
#[derive(Debug)]
pub(super) struct Body {
    framing: Framing,
    text: String,
    /// The last bytes that were searched, one fewer than the wanted text has.
    tail: Vec<u8>,
    /// The number of bytes that were searched.
    searched: usize,
}

impl Body {
    /// A body before its first byte. `wanted` must not be empty.
    pub(super) const fn new(framing: Framing, wanted: String) -> Self {
        Self { framing, text: wanted, tail: Vec::new(), searched: 0 }
    }

    /// The verdict that is known before another byte is received.
    pub(super) fn verdict(&self) -> Option<ResponseVerdict> {
        (self.framing == Framing::Length(0)).then(|| self.not_found())
    }

    /// The verdict if no other byte will be received.
    pub(super) fn at_end(&self) -> ResponseVerdict {
        match self.framing {
            Framing::UntilClose => self.not_found(),
            Framing::Chunked(_) | Framing::Length(_) => unhealthy("connection closed within the body"),
        }
    }

    /// Takes at least one byte from the front of `bytes`. Returns the verdict as soon as there is one.
    pub(super) fn receive(&mut self, bytes: &mut &[u8]) -> Option<ResponseVerdict> {
        match &mut self.framing {
            Framing::UntilClose => {
                let data = std::mem::take(bytes);
                self.search(data)
            }
            Framing::Length(left) => {
                let data = split_off(bytes, *left);
                *left -= data.len() as u64;
                self.search(data).or_else(|| self.verdict())
            }
            Framing::Chunked(Chunk::Data(left)) => {
                let data = split_off(bytes, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.framing = Framing::Chunked(Chunk::End);
                }
                self.search(data)
            }
            Framing::Chunked(Chunk::End) => match split_off(bytes, 1) {
                b"\r" => None,
                b"\n" => {
                    self.framing = Framing::chunked();
                    None
                }
                _ => Some(unhealthy("HTTP chunk longer than its size")),
            },
            Framing::Chunked(Chunk::Size(line)) => {
                let byte = split_off(bytes, 1);
                line.extend_from_slice(byte);
                if byte != b"\n" {
                    return (line.len() >= SIZE_LINE_MAX).then(|| unhealthy("HTTP chunk size without an end"));
                }
                // A lone LF ends a line too (RFC 9112 section 2.2).
                while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                    line.pop();
                }
                let digits = line.first().is_some_and(u8::is_ascii_hexdigit);
                line.extend_from_slice(b"\r\n");
                match parse_chunk_size(line) {
                    // A chunk of size 0 is the last. Trailer fields follow it, which are not part of the body.
                    Ok(Status::Complete((_, 0))) if digits => Some(self.not_found()),
                    Ok(Status::Complete((_, size))) if digits => {
                        self.framing = Framing::Chunked(Chunk::Data(size));
                        None
                    }
                    Ok(_) | Err(_) => Some(unhealthy("HTTP chunk without a size")),
                }
            }
        }
    }

    /// Searches for the wanted text, which may have begun in earlier bytes.
    fn search(&mut self, data: &[u8]) -> Option<ResponseVerdict> {
        let data = &data[..data.len().min(BODY_MAX - self.searched)];
        self.searched += data.len();
        self.tail.extend_from_slice(data);
        if self.tail.windows(self.text.len()).any(|window| window == self.text.as_bytes()) {
            return Some(ResponseVerdict::Healthy);
        }
        self.tail.drain(..self.tail.len().saturating_sub(self.text.len() - 1));
        (self.searched == BODY_MAX).then(|| self.not_found())
    }

    fn not_found(&self) -> ResponseVerdict {
        let within = if self.searched == BODY_MAX { format!(" in its first {BODY_MAX} bytes") } else { String::new() };
        ResponseVerdict::Unhealthy(format!("body lacks {:?}{within}", self.text))
    }
}

/// Takes at most `most` bytes from the front of `bytes`.
fn split_off<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (front, rest) = bytes.split_at(length);
    *bytes = rest;
    front
}
