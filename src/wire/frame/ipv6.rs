//! The walk over IPv6 extension headers (RFC 8200 section 4), used for packets and for the packets that ICMPv6 errors
//! quote.

use crate::wire::frame::protocol::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};

/// The largest number of extension headers that are walked. A packet with a longer chain counts as one without ports.
const HEADERS_MAX: usize = 8;
/// The largest number of bytes of extension headers that are walked.
const BYTES_MAX: usize = 512;

const AUTHENTICATION: u8 = 51;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// The result of walking a chain of extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct Chain {
    /// The upper-layer protocol, or the number of the header at which the walk stopped.
    pub protocol: u8,
    /// Where that header begins, in bytes after the fixed IPv6 header.
    pub offset: usize,
    /// The fragment header; `None` if there is none or if it makes an atomic fragment (RFC 6946).
    pub fragment: Option<FragmentHeader>,
    /// Whether the addresses that the upper-layer checksum covers may differ from those in the fixed header: a routing
    /// header with segments left changes the destination, a home address option the source.
    pub changes_addresses: bool,
}

/// A fragment header of a packet that really is a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) struct FragmentHeader {
    pub id: u32,
    /// Offset of the fragment in bytes.
    pub offset: u16,
    pub more: bool,
    /// Where the fragment's payload begins, in bytes after the fixed IPv6 header.
    pub payload: usize,
}

/// Why a chain of extension headers cannot be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) enum ChainError {
    /// A header does not fit the bytes that are there. `first_fragment` says whether they belong to a first fragment.
    Truncated { first_fragment: bool },
    /// The chain contains a routing header of type 0 (RFC 5095).
    SourceRoute,
    /// The chain contains a second fragment header. A fragment of a fragment cannot be reassembled along with its
    /// datagram.
    NestedFragment,
}

/// Walks the chain of headers in `bytes`, which begins with a header of type `next`. The walk ends at a fragment header
/// with a nonzero offset, because what follows it is not a header.
pub(in crate::wire) fn walk(mut next: u8, bytes: &[u8]) -> Result<Chain, ChainError> {
    let mut chain = Chain { protocol: next, offset: 0, fragment: None, changes_addresses: false };
    for _ in 0..HEADERS_MAX {
        let here = &bytes[chain.offset..];
        let length = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => {
                here.get(1).map(|&units| (usize::from(units) + 1) * 8)
            }
            // The length is counted in units of 4 bytes, minus 2 (RFC 4302 section 2.2).
            AUTHENTICATION => here.get(1).map(|&units| (usize::from(units) + 2) * 4),
            FRAGMENT => Some(8),
            _ => return Ok(chain),
        };
        let truncated = ChainError::Truncated { first_fragment: chain.fragment.is_some() };
        let length = length.ok_or(truncated)?;
        if chain.offset + length > BYTES_MAX {
            return Ok(chain);
        }
        let header = here.get(..length).ok_or(truncated)?;
        match next {
            ROUTING => match (header[2], header[3]) {
                (0, _) => return Err(ChainError::SourceRoute),
                (_, 0) => {}
                (_, _segments_left) => chain.changes_addresses = true,
            },
            DESTINATION_OPTIONS => chain.changes_addresses = true,
            FRAGMENT => {
                let fragment = fragment_header(header, chain.offset + length);
                match (chain.fragment, fragment) {
                    (None, fragment) => chain.fragment = fragment,
                    (Some(_), _) => return Err(ChainError::NestedFragment),
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

/// The fragment header; `None` if it makes an atomic fragment, with offset 0 and no more fragments (RFC 6946).
fn fragment_header(header: &[u8], payload: usize) -> Option<FragmentHeader> {
    let field = u16::from_be_bytes([header[2], header[3]]);
    let (offset, more) = (field & 0xfff8, field & 1 != 0);
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    (offset != 0 || more).then_some(FragmentHeader { id, offset, more, payload })
}
