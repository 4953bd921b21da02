//! The payload of path probes: who asks, through which firewall, and what it believes of the group.
//!
//! All numbers big endian:
//!
//! ```text
//!  magic "fwlb" | version | authentication (64 bits)
//!  epoch | sequence | nonce (64 bits each) | digest of the group's configuration (64 bits)
//!  engine, program version, group (length byte and text each)
//!  number of firewalls, then for each: digest of its name (64 bits), verdict, administrative state (one byte each)
//! ```
//!
//! The authentication is a digest, keyed by the group's seed, of everything behind it. Who has another seed (or none) is
//! answered like anybody, but not believed.

/// The longest payload: a group of 64 firewalls and the longest names.
pub const PAYLOAD_MAX: usize = HEADER + 3 * (1 + NAME_MAX) + 1 + FIREWALLS_MAX * FIREWALL;
/// The longest name in bytes.
pub const NAME_MAX: usize = 63;
/// The most firewalls in one payload.
pub const FIREWALLS_MAX: usize = 64;
const MAGIC: [u8; 4] = *b"fwlb";
const VERSION: u8 = 1;
/// Magic, version, authentication: what the authentication does not cover.
const PREFIX: usize = 4 + 1 + 8;
const HEADER: usize = PREFIX + 4 * 8;
const FIREWALL: usize = 8 + 1 + 1;

/// What the sender's probes say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathVerdict {
    /// Nothing yet.
    Starting,
    /// It carries packets.
    Up,
    /// It does not.
    Down,
}

/// What the sender's operator said of a firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In service.
    Ready,
    /// No new flows.
    Drain,
    /// Out of service.
    Maint,
}

/// One firewall as the sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirewallSeen {
    /// Digest of its name, keyed by the seed.
    pub name: u64,
    /// The path between the two engines through it, in the family of the probe.
    pub verdict: PathVerdict,
    /// Its administrative state.
    pub standing: Standing,
}

/// A probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// A random number that the sender chose when it started.
    pub epoch: u64,
    /// Grows with every probe of the sender.
    pub sequence: u64,
    /// Nobody but the sender knows it before the probe arrives; it tells answers from forgeries.
    pub nonce: u64,
    /// Digest of the group's configuration, keyed by the seed.
    pub digest: u64,
    /// Name of the sender.
    pub engine: String,
    /// Its program version.
    pub version: String,
    /// Name of the group.
    pub group: String,
    /// The firewalls of the group that lead to the receiver.
    pub firewalls: Vec<FirewallSeen>,
}

/// Why bytes are not a probe to believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProbe {
    /// Not a probe at all.
    #[error("not a probe of fwlb")]
    Foreign,
    /// A later version of this format.
    #[error("probe format {0}, this engine reads format 1")]
    Version(u8),
    /// Made by somebody with another seed, or damaged.
    #[error("probe is not authentic: the sender has another seed")]
    Unauthentic,
    /// Authentic, yet its fields do not add up.
    #[error("probe is malformed")]
    Malformed,
}

/// True if the bytes claim to be a probe: who says so is answered only through a configured firewall.
pub fn is_probe(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

impl Probe {
    /// The payload; `authenticate` is the keyed digest of the group's seed. Names are cut to [`NAME_MAX`] bytes, the list
    /// of firewalls to [`FIREWALLS_MAX`].
    pub fn encode(&self, authenticate: impl Fn(&[u8]) -> u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PAYLOAD_MAX);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&[0; 8]);
        for number in [self.epoch, self.sequence, self.nonce, self.digest] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for text in [&self.engine, &self.version, &self.group] {
            let text = &text.as_bytes()[..text.len().min(NAME_MAX)];
            bytes.push(u8::try_from(text.len()).expect("cut to NAME_MAX"));
            bytes.extend_from_slice(text);
        }
        let firewalls = &self.firewalls[..self.firewalls.len().min(FIREWALLS_MAX)];
        bytes.push(u8::try_from(firewalls.len()).expect("cut to FIREWALLS_MAX"));
        for firewall in firewalls {
            bytes.extend_from_slice(&firewall.name.to_be_bytes());
            bytes.push(match firewall.verdict {
                PathVerdict::Starting => 0,
                PathVerdict::Up => 1,
                PathVerdict::Down => 2,
            });
            bytes.push(match firewall.standing {
                Standing::Ready => 0,
                Standing::Drain => 1,
                Standing::Maint => 2,
            });
        }
        let authentication = authenticate(&bytes[PREFIX..]);
        bytes[PREFIX - 8..PREFIX].copy_from_slice(&authentication.to_be_bytes());
        bytes
    }

    /// Reads and authenticates a payload.
    pub fn decode(bytes: &[u8], authenticate: impl Fn(&[u8]) -> u64) -> Result<Self, InvalidProbe> {
        let mut reader = Reader { bytes };
        if reader.array::<4>() != Some(MAGIC) {
            return Err(InvalidProbe::Foreign);
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
        let probe = reader.probe().ok_or(InvalidProbe::Malformed)?;
        if !reader.bytes.is_empty() {
            return Err(InvalidProbe::Malformed);
        }
        Ok(probe)
    }
}

/// Takes fields off the front.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn probe(&mut self) -> Option<Probe> {
        let (epoch, sequence, nonce, digest) = (self.number()?, self.number()?, self.number()?, self.number()?);
        let (engine, version, group) = (self.text()?, self.text()?, self.text()?);
        let [count] = self.array()?;
        if usize::from(count) > FIREWALLS_MAX {
            return None;
        }
        let firewalls = (0..count).map(|_| self.firewall()).collect::<Option<_>>()?;
        Some(Probe { epoch, sequence, nonce, digest, engine, version, group, firewalls })
    }

    fn firewall(&mut self) -> Option<FirewallSeen> {
        let name = self.number()?;
        let [verdict, standing] = self.array()?;
        let verdict = match verdict {
            0 => PathVerdict::Starting,
            1 => PathVerdict::Up,
            2 => PathVerdict::Down,
            _ => return None,
        };
        let standing = match standing {
            0 => Standing::Ready,
            1 => Standing::Drain,
            2 => Standing::Maint,
            _ => return None,
        };
        Some(FirewallSeen { name, verdict, standing })
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let [len] = self.array()?;
        if usize::from(len) > NAME_MAX {
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

    /// Not a MAC, but every byte and its place count.
    fn keyed(key: u64) -> impl Fn(&[u8]) -> u64 {
        move |bytes| {
            bytes.iter().fold(key, |sum, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte) ^ (sum >> 7))
        }
    }

    fn probe(firewalls: usize) -> Probe {
        let seen = FirewallSeen { name: 77, verdict: PathVerdict::Down, standing: Standing::Drain };
        Probe {
            epoch: 1,
            sequence: u64::MAX,
            nonce: 3,
            digest: 4,
            engine: "outer".to_owned(),
            version: "0.1.0".to_owned(),
            group: "perimeter".to_owned(),
            firewalls: vec![seen; firewalls],
        }
    }

    #[test]
    fn what_was_encoded_is_read_back_within_the_bound() {
        for firewalls in [0, 1, 2, FIREWALLS_MAX] {
            let bytes = probe(firewalls).encode(keyed(5));
            assert!(is_probe(&bytes) && bytes.len() <= PAYLOAD_MAX);
            assert_eq!(Probe::decode(&bytes, keyed(5)), Ok(probe(firewalls)));
        }
        let long = Probe { engine: "x".repeat(NAME_MAX), version: "y".repeat(200), group: "z".repeat(63), ..probe(99) };
        assert_eq!(long.encode(keyed(5)).len(), PAYLOAD_MAX);
    }

    #[test]
    fn another_seed_is_told_from_another_program_and_another_version() {
        let mut bytes = probe(2).encode(keyed(5));
        assert_eq!(Probe::decode(&bytes, keyed(6)), Err(InvalidProbe::Unauthentic));
        bytes[4] = 2;
        assert_eq!(Probe::decode(&bytes, keyed(5)), Err(InvalidProbe::Version(2)));
        assert_eq!(Probe::decode(b"\x08\x09\x0a\x0b pings of others", keyed(5)), Err(InvalidProbe::Foreign));
        assert_eq!(Probe::decode(b"", keyed(5)), Err(InvalidProbe::Foreign));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let good = probe(2).encode(keyed(5));
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
