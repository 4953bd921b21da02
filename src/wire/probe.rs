//! The payload of path probes: which engine asks, through which firewall, and what it knows about the group's
//! firewalls.
//!
//! All numbers are big endian:
//!
//! ```text
//!  magic "fwlb" | version | authentication (64 bits)
//!  epoch | sequence | nonce (64 bits each) | digest of the group's configuration (64 bits)
//!  engine, program version, group (length byte and text each)
//!  number of firewalls, then for each: digest of its name (64 bits), verdict, administrative state (one byte each)
//!  format 2: role, term (32 bits), priority, VRID, number of nodes, then for each:
//!            digest of its name (64 bits), role, term (32 bits), priority, time since it was heard in ms (16 bits)
//!  number of notes, then for each: digest of the firewall's name, time (64 bits each), who, why (length byte and text each)
//! ```
//!
//! The authentication is a digest of everything after it, keyed by the group's seed. A sender with another seed, or
//! none, is answered like any other, but its content is not trusted.
//!
//! An engine that is a node of a cluster sends format 2, which says what it is there, and which nodes of the receiver's
//! cluster it hears. Every other engine sends format 1, which is the same without that part.
//!
//! The part with the notes is only there if there are any, and is sent only to a peer that supports notes: older
//! engines take a payload that continues after its firewalls for a malformed one. A peer announces that it supports
//! notes by an extra entry in its list of firewalls. The name of that entry is the digest of a text that no firewall
//! can have as its name, so that older engines skip it like every firewall that they do not have.

/// The length of the longest payload in bytes: 64 firewalls, the longest names, 4 nodes, and notes. With the headers of
/// IPv6 and of ICMPv6, UDP or TCP it fits the minimum IPv6 MTU (1280 bytes, RFC 8200 section 5).
pub const PAYLOAD_MAX: usize =
    HEADER_LEN + 3 * (1 + NAME_MAX) + 1 + FIREWALLS_MAX * FIREWALL_LEN + CLUSTER_LEN + NODES_MAX * NODE_LEN + NOTES_MAX;
/// The longest name in bytes.
pub const NAME_MAX: usize = 63;
/// The largest number of firewalls in one payload.
pub const FIREWALLS_MAX: usize = 64;
/// The largest number of nodes of the receiver's cluster in one payload.
pub const NODES_MAX: usize = 4;
/// The longest name of the user who gave an order, in bytes.
pub const USER_MAX: usize = 72;
/// The longest reason of an order, in bytes.
pub const REASON_MAX: usize = 128;
/// Room for the notes of one payload in bytes: the longest note, or several short ones.
const NOTES_MAX: usize = 1 + NOTE_LEN + USER_MAX + REASON_MAX;
/// Length of a note without its texts, in bytes.
const NOTE_LEN: usize = 8 + 8 + 1 + 1;
/// The text whose digest is the name of the extra entry that announces that the sender supports notes.
const NOTES_CAPABILITY: &[u8] = b"the sender reads notes";
/// The first bytes of every payload.
pub const MAGIC: [u8; 4] = *b"fwlb";
/// The format of an engine that is alone on its side.
const ALONE: u8 = 1;
/// The format of a node of a cluster.
const NODE: u8 = 2;
/// Length of magic, version and authentication, which the authentication does not cover.
const PREFIX_LEN: usize = 4 + 1 + 8;
const HEADER_LEN: usize = PREFIX_LEN + 4 * 8;
const FIREWALL_LEN: usize = 8 + 1 + 1;
/// Length of what a node says about its cluster, without the nodes of the receiver's cluster.
const CLUSTER_LEN: usize = 1 + 4 + 1 + 1 + 1;
const NODE_LEN: usize = 8 + 1 + 4 + 1 + 2;

/// What the sender's probes say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedPathState {
    /// The probes have not decided yet.
    Starting,
    /// The path carries packets.
    Up,
    /// The path does not carry packets.
    Down,
}

/// The administrative state of a firewall at the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireAdminState {
    /// The firewall is in service.
    Ready,
    /// The firewall gets no new flows.
    Drain,
    /// The firewall is out of service for maintenance.
    Maint,
}

/// One firewall as the sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirewallReport {
    /// Digest of the firewall's name, keyed by the group's seed.
    pub name: u64,
    /// State of the path between the two engines through this firewall, in the address family of the probe.
    pub verdict: ReportedPathState,
    /// Administrative state of the firewall.
    pub admin: WireAdminState,
}

named_enum! {
    /// The role of a node in its cluster.
    pub enum ReportedRole {
        /// It cannot be active.
        Fault = "fault",
        /// It has just started, or stood still, and listens before it decides.
        Listen = "listen",
        /// It takes over when the active node falls silent.
        Standby = "standby",
        /// It forwards packets for the cluster.
        Active = "active",
        /// It forwards packets until another node has taken the role.
        Leaving = "leaving",
    }
}

impl ReportedRole {
    /// The number on the wire, which is its place in `ALL`.
    const fn number(self) -> u8 {
        match self {
            Self::Fault => 0,
            Self::Listen => 1,
            Self::Standby => 2,
            Self::Active => 3,
            Self::Leaving => 4,
        }
    }
}

/// What a node says about its cluster, and about that of the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReport {
    /// The sender's role.
    pub role: ReportedRole,
    /// The term in which the sender was last active, which grows with every takeover; 0 if it never was.
    pub term: u32,
    /// The sender's priority, less what its own health takes from it.
    pub priority: u8,
    /// The virtual router identifier on the link to the firewalls, 1..=255.
    pub vrid: u8,
    /// The nodes of the receiver's cluster that the sender heard.
    pub nodes: Vec<NodeReport>,
}

/// A node of the receiver's cluster, by the last probe of it that the sender got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeReport {
    /// Digest of the node's name, keyed by the group's seed.
    pub name: u64,
    /// Its role.
    pub role: ReportedRole,
    /// The term in which it was last active.
    pub term: u32,
    /// Its priority.
    pub priority: u8,
    /// How long ago the probe came, in milliseconds; at most 65,535.
    pub heard_ms: u16,
}

/// Why a firewall has its administrative state. If all fields but the name are empty, the state comes from the sender's
/// configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminNote {
    /// Digest of the firewall's name, keyed by the group's seed.
    pub name: u64,
    /// When the state was ordered, in seconds since 1970 by the sender's clock; 0 if that is not known.
    pub at: u64,
    /// The user who ordered it.
    pub by: String,
    /// The reason that the user gave.
    pub reason: String,
}

/// The content of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// A random number that the sender chose when it started; a new one shows that it restarted.
    pub epoch: u64,
    /// Sequence number, which grows with every probe of the sender.
    pub sequence: u64,
    /// A random number that nobody else knows before the probe arrives. An answer that repeats it is not forged
    /// blindly.
    pub nonce: u64,
    /// Digest of the group's configuration, keyed by the group's seed.
    pub digest: u64,
    /// Name of the sending engine.
    pub engine: String,
    /// Program version of the sending engine.
    pub version: String,
    /// Name of the group.
    pub group: String,
    /// The firewalls of the group that lead to the receiver.
    pub firewalls: Vec<FirewallReport>,
    /// What the sender says about clusters; `None` from an engine that is alone on its side.
    pub cluster: Option<ClusterReport>,
    /// Whether the sender supports notes.
    pub supports_notes: bool,
    /// Some of the sender's notes, for a receiver that supports them.
    pub notes: Vec<AdminNote>,
}

/// Why bytes are not an authentic probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProbe {
    /// The bytes are not a probe.
    #[error("not a probe of fwlb")]
    NotAProbe,
    /// The probe has a version of this format that the engine does not read.
    #[error("probe format {0}, this engine reads formats 1 and 2")]
    Version(u8),
    /// The authentication is wrong: the sender has another seed, or the payload was damaged.
    #[error("probe is not authentic: the sender has another seed")]
    Unauthentic,
    /// The authentication is right, but the fields do not fit the payload.
    #[error("probe is malformed")]
    Malformed,
}

/// True if the bytes claim to be a probe. Only claims that come through a configured firewall are answered.
pub fn is_probe(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

impl Probe {
    /// Writes the payload. `authenticate` computes a digest that is keyed by the group's seed.
    ///
    /// Names are cut to [`NAME_MAX`] bytes, the list of firewalls to [`FIREWALLS_MAX`], and that of nodes to
    /// [`NODES_MAX`]. A full list of firewalls has no room for
    /// the entry that announces that the sender supports notes. The texts of notes are cut to [`USER_MAX`] and
    /// [`REASON_MAX`] bytes; notes beyond [`Probe::notes_that_fit`] are left out.
    pub fn encode(&self, authenticate: impl Fn(&[u8]) -> u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAYLOAD_MAX);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(if self.cluster.is_some() { NODE } else { ALONE });
        bytes.extend_from_slice(&[0; 8]);
        for number in [self.epoch, self.sequence, self.nonce, self.digest] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for text in [&self.engine, &self.version, &self.group] {
            write_text(&mut bytes, text, NAME_MAX);
        }
        let firewalls = &self.firewalls[..self.firewalls.len().min(FIREWALLS_MAX)];
        let says_so = self.supports_notes && firewalls.len() < FIREWALLS_MAX;
        let reads_notes = says_so.then(|| FirewallReport {
            name: authenticate(NOTES_CAPABILITY),
            verdict: ReportedPathState::Starting,
            admin: WireAdminState::Ready,
        });
        bytes.push(u8::try_from(firewalls.len() + usize::from(says_so)).expect("cut to FIREWALLS_MAX"));
        for firewall in firewalls.iter().chain(&reads_notes) {
            bytes.extend_from_slice(&firewall.name.to_be_bytes());
            bytes.push(match firewall.verdict {
                ReportedPathState::Starting => 0,
                ReportedPathState::Up => 1,
                ReportedPathState::Down => 2,
            });
            bytes.push(match firewall.admin {
                WireAdminState::Ready => 0,
                WireAdminState::Drain => 1,
                WireAdminState::Maint => 2,
            });
        }
        if let Some(cluster) = &self.cluster {
            cluster.encode(&mut bytes);
        }
        let notes = &self.notes[..Self::notes_that_fit(&self.notes)];
        if !notes.is_empty() {
            bytes.push(u8::try_from(notes.len()).expect("few fit"));
            for note in notes {
                bytes.extend_from_slice(&note.name.to_be_bytes());
                bytes.extend_from_slice(&note.at.to_be_bytes());
                write_text(&mut bytes, &note.by, USER_MAX);
                write_text(&mut bytes, &note.reason, REASON_MAX);
            }
        }
        let authentication = authenticate(&bytes[PREFIX_LEN..]);
        bytes[PREFIX_LEN - 8..PREFIX_LEN].copy_from_slice(&authentication.to_be_bytes());
        bytes
    }

    /// The number of notes, counted from the first, that fit one payload; at least one if there are any.
    pub fn notes_that_fit(notes: &[AdminNote]) -> usize {
        let len = |note: &AdminNote| NOTE_LEN + note.by.len().min(USER_MAX) + note.reason.len().min(REASON_MAX);
        let ends = notes.iter().scan(1, |end, note| {
            *end += len(note);
            Some(*end)
        });
        ends.take_while(|end| *end <= NOTES_MAX).count()
    }

    /// Reads a payload and checks its authentication with `authenticate`, the digest that is keyed by the group's seed.
    pub fn decode(bytes: &[u8], authenticate: impl Fn(&[u8]) -> u64) -> Result<Self, InvalidProbe> {
        let mut reader = Reader { bytes };
        if reader.array::<4>() != Some(MAGIC) {
            return Err(InvalidProbe::NotAProbe);
        }
        let [version] = reader.array().ok_or(InvalidProbe::Malformed)?;
        let is_node = match version {
            ALONE => false,
            NODE => true,
            other => return Err(InvalidProbe::Version(other)),
        };
        let authentication = reader.number().ok_or(InvalidProbe::Malformed)?;
        if reader.bytes.len() > PAYLOAD_MAX {
            return Err(InvalidProbe::Malformed);
        }
        if authenticate(reader.bytes) != authentication {
            return Err(InvalidProbe::Unauthentic);
        }
        let mut probe = reader.probe(is_node).ok_or(InvalidProbe::Malformed)?;
        if !reader.bytes.is_empty() {
            return Err(InvalidProbe::Malformed);
        }
        let reads_notes = authenticate(NOTES_CAPABILITY);
        let firewalls = probe.firewalls.len();
        probe.firewalls.retain(|firewall| firewall.name != reads_notes);
        probe.supports_notes = probe.firewalls.len() < firewalls;
        Ok(probe)
    }
}

impl ClusterReport {
    fn encode(&self, bytes: &mut Vec<u8>) {
        let nodes = &self.nodes[..self.nodes.len().min(NODES_MAX)];
        bytes.push(self.role.number());
        bytes.extend_from_slice(&self.term.to_be_bytes());
        bytes.extend_from_slice(&[self.priority, self.vrid]);
        bytes.push(u8::try_from(nodes.len()).expect("cut to NODES_MAX"));
        for node in nodes {
            bytes.extend_from_slice(&node.name.to_be_bytes());
            bytes.push(node.role.number());
            bytes.extend_from_slice(&node.term.to_be_bytes());
            bytes.push(node.priority);
            bytes.extend_from_slice(&node.heard_ms.to_be_bytes());
        }
    }
}

/// Appends a length byte and the text, cut to at most `max` bytes at a character boundary.
fn write_text(bytes: &mut Vec<u8>, text: &str, max: usize) {
    let text = &text[..text.floor_char_boundary(max)];
    bytes.push(u8::try_from(text.len()).expect("no text is longer than a byte can say"));
    bytes.extend_from_slice(text.as_bytes());
}

/// Reads fields one after the other from the front of the bytes.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn probe(&mut self, is_node: bool) -> Option<Probe> {
        let (epoch, sequence, nonce, digest) = (self.number()?, self.number()?, self.number()?, self.number()?);
        let (engine, version, group) = (self.text(NAME_MAX)?, self.text(NAME_MAX)?, self.text(NAME_MAX)?);
        let [count] = self.array()?;
        if usize::from(count) > FIREWALLS_MAX {
            return None;
        }
        let firewalls = (0..count).map(|_| self.firewall()).collect::<Option<_>>()?;
        let cluster = if is_node { Some(self.cluster()?) } else { None };
        let notes = match self.array() {
            Some([count]) => (0..count).map(|_| self.note()).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        let supports_notes = false;
        Some(Probe {
            epoch,
            sequence,
            nonce,
            digest,
            engine,
            version,
            group,
            firewalls,
            cluster,
            supports_notes,
            notes,
        })
    }

    fn cluster(&mut self) -> Option<ClusterReport> {
        let (role, term) = (self.role()?, self.term()?);
        let [priority, vrid, count] = self.array()?;
        if usize::from(count) > NODES_MAX {
            return None;
        }
        let nodes = (0..count).map(|_| self.node()).collect::<Option<_>>()?;
        Some(ClusterReport { role, term, priority, vrid, nodes })
    }

    fn node(&mut self) -> Option<NodeReport> {
        let (name, role, term) = (self.number()?, self.role()?, self.term()?);
        let [priority] = self.array()?;
        Some(NodeReport { name, role, term, priority, heard_ms: u16::from_be_bytes(self.array()?) })
    }

    fn role(&mut self) -> Option<ReportedRole> {
        let [number] = self.array()?;
        ReportedRole::ALL.get(usize::from(number)).copied()
    }

    fn term(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn note(&mut self) -> Option<AdminNote> {
        Some(AdminNote {
            name: self.number()?,
            at: self.number()?,
            by: self.text(USER_MAX)?,
            reason: self.text(REASON_MAX)?,
        })
    }

    fn firewall(&mut self) -> Option<FirewallReport> {
        let name = self.number()?;
        let [verdict, standing] = self.array()?;
        let verdict = match verdict {
            0 => ReportedPathState::Starting,
            1 => ReportedPathState::Up,
            2 => ReportedPathState::Down,
            _ => return None,
        };
        let standing = match standing {
            0 => WireAdminState::Ready,
            1 => WireAdminState::Drain,
            2 => WireAdminState::Maint,
            _ => return None,
        };
        Some(FirewallReport { name, verdict, admin: standing })
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self, max: usize) -> Option<String> {
        let [len] = self.array()?;
        if usize::from(len) > max {
            return None;
        }
        let (text, rest) = self.bytes.split_at_checked(len.into())?;
        self.bytes = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }
}

#[cfg(test)]
mod tests;
