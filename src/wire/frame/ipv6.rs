//! The walk over IPv6 extension headers (RFC 8200 section 4), shared by packets and by what ICMPv6 errors quote of them.

use crate::wire::frame::protocol::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};

/// Headers walked at most; a longer chain has "no ports".
const HEADERS_MAX: usize = 8;
/// Bytes of extension headers walked at most.
const BYTES_MAX: usize = 512;

const AUTHENTICATION: u8 = 51;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// What the walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct Chain {
    /// Upper-layer protocol, or the header at which the walk stopped.
    pub protocol: u8,
    /// Where that header begins, in bytes after the fixed header.
    pub offset: usize,
    /// The fragment header, unless it was atomic or absent.
    pub fragment: Option<FragmentHeader>,
    /// The addresses of the fixed header may not be those that the upper layer's checksum covers: a routing header with
    /// segments left changes the destination, a home address option the source.
    pub readdressed: bool,
}

/// A fragment header that makes a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct FragmentHeader {
    pub id: u32,
    /// In bytes.
    pub offset: u16,
    pub more: bool,
    /// Where its payload begins, in bytes after the fixed header.
    pub payload: usize,
}

/// Why a chain cannot be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) enum Broken {
    /// A header goes on beyond the bytes; whether these are a first fragment.
    Truncated { first_fragment: bool },
    /// Routing header type 0 (RFC 5095).
    SourceRoute,
    /// A fragment of a fragment, which no node can put together before the other.
    NestedFragment,
}

/// Walks from the header numbered `next`, whose first byte is the first of `bytes`. A later fragment ends the walk: what
/// follows its fragment header is the middle of something.
pub(in crate::wire) fn walk(mut next: u8, bytes: &[u8]) -> Result<Chain, Broken> {
    let mut chain = Chain { protocol: next, offset: 0, fragment: None, readdressed: false };
    for _ in 0..HEADERS_MAX {
        let here = &bytes[chain.offset..];
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
                here.get(1).map(|&units| (usize::from(units) + 1) * 8)
            }
            // RFC 4302 section 2.2: in 4-byte units, minus 2.
            AUTHENTICATION => here.get(1).map(|&units| (usize::from(units) + 2) * 4),
            FRAGMENT => Some(8),
            _ => return Ok(chain),
        };
        let truncated = Broken::Truncated { first_fragment: chain.fragment.is_some() };
        let length = length.ok_or(truncated)?;
        if chain.offset + length > BYTES_MAX {
            return Ok(chain);
        }
        let header = here.get(..length).ok_or(truncated)?;
        match next {
            ROUTING => match (header[2], header[3]) {
                (0, _) => return Err(Broken::SourceRoute),
                (_, 0) => {}
                (_, _segments_left) => chain.readdressed = true,
            },
            DESTINATION_OPTIONS => chain.readdressed = true,
            FRAGMENT => {
                let fragment = fragment_header(header, chain.offset + length);
                match (chain.fragment, fragment) {
                    (None, fragment) => chain.fragment = fragment,
                    (Some(_), _) => return Err(Broken::NestedFragment),
                }
            }
            _ => {}
        }
        next = header[0];
        chain.protocol = next;
        chain.offset += length;
        if chain.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Ok(chain);
        }
    }
    Ok(chain)
}

/// `None` for an atomic fragment: offset 0 and no more (RFC 6946).
fn fragment_header(header: &[u8], payload: usize) -> Option<FragmentHeader> {
    let field = u16::from_be_bytes([header[2], header[3]]);
    let (offset, more) = (field & 0xfff8, field & 1 != 0);
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    (offset != 0 || more).then_some(FragmentHeader { id, offset, more, payload })
}
