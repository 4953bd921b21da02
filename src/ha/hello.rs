//! What the nodes of a cluster send each other in every interval, as a value and as bytes. Numbers are big endian:
//!
//! ```text
//!  role, flags, priority now, base priority, successor | one byte each
//!  term, term of the last own activity, deductions (16 bits), interval in centiseconds (16 bits)
//!  start of the sender, round since then (64 bits each)
//!  uptime in seconds, sessions, needed, held (32 bits each)
//!  digests of the sections of the file (32 bits each)
//!  name of the node, version of the program (length byte and text each)
//!  number of links (16 bits), then for each: digest of its name (32 bits), state, nodes heard (one byte each)
//! ```
//!
//! Bytes after the last field are skipped, so that a later version can add fields.

use crate::ha::Role;
use crate::ha::fields::Fields;
use crate::ha::settings::{NODES_MAX, NodeId, SECTIONS};
use crate::time::Duration;

/// The most links in one hello; what does not fit is left out.
pub const LINKS_MAX: usize = 128;
/// The longest text in bytes.
const TEXT_MAX: usize = 63;
const NOBODY: u8 = 0xff;

/// A hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The sender's role.
    pub role: Role,
    /// It has every copy that it would need as the active node.
    pub is_ready: bool,
    /// It is in maintenance.
    pub is_in_maintenance: bool,
    /// It could become active: no fault stands, it is in no maintenance, and it does not stop.
    pub is_eligible: bool,
    /// Its base priority less its deductions.
    pub priority: u8,
    /// Its base priority.
    pub base: u8,
    /// A leaving node: the one that is to take the role.
    pub successor: Option<NodeId>,
    /// The highest term that it knows of.
    pub term: u32,
    /// The term in which it was last active; 0 for never.
    pub last_active: u32,
    /// The sum of its deductions.
    pub deductions: u16,
    /// The time between two of its hellos, in steps of 10 ms.
    pub interval: Duration,
    /// When it started, in nanoseconds of its own clock: another value says that it started anew.
    pub start: u64,
    /// The number of this hello since then. It is the same on every path, and greater in every later hello, so that
    /// one that was delayed is known.
    pub round: u64,
    /// The time since it started, in seconds.
    pub uptime: u32,
    /// The number of its live sessions.
    pub sessions: u32,
    /// The number of its sessions that others need copies of.
    pub needed: u32,
    /// The number of copies that it holds.
    pub held: u32,
    /// Digests of the sections of its file, in the order of [`SECTIONS`].
    pub digests: [u32; SECTIONS.len()],
    /// Its name.
    pub name: String,
    /// The version of its program.
    pub program: String,
    /// Its links.
    pub links: Vec<LinkState>,
}

/// A link as the sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Digest of its name, by [`digest`].
    pub name: u32,
    /// It has carrier.
    pub has_carrier: bool,
    /// Somebody is heard on it.
    pub is_alive: bool,
    /// Its loss counts.
    pub is_tracked: bool,
    /// The nodes that are heard on it: bit `i` for node `i`.
    pub hears: u8,
}

/// The digest of a text, the same in every version of the program: the first 32 bits of its SipHash-1-3.
pub fn digest(text: &str) -> u32 {
    use std::hash::Hasher;
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(text.as_bytes());
    (hasher.finish() >> 32) as u32
}

impl Hello {
    /// True if it was said after `known`, by the same node. Another copy of `known`, from another path, was not.
    pub fn is_after(&self, known: &Self) -> bool {
        self.start != known.start || self.round > known.round
    }

    /// The bytes of the hello. Texts are cut to 63 bytes and the links to [`LINKS_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(192);
        let role = Role::ALL.iter().position(|role| *role == self.role).unwrap_or_default() as u8;
        let flags = u8::from(self.is_ready) | u8::from(self.is_in_maintenance) << 1 | u8::from(self.is_eligible) << 2;
        let successor = self.successor.map_or(NOBODY, |node| node.0);
        bytes.extend_from_slice(&[role, flags, self.priority, self.base, successor]);
        for number in [self.term, self.last_active] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let interval = u16::try_from(self.interval.as_millis() / 10).unwrap_or(u16::MAX);
        for number in [self.deductions, interval] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.start, self.round] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.uptime, self.sessions, self.needed, self.held].iter().chain(&self.digests) {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for text in [&self.name, &self.program] {
            let text = &text[..text.floor_char_boundary(TEXT_MAX)];
            bytes.push(text.len() as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
        let links = &self.links[..self.links.len().min(LINKS_MAX)];
        bytes.extend_from_slice(&(links.len() as u16).to_be_bytes());
        for link in links {
            bytes.extend_from_slice(&link.name.to_be_bytes());
            let state = [link.has_carrier, link.is_alive, link.is_tracked];
            bytes.push(state.iter().rev().fold(0, |bits, bit| bits << 1 | u8::from(*bit)));
            bytes.push(link.hears);
        }
        bytes
    }

    /// Reads a hello; `None` if the bytes are too short or a field has no meaning.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let [role, flags, priority, base, successor] = fields.array()?;
        let role = *Role::ALL.get(usize::from(role))?;
        if priority == 0 || base == 0 || (successor != NOBODY && usize::from(successor) >= NODES_MAX) {
            return None;
        }
        let (term, last_active) = (fields.u32()?, fields.u32()?);
        let (deductions, interval) = (fields.u16()?, fields.u16()?);
        if interval == 0 || last_active > term {
            return None;
        }
        let (start, round) = (fields.u64()?, fields.u64()?);
        let (uptime, sessions, needed, held) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
        let mut digests = [0; SECTIONS.len()];
        for digest in &mut digests {
            *digest = fields.u32()?;
        }
        let (name, program) = (fields.text()?, fields.text()?);
        let count = usize::from(fields.u16()?);
        if count > LINKS_MAX {
            return None;
        }
        let links = (0..count).map(|_| fields.link()).collect::<Option<_>>()?;
        Some(Self {
            role,
            is_ready: flags & 1 != 0,
            is_in_maintenance: flags & 2 != 0,
            is_eligible: flags & 4 != 0,
            priority,
            base,
            successor: (successor != NOBODY).then_some(NodeId(successor)),
            term,
            last_active,
            deductions,
            interval: Duration::from_millis(u64::from(interval) * 10),
            start,
            round,
            uptime,
            sessions,
            needed,
            held,
            digests,
            name,
            program,
            links,
        })
    }
}

impl Fields<'_> {
    fn text(&mut self) -> Option<String> {
        let [len] = self.array()?;
        let (text, rest) = self.0.split_at_checked(usize::from(len)).filter(|_| usize::from(len) <= TEXT_MAX)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn link(&mut self) -> Option<LinkState> {
        let name = self.u32()?;
        let [state, hears] = self.array()?;
        let bit = |bit: u8| state & 1 << bit != 0;
        Some(LinkState { name, has_carrier: bit(0), is_alive: bit(1), is_tracked: bit(2), hears })
    }
}

#[cfg(test)]
mod tests;
