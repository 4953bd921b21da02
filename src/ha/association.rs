//! Keys between two nodes, sealed datagrams, and which of them were seen before.
//!
//! Every datagram has an envelope; numbers are big endian:
//!
//! ```text
//!   0 "fwha" | 4 format | 5 kind | 6 key or receiver | 7 sender | 8 association (64 bits) | 16 packet number (64 bits)
//!  24 body, sealed with AES-256-GCM | 16-byte tag
//!     authenticated besides: bytes 0..24; nonce: four zero bytes and the packet number
//! ```
//!
//! Byte 6 of an init says which key seals it, by the first byte of its digest; that of all others is the receiver.
//!
//! Two nodes *associate* before they tell each other anything. Each offers a random *start* in an `init`, sealed with a
//! key that all nodes have, and echoes the start that it heard. A start that is echoed proves that the other node is
//! alive and no recording: of both starts come the keys of the association, one for each direction. A start serves one
//! association only; then the next one is offered, so that nothing that was recorded opens again. The keys in use stay
//! until a packet opens under the new ones.
//!
//! Nothing that cannot be opened is answered or has any effect but a counter.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest;
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::ha::settings::NodeId;
use crate::time::{Duration, Instant};

/// The least length of a key in bytes.
pub const KEY_MIN: usize = 32;
/// Length of the envelope before the body.
pub const HEADER: usize = 24;
/// Length of the tag after the body.
pub const TAG: usize = 16;
/// The longest datagram that is read.
pub const DATAGRAM_MAX: usize = 9000;
const MAGIC: [u8; 4] = *b"fwha";
const FORMAT: u8 = 1;
/// The number of packet numbers below the highest of which it is known whether they came.
const WINDOW: u64 = 1024;
/// For how long inits are sent to a node that sent one.
const ANSWER: Duration = Duration::from_secs(1);

/// The content of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The beginning of an association.
    Init,
    /// A hello.
    Hello,
    /// A part of the session stream.
    Stream,
    /// What was received of the stream.
    Ack,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Init, Self::Hello, Self::Stream, Self::Ack];

    const fn number(self) -> u8 {
        match self {
            Self::Init => 1,
            Self::Hello => 2,
            Self::Stream => 3,
            Self::Ack => 4,
        }
    }
}

/// What a datagram contained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// An init, which is dealt with.
    Init(NodeId),
    /// Anything else: the sender, the kind, and the body.
    Body(NodeId, Kind, Vec<u8>),
    /// Sealed for another node of the cluster, which shares the link: nothing was opened, and nothing is wrong.
    ForAnother,
}

/// Why a datagram has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unopened {
    /// It is too short or too long, or does not begin as a datagram of this protocol.
    #[error("not a datagram of a cluster")]
    Foreign,
    /// The format or kind is not known.
    #[error("a format or kind that this version does not read")]
    Format,
    /// The sender is no other node of this cluster.
    #[error("not from another node")]
    Sender,
    /// Sealed with a key that this node does not have.
    #[error("sealed with another key")]
    Key,
    /// Of an association that is over.
    #[error("of another association")]
    Association,
    /// The seal is broken: damaged or forged.
    #[error("the seal is broken")]
    Seal,
    /// It was seen before, or is too old to know.
    #[error("seen before")]
    Replay,
}

impl Unopened {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Format => "format",
            Self::Sender => "sender",
            Self::Key => "key",
            Self::Association => "association",
            Self::Seal => "seal",
            Self::Replay => "replay",
        }
    }
}

type Start = [u8; 16];

/// The associations of this node with all others.
#[derive(Debug)]
pub struct Associations {
    me: NodeId,
    /// The shared secret, and before it the one that it replaced.
    keys: Vec<SharedKey>,
    random: Start,
    /// How many inits were sealed, for a nonce that never comes twice.
    inits: u32,
    /// After so long without a packet of a node, inits are sent to it.
    silent_after: Duration,
    others: Vec<Other>,
}

#[derive(Debug)]
struct SharedKey {
    /// Its digest. The first byte is in every init and says which of two keys to try; both may begin with it.
    digest: [u8; 32],
    secret: Vec<u8>,
    init: LessSafeKey,
}

#[derive(Debug)]
struct Other {
    node: NodeId,
    /// How many starts were used.
    used: u32,
    /// The start that the other node offered last, and the key of that init.
    heard: Option<(Start, [u8; 32])>,
    /// When its init was heard that asks for an answer.
    asked: Option<Instant>,
    /// When a packet of it was opened.
    opened: Option<Instant>,
    /// Both starts were echoed to this node, but no packet was opened yet.
    candidate: Option<Association>,
    live: Option<Association>,
}

#[derive(Debug)]
struct Association {
    id: u64,
    their_start: Start,
    sealing: LessSafeKey,
    opening: LessSafeKey,
    sent: u64,
    seen: Window,
}

impl Associations {
    /// The associations of node `me` of a cluster of `nodes`. `keys` are the secret and, while it is being replaced,
    /// the one before, each with [`KEY_MIN`] bytes or more; `random` is different at every start.
    pub fn new(me: NodeId, nodes: usize, keys: &[&[u8]], random: [u8; 16], interval: Duration) -> Self {
        let others = (0..nodes).map(|index| NodeId(index as u8)).filter(|node| *node != me);
        let other = |node| Other { node, used: 0, heard: None, asked: None, opened: None, candidate: None, live: None };
        Self {
            me,
            keys: keys.iter().map(|key| SharedKey::new(key)).collect(),
            random,
            inits: 0,
            silent_after: (interval * 8).max(Duration::from_secs(1)),
            others: others.map(other).collect(),
        }
    }

    /// Replaces the secret. Associations go on, and the secret before it is still read.
    pub fn set_key(&mut self, key: &[u8]) {
        if self.keys.first().is_none_or(|current| current.secret != key) {
            self.keys.insert(0, SharedKey::new(key));
            self.keys.truncate(2);
        }
    }

    /// True if a packet of the node was opened under the keys in use.
    pub fn is_live(&self, node: NodeId) -> bool {
        self.others.iter().any(|other| other.node == node && other.live.is_some())
    }

    /// Seals a hello for every other node, to be sent on one path. A node without an association gets an init; one that
    /// is about to get a new association gets the hello under both.
    ///
    /// Every path needs a round of its own: what a node has seen on one path it does not open again on another.
    pub fn round(&mut self, hello: &[u8], now: Instant) -> Vec<(NodeId, Vec<u8>)> {
        let mut datagrams = Vec::new();
        for index in 0..self.others.len() {
            if self.others[index].wants_init(self.silent_after, now) {
                datagrams.extend(self.init(index).map(|init| (self.others[index].node, init)));
            }
            let (me, other) = (self.me, &mut self.others[index]);
            for association in other.candidate.iter_mut().chain(&mut other.live) {
                datagrams.push((other.node, association.seal((me, other.node), Kind::Hello, hello)));
            }
        }
        datagrams
    }

    /// Seals a part of the stream, or an acknowledgement; `None` without an association.
    pub fn seal(&mut self, to: NodeId, kind: Kind, body: &[u8]) -> Option<Vec<u8>> {
        let other = self.others.iter_mut().find(|other| other.node == to)?;
        Some(other.live.as_mut()?.seal((self.me, to), kind, body))
    }

    /// Opens a datagram.
    pub fn open(&mut self, datagram: &[u8], now: Instant) -> Result<Opened, Unopened> {
        let header: &[u8; HEADER] = datagram.first_chunk().ok_or(Unopened::Foreign)?;
        let has_body = datagram.len() >= HEADER + TAG && datagram.len() <= DATAGRAM_MAX;
        if !has_body || header[..4] != MAGIC {
            return Err(Unopened::Foreign);
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.number() == header[5]);
        let kind = kind.filter(|_| header[4] == FORMAT).ok_or(Unopened::Format)?;
        let sender = NodeId(header[7]);
        let index = self.others.iter().position(|other| other.node == sender).ok_or(Unopened::Sender)?;
        match kind {
            Kind::Init => self.open_init(index, header, &datagram[HEADER..], now),
            Kind::Hello | Kind::Stream | Kind::Ack if header[6] != self.me.0 => Ok(Opened::ForAnother),
            Kind::Hello | Kind::Stream | Kind::Ack => {
                let body = self.others[index].open(header, &datagram[HEADER..], now)?;
                Ok(Opened::Body(sender, kind, body))
            }
        }
    }

    /// The start that is offered to a node: different for each node and each association.
    fn offered(&self, index: usize) -> Start {
        let other = &self.others[index];
        let mut start = [0; 16];
        fill(
            &Salt::new(HKDF_SHA256, b"fwha start").extract(&self.random),
            &[&[other.node.0], &other.used.to_be_bytes()],
            &mut start,
        );
        start
    }

    fn init(&mut self, index: usize) -> Option<Vec<u8>> {
        let heard = self.others[index].heard;
        let key_of_theirs = heard.and_then(|(_, digest)| self.keys.iter().find(|key| key.digest == digest));
        let key = key_of_theirs.or(self.keys.first())?;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&[FORMAT, Kind::Init.number(), key.id(), self.me.0]);
        header[8..16].copy_from_slice(&self.random[..8]);
        header[16..20].copy_from_slice(&self.inits.to_be_bytes());
        let mut body = vec![self.others[index].node.0];
        body.extend_from_slice(&self.offered(index));
        body.extend_from_slice(&heard.map_or([0; 16], |(start, _)| start));
        let datagram = seal(&key.init, &header, nonce_of_init(&header), &body);
        self.inits = self.inits.wrapping_add(1);
        Some(datagram)
    }

    fn open_init(
        &mut self,
        index: usize,
        header: &[u8; HEADER],
        sealed: &[u8],
        now: Instant,
    ) -> Result<Opened, Unopened> {
        let mut keys = self.keys.iter().filter(|key| key.id() == header[6]);
        let opened = keys.find_map(|key| Some((key, open(&key.init, header, nonce_of_init(header), sealed)?)));
        let (key, body) = opened.ok_or(Unopened::Key)?;
        let [to, starts @ ..] = &body[..] else { return Err(Unopened::Format) };
        let (theirs, rest) = starts.split_first_chunk::<16>().ok_or(Unopened::Format)?;
        let echoed = rest.first_chunk::<16>().ok_or(Unopened::Format)?;
        if *to != self.me.0 {
            return Ok(Opened::ForAnother);
        }
        let (key_digest, offered) = (key.digest, self.offered(index));
        let other = &self.others[index];
        let node = other.node;
        if other.live.as_ref().is_some_and(|live| live.their_start == *theirs) {
            // An init from before the association that is in use.
            return Ok(Opened::Init(node));
        }
        let is_new = other.candidate.as_ref().is_none_or(|candidate| candidate.their_start != *theirs);
        let candidate =
            (*echoed == offered && is_new).then(|| Association::new(&key.secret, (self.me, offered), (node, *theirs)));
        let other = &mut self.others[index];
        other.heard = Some((*theirs, key_digest));
        other.asked = Some(now);
        other.candidate = candidate.or(other.candidate.take());
        Ok(Opened::Init(node))
    }
}

impl Other {
    fn wants_init(&self, silent_after: Duration, now: Instant) -> bool {
        let asks = self.asked.is_some_and(|asked| now.since(asked) < ANSWER);
        let is_silent = self.opened.is_none_or(|opened| now.since(opened) >= silent_after);
        self.live.is_none() || self.candidate.is_some() || asks || is_silent
    }

    fn open(&mut self, header: &[u8; HEADER], sealed: &[u8], now: Instant) -> Result<Vec<u8>, Unopened> {
        let id = u64::from_be_bytes(*header[8..].first_chunk().expect("the header has 24 bytes"));
        if let Some(candidate) = self.candidate.take_if(|candidate| candidate.id == id) {
            let mut candidate = candidate;
            let body = candidate.open(header, sealed);
            match body {
                Ok(_) => {
                    self.live = Some(candidate);
                    self.used += 1;
                    (self.asked, self.opened) = (None, Some(now));
                }
                Err(_) => self.candidate = Some(candidate),
            }
            return body;
        }
        let live = self.live.as_mut().filter(|live| live.id == id).ok_or(Unopened::Association)?;
        let body = live.open(header, sealed)?;
        self.opened = Some(now);
        Ok(body)
    }
}

impl SharedKey {
    fn new(secret: &[u8]) -> Self {
        let mut init = [0; 32];
        fill(&Salt::new(HKDF_SHA256, &[]).extract(secret), &[b"fwha init"], &mut init);
        let digest = digest::digest(&digest::SHA256, secret);
        let digest = *digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        Self { digest, secret: secret.to_owned(), init: aead(&init) }
    }

    fn id(&self) -> u8 {
        self.digest[0]
    }
}

impl Association {
    /// The keys between this node and another, each with its start.
    fn new(secret: &[u8], (me, mine): (NodeId, Start), (node, theirs): (NodeId, Start)) -> Self {
        let (low, high) = if me < node { (mine, theirs) } else { (theirs, mine) };
        let keys = Salt::new(HKDF_SHA256, &[low, high].concat()).extract(secret);
        let (mut sealing, mut opening, mut id) = ([0; 32], [0; 32], [0; 8]);
        fill(&keys, &[b"fwha", &[me.0, node.0]], &mut sealing);
        fill(&keys, &[b"fwha", &[node.0, me.0]], &mut opening);
        fill(&keys, &[b"fwha id", &[me.min(node).0, me.max(node).0]], &mut id);
        Self {
            id: u64::from_be_bytes(id),
            their_start: theirs,
            sealing: aead(&sealing),
            opening: aead(&opening),
            sent: 0,
            seen: Window::default(),
        }
    }

    fn seal(&mut self, (me, to): (NodeId, NodeId), kind: Kind, body: &[u8]) -> Vec<u8> {
        self.sent += 1;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&[FORMAT, kind.number(), to.0, me.0]);
        header[8..16].copy_from_slice(&self.id.to_be_bytes());
        header[16..].copy_from_slice(&self.sent.to_be_bytes());
        seal(&self.sealing, &header, nonce_of_number(self.sent), body)
    }

    fn open(&mut self, header: &[u8; HEADER], sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let number = u64::from_be_bytes(*header.last_chunk().expect("the header has 24 bytes"));
        if !self.seen.is_new(number) {
            return Err(Unopened::Replay);
        }
        let body = open(&self.opening, header, nonce_of_number(number), sealed).ok_or(Unopened::Seal)?;
        self.seen.insert(number);
        Ok(body)
    }
}

/// The highest packet number that was opened, and which of the [`WINDOW`] up to it were.
#[derive(Debug, Clone, Default)]
struct Window {
    highest: u64,
    seen: [u64; (WINDOW / 64) as usize],
}

impl Window {
    fn is_new(&self, number: u64) -> bool {
        number > self.highest || (self.highest - number < WINDOW && number > 0 && !self.has(number))
    }

    fn has(&self, number: u64) -> bool {
        self.seen[(number % WINDOW / 64) as usize] & 1 << (number % 64) != 0
    }

    fn insert(&mut self, number: u64) {
        if number > self.highest {
            for skipped in self.highest.max(number.saturating_sub(WINDOW)) + 1..number {
                self.seen[(skipped % WINDOW / 64) as usize] &= !(1 << (skipped % 64));
            }
            self.highest = number;
        }
        self.seen[(number % WINDOW / 64) as usize] |= 1 << (number % 64);
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn fill(keys: &ring::hkdf::Prk, info: &[&[u8]], out: &mut [u8]) {
    let expanded = keys.expand(info, Length(out.len())).and_then(|expanded| expanded.fill(out));
    expanded.expect("HKDF-SHA256 gives up to 8160 bytes");
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 has keys of 32 bytes"))
}

fn nonce_of_init(header: &[u8; HEADER]) -> Nonce {
    Nonce::assume_unique_for_key(*header[8..].first_chunk().expect("the header has 24 bytes"))
}

fn nonce_of_number(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn seal(key: &LessSafeKey, header: &[u8; HEADER], nonce: Nonce, body: &[u8]) -> Vec<u8> {
    let mut sealed = body.to_owned();
    key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).expect("bodies are far below 64 GiB");
    [&header[..], &sealed].concat()
}

fn open(key: &LessSafeKey, header: &[u8; HEADER], nonce: Nonce, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_owned();
    let len = key.open_in_place(nonce, Aad::from(header), &mut bytes).ok()?.len();
    bytes.truncate(len);
    Some(bytes)
}

#[cfg(test)]
mod tests;
