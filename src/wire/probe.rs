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
//!  number of notes, then for each: digest of the firewall's name, time (64 bits each), who, why (length byte and text each)
//! ```
//!
//! The authentication is a digest of everything after it, keyed by the group's seed. A sender with another seed, or
//! none, is answered like any other, but its content is not trusted.
//!
//! The part with the notes is only there if there are any, and is sent only to a peer that supports notes: older
//! engines take a payload that continues after its firewalls for a malformed one. A peer announces that it supports
//! notes by an extra entry in its list of firewalls. The name of that entry is the digest of a text that no firewall
//! can have as its name, so that older engines skip it like every firewall that they do not have.

/// The length of the longest payload in bytes: 64 firewalls, the longest names, and notes. With the headers of IPv6 and
/// of ICMPv6, UDP or TCP it fits the minimum IPv6 MTU (1280 bytes, RFC 8200 section 5).
pub const PAYLOAD_MAX: usize = HEADER_LEN + 3 * (1 + NAME_MAX) + 1 + FIREWALLS_MAX * FIREWALL_LEN + NOTES_MAX;
/// The longest name in bytes.
pub const NAME_MAX: usize = 63;
/// The largest number of firewalls in one payload.
pub const FIREWALLS_MAX: usize = 64;
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
const VERSION: u8 = 1;
/// Length of magic, version and authentication, which the authentication does not cover.
const PREFIX_LEN: usize = 4 + 1 + 8;
const HEADER_LEN: usize = PREFIX_LEN + 4 * 8;
const FIREWALL_LEN: usize = 8 + 1 + 1;

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
    #[error("probe format {0}, this engine reads format 1")]
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
    /// Names are cut to [`NAME_MAX`] bytes and the list of firewalls to [`FIREWALLS_MAX`]. A full list has no room for
    /// the entry that announces that the sender supports notes. The texts of notes are cut to [`USER_MAX`] and
    /// [`REASON_MAX`] bytes; notes beyond [`Probe::notes_that_fit`] are left out.
    pub fn encode(&self, authenticate: impl Fn(&[u8]) -> u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAYLOAD_MAX);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
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
        if version != VERSION {
            return Err(InvalidProbe::Version(version));
        }
        let authentication = reader.number().ok_or(InvalidProbe::Malformed)?;
        if reader.bytes.len() > PAYLOAD_MAX {
            return Err(InvalidProbe::Malformed);
        }
        if authenticate(reader.bytes) != authentication {
            return Err(InvalidProbe::Unauthentic);
        }
        let mut probe = reader.probe().ok_or(InvalidProbe::Malformed)?;
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
    fn probe(&mut self) -> Option<Probe> {
        let (epoch, sequence, nonce, digest) = (self.number()?, self.number()?, self.number()?, self.number()?);
        let (engine, version, group) = (self.text(NAME_MAX)?, self.text(NAME_MAX)?, self.text(NAME_MAX)?);
        let [count] = self.array()?;
        if usize::from(count) > FIREWALLS_MAX {
            return None;
        }
        let firewalls = (0..count).map(|_| self.firewall()).collect::<Option<_>>()?;
        let notes = match self.array() {
            Some([count]) => (0..count).map(|_| self.note()).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        Some(Probe { epoch, sequence, nonce, digest, engine, version, group, firewalls, supports_notes: false, notes })
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A stand-in for a message authentication code, to which every byte and its place count.
    fn keyed(key: u64) -> impl Fn(&[u8]) -> u64 {
        move |bytes| {
            bytes.iter().fold(key, |sum, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte) ^ (sum >> 7))
        }
    }

    fn probe(firewalls: usize) -> Probe {
        let seen = FirewallReport { name: 77, verdict: ReportedPathState::Down, admin: WireAdminState::Drain };
        Probe {
            epoch: 1,
            sequence: u64::MAX,
            nonce: 3,
            digest: 4,
            engine: "outer".to_owned(),
            version: "0.1.0".to_owned(),
            group: "perimeter".to_owned(),
            firewalls: vec![seen; firewalls],
            supports_notes: firewalls < FIREWALLS_MAX,
            notes: Vec::new(),
        }
    }

    fn note(reason: &str) -> AdminNote {
        AdminNote { name: 77, at: 1_795_258_800, by: "root (uid 0)".to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn what_was_encoded_is_read_back_within_the_bound() {
        for firewalls in [0, 1, 2, FIREWALLS_MAX] {
            let bytes = probe(firewalls).encode(keyed(5));
            assert!(is_probe(&bytes) && bytes.len() <= PAYLOAD_MAX);
            assert_eq!(Probe::decode(&bytes, keyed(5)), Ok(probe(firewalls)));
        }
        let notes = vec![AdminNote { by: "b".repeat(200), ..note(&"r".repeat(500)) }; 2];
        let long =
            Probe { engine: "x".repeat(NAME_MAX), version: "y".repeat(200), group: "z".repeat(63), notes, ..probe(99) };
        assert_eq!(long.encode(keyed(5)).len(), PAYLOAD_MAX);
        const { assert!(40 + 20 + PAYLOAD_MAX <= 1280, "IPv6, TCP, and the smallest MTU") };
    }

    #[test]
    fn notes_are_read_back_as_many_as_fit_and_cut_between_letters() {
        let told = Probe { notes: vec![note("upgrade"), note("disk")], ..probe(2) };
        assert_eq!(Probe::decode(&told.encode(keyed(5)), keyed(5)), Ok(told));

        let many = Probe { notes: vec![note("a few words of a reason"); 20], ..probe(2) };
        let read = Probe::decode(&many.encode(keyed(5)), keyed(5)).unwrap();
        assert_eq!(read.notes.len(), Probe::notes_that_fit(&many.notes));
        assert!((2..20).contains(&read.notes.len()), "{}", read.notes.len());

        let accents = Probe { notes: vec![note(&"é".repeat(200)), note("next")], ..probe(2) };
        let read = Probe::decode(&accents.encode(keyed(5)), keyed(5)).unwrap();
        assert_eq!((read.notes.len(), read.notes[0].reason.as_str()), (2, "é".repeat(REASON_MAX / 2).as_str()));
    }

    /// An engine without notes reads as many firewalls as the count says, skips those that it does not have, and takes
    /// everything that follows for a malformed payload.
    #[test]
    fn without_notes_a_payload_is_one_of_before_with_one_firewall_more() {
        let bytes = probe(2).encode(keyed(5));
        let count = HEADER_LEN + 3 + "outer".len() + "0.1.0".len() + "perimeter".len();
        assert_eq!((bytes[count], bytes.len()), (3, count + 1 + 3 * FIREWALL_LEN));
        let silent = Probe { supports_notes: false, ..probe(2) }.encode(keyed(5));
        assert_eq!((silent[count], silent.len()), (2, count + 1 + 2 * FIREWALL_LEN));
        assert_eq!(Probe::decode(&silent, keyed(5)), Ok(Probe { supports_notes: false, ..probe(2) }));
    }

    #[test]
    fn another_seed_is_told_from_another_program_and_another_version() {
        let mut bytes = probe(2).encode(keyed(5));
        assert_eq!(Probe::decode(&bytes, keyed(6)), Err(InvalidProbe::Unauthentic));
        bytes[4] = 2;
        assert_eq!(Probe::decode(&bytes, keyed(5)), Err(InvalidProbe::Version(2)));
        assert_eq!(Probe::decode(b"\x08\x09\x0a\x0b pings of others", keyed(5)), Err(InvalidProbe::NotAProbe));
        assert_eq!(Probe::decode(b"", keyed(5)), Err(InvalidProbe::NotAProbe));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let good = Probe { notes: vec![note("disk")], ..probe(2) }.encode(keyed(5));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Probe::decode(&bytes, keyed(5)).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Probe::decode(&good[..len], keyed(5)).is_err(), "cut to {len}");
        }
        let longer = [good.as_slice(), b"x"].concat();
        assert!(Probe::decode(&longer, keyed(5)).is_err());
    }

    proptest! {
        #[test]
        fn no_authentic_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = [&MAGIC[..], &[VERSION]].concat();
            bytes.extend_from_slice(&keyed(5)(&body).to_be_bytes());
            bytes.extend_from_slice(&body);
            let _ = Probe::decode(&bytes, keyed(5));
        }
    }
}
