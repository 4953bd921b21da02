//! Two tables in two programs: what one has, the other gets, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::giver::NO_SLOT;
use super::*;
use crate::engine::view::PersistedServer;
use crate::flow::{CanonicalKey, Endpoint, FlowKey};
use crate::ha::CopyHost;
use crate::ha::records::{NamedKind, PinRecord};
use crate::id::{FirewallId, PathSetId, ServerId, ServiceId};
use crate::path::pinning::{Pin, PinState, PinnedBy};
use crate::path::testing::group;
use crate::path::{FirewallGroup, PathSet};
use crate::random::SplitMix64;
use crate::session::{
    ConversationState, EndReason, OpenResult, Placement, Removed, Session, SessionTable, SessionWorker, TcpState,
    Timeouts,
};
use crate::time::{Duration, Instant};
use crate::wire::Family;

const NOW: Instant = Instant::from_millis(1_000_000);

/// An engine whose numbers are all higher by `offset` than those of another one.
struct Host {
    offset: u16,
    group: FirewallGroup,
    set: PathSet,
    /// Opened and not ended.
    live: i64,
}

impl Host {
    fn new(offset: u16) -> Self {
        let (group, set) = group(offset, ["fw0", "fw1", "fw2", "fw3"]);
        Self { offset, group, set, live: 0 }
    }
}

impl CopyHost for Host {
    fn generation(&self) -> u64 {
        0
    }
    fn selection(&self) -> u64 {
        0
    }
    fn needs_copy(&self, _: &CanonicalKey, _: &Session, _: Option<&Placement>, _: Instant) -> bool {
        false
    }
    fn name(&self, kind: NamedKind, number: u16) -> Option<String> {
        Some(format!("{kind:?} {}", number.checked_sub(self.offset)?))
    }
    fn number(&self, kind: NamedKind, name: &str) -> Option<u16> {
        let number: u16 = name.strip_prefix(&format!("{kind:?} "))?.parse().ok()?;
        (number < 100).then_some(number + self.offset)
    }
    fn pin(&self, record: &PinRecord) -> Option<Pin> {
        let PinRecord { set, firewall, state, pinned_by, rotations, leader_moves } = *record;
        let mut pin = Pin::copied(set, firewall, state, pinned_by, &self.group, &self.set);
        (pin.rotations, pin.leader_moves) = (rotations, leader_moves);
        Some(pin)
    }
    fn server_failures(&self, _: ServiceId, _: ServerId, _: Family) -> Option<u32> {
        Some(0)
    }
    fn opened(&mut self, _: &CanonicalKey, _: &Session, _: Option<&Placement>, _: Instant) {
        self.live += 1;
    }
    fn renewed(&mut self, _: &Session, _: &Session, _: Option<&Placement>) {}
    fn ended(&mut self, _: &Removed, _: Option<EndReason>, _: Instant) {
        self.live -= 1;
    }
}

struct Program {
    host: Host,
    table: Arc<SessionTable>,
    workers: Vec<SessionWorker>,
}

impl Program {
    fn new(offset: u16, capacity: usize, workers: usize) -> Self {
        let (table, workers) = SessionTable::new(capacity, workers, Timeouts::default(), [1, 2, 3, offset.into()]);
        Self { host: Host::new(offset), table, workers }
    }

    /// A packet of a flow at a server, or without one: it opens a session, or changes one.
    fn packet(&mut self, number: u64, server: Option<u16>, now: Instant) {
        let (outside, inside) = flow(number);
        let (key, direction) = outside.canonical();
        if let Some(id) = self.table.find_by_direction(&key, direction) {
            self.table.update(id, |session| {
                session.last_seen = now;
                session.packets += 1;
                session.bytes += 100;
                session.state = ConversationState::Tcp(TcpState::Established);
            });
            return;
        }
        let offset = self.host.offset;
        let placement = server.map(|server| Placement {
            service: ServiceId(offset + 1),
            server: ServerId(offset + server),
            server_failures: 0,
            inside: Some(inside),
        });
        let mut session = Session::new(&key, direction, now);
        session.toward_low = self.host.pin(&PinRecord {
            set: PathSetId(offset),
            firewall: FirewallId(offset + (number % 4) as u16),
            state: PinState::Tentative,
            pinned_by: PinnedBy::Learned,
            rotations: 1,
            leader_moves: 2,
        });
        let worker = &mut self.workers[0];
        let (opened, _) = worker.open(&key, placement, session, false, |_, _| false, now);
        assert!(matches!(opened, OpenResult::Inserted(_) | OpenResult::Full | OpenResult::Conflict), "{opened:?}");
    }

    fn end(&mut self, number: u64) {
        let (key, direction) = flow(number).0.canonical();
        if let Some(id) = self.table.find_by_direction(&key, direction) {
            self.workers[0].close(id);
        }
    }

    /// All sessions, in words that are the same in both programs.
    fn all(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let offset = self.host.offset;
        self.table.for_each(|key, session, placement| {
            let place = placement.map(|place| (place.service.0 - offset, place.server.0 - offset, place.inside));
            let pin =
                session.toward_low.map(|pin| (pin.firewall.0 - offset, pin.state, pin.rotations, pin.leader_moves));
            let idle = NOW.since(session.last_seen).as_millis();
            let text = format!("{:?} {place:?} {pin:?} {} {} {idle}", session.state, session.packets, session.bytes);
            assert!(all.insert(format!("{key:?} {:?}", session.original_direction), text).is_none());
            true
        });
        all
    }

    fn take(&mut self, taker: &mut Taker, bytes: &[u8]) -> Result<(), Unreadable> {
        let mut workers: Vec<_> = self.workers.iter_mut().collect();
        taker.apply(bytes, &mut workers, &mut self.host, NOW)
    }
}

/// A flow, and what a translation makes of it: some flows have the same one, so that only one of them has a session.
fn flow(number: u64) -> (FlowKey, FlowKey) {
    let end = |address: [u8; 4], port: u16| Endpoint { address: address.into(), port };
    let client = end([198, 51, 100, (number % 7) as u8], 1024 + (number / 7) as u16);
    let inside = end([10, 0, 0, 1], 2000 + (number % 50) as u16);
    let of = |source, destination| FlowKey { protocol: 6, source, destination };
    (of(client, end([203, 0, 113, 80], 80)), of(inside, end([10, 0, 1, 1], 80)))
}

fn pass(giver: &mut Giver, taker: &mut Taker, old: &Program, new: &mut Program) -> usize {
    loop {
        let step = giver.step(&old.table, &old.host, NOW);
        new.take(taker, &step.bytes).unwrap();
        if let Some(told) = step.passed {
            return told;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn after_the_last_pass_the_new_table_is_the_old_one(seed: u64, rounds in 1..6_u64, workers in 1..4_usize) {
        let (mut old, mut new) = (Program::new(0, 512, 1), Program::new(7, 1024, workers));
        let (mut giver, mut taker) = (Giver::default(), Taker::default());
        let mut random = SplitMix64::new(seed);
        for _ in 0..rounds {
            for _ in 0..random.next_u64() % 400 {
                let (what, number) = (random.next_u64() % 4, random.next_u64() % 120);
                match what {
                    0 => old.end(number),
                    _ => old.packet(number, (number % 3 > 0).then_some((number % 5) as u16), NOW),
                }
            }
            pass(&mut giver, &mut taker, &old, &mut new);
        }

        prop_assert_eq!(new.all(), old.all());
        prop_assert_eq!((new.host.live as usize, taker.taken().sessions), (new.table.len(), new.table.len()));
        prop_assert_eq!(pass(&mut giver, &mut taker, &old, &mut new), 0, "nothing has changed since");
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_or_harmless(seed: u64, at: prop::sample::Index, value: u8) {
        let (mut old, mut new) = (Program::new(0, 64, 1), Program::new(7, 64, 1));
        (0..20).for_each(|number| old.packet(seed % 1000 + number, Some(1), NOW));
        let whole = Giver::default().step(&old.table, &old.host, NOW).bytes;
        let mut changed = whole.clone();
        changed[at.index(whole.len())] = value;
        let _ = new.take(&mut Taker::default(), &changed);
        prop_assert!(new.table.len() <= 20);
    }
}

#[test]
fn a_part_of_what_is_told_is_an_error_at_every_byte_that_is_no_border() {
    let mut old = Program::new(0, 64, 1);
    (0..4).for_each(|number| old.packet(number, Some(1), NOW));
    let whole = Giver::default().step(&old.table, &old.host, NOW).bytes;
    let mut borders = vec![0];
    let mut at = 0;
    while at < whole.len() {
        at += 6 + usize::from(u16::from_be_bytes([whole[at + 4], whole[at + 5]]));
        borders.push(at);
    }
    assert_eq!(
        borders.len(),
        1 + 4 + (3 + 4),
        "the beginning, four sessions, and the names of a set, a service, a server and four firewalls"
    );
    for cut in 0..whole.len() {
        let mut new = Program::new(7, 64, 1);
        let outcome = new.take(&mut Taker::default(), &whole[..cut]);
        assert_eq!(outcome.is_ok(), borders.contains(&cut), "cut at byte {cut}: {outcome:?}");
    }
}

/// The other table may have any number of slots, and takes no memory here.
#[test]
fn a_session_may_come_from_the_last_of_all_slots() {
    let (mut old, mut new) = (Program::new(0, 64, 1), Program::new(7, 64, 1));
    old.packet(1, None, NOW);
    let mut told = Giver::default().step(&old.table, &old.host, NOW).bytes;
    let mut at = 0;
    while at < told.len() {
        let length = usize::from(u16::from_be_bytes([told[at + 4], told[at + 5]]));
        if told[at..at + 4] != NO_SLOT.to_be_bytes() {
            told[at..at + 4].copy_from_slice(&(NO_SLOT - 1).to_be_bytes());
        }
        at += 6 + length;
    }
    new.take(&mut Taker::default(), &told).unwrap();
    assert_eq!(new.all(), old.all());
}

#[test]
fn only_what_changed_is_told_again() {
    let (mut old, mut new) = (Program::new(0, 512, 1), Program::new(7, 512, 2));
    let (mut giver, mut taker) = (Giver::default(), Taker::default());
    (0..100).for_each(|number| old.packet(number, None, NOW));
    assert_eq!(pass(&mut giver, &mut taker, &old, &mut new), 100);
    old.packet(7, None, NOW);
    old.end(8);
    old.packet(500, None, NOW);
    assert!((2..=3).contains(&pass(&mut giver, &mut taker, &old, &mut new)), "one in the place of another counts once");
    assert_eq!(new.all(), old.all());
    let idle = new.workers[1].expire(NOW + Duration::from_secs(1_000_000), 512, |_, _| {});
    assert!(idle > 0, "each worker has its part, and expires it");
}

#[test]
fn a_table_without_room_and_names_that_nobody_knows_are_counted() {
    let (mut old, mut new) = (Program::new(0, 512, 1), Program::new(7, 16, 1));
    (0..14).for_each(|number| old.packet(number, None, NOW));
    old.packet(20, Some(100), NOW);
    let mut taker = Taker::default();
    pass(&mut Giver::default(), &mut taker, &old, &mut new);
    assert_eq!(taker.taken(), Taken { sessions: 14, refused: 0, unknown: 1 });

    (30..130).for_each(|number| old.packet(number, None, NOW));
    let mut taker = Taker::default();
    let mut new = Program::new(7, 16, 1);
    pass(&mut Giver::default(), &mut taker, &old, &mut new);
    assert!(new.table.len() <= 16 && taker.taken().sessions <= 16, "{:?}", taker.taken());
}

fn state() -> State {
    State {
        overrides: Vec::new(),
        servers: [PersistedServer {
            server: "web/s1".into(),
            family: Family::V4,
            address: [10, 0, 0, 1].into(),
            port: 80,
        }]
        .into(),
        paths: vec![InheritedPath { firewall: "p/fw1".into(), peer: "inner".into(), family: Family::V6, up: true }],
        neighbors: vec![InheritedNeighbor { link: "fw".into(), address: [10, 0, 0, 9].into(), mac: [2; 6] }],
    }
}

fn messages() -> Vec<Message> {
    let hello = Hello {
        format: FORMAT,
        engine: "outer".into(),
        version: "1.2.3".into(),
        descriptors: vec!["control".into()],
        raised: vec![7],
    };
    let client =
        StickyClient { service: "web".into(), client: [198, 51, 100, 0].into(), server: "s1".into(), idle_ms: 5 };
    vec![
        Message::Hello(hello),
        Message::State(Box::new(state())),
        Message::Clients(vec![client]),
        Message::Sessions(NO_SLOT.to_be_bytes().to_vec()),
        Message::Passed,
        Message::Opened,
        Message::Handover { moment: u64::MAX - 1 },
        Message::Taken,
        Message::Go,
        Message::Gone,
        Message::Abort("too late".into()),
    ]
}

fn decode(bytes: &[u8]) -> Result<Message, Unreadable> {
    let (header, body) = bytes.split_first_chunk::<HEADER>().expect("a header");
    let header = Header::decode(*header)?;
    assert!(body.len() <= header.length);
    Message::decode(header, body.to_vec())
}

#[test]
fn every_message_is_read_as_it_was_said_and_none_that_is_cut() {
    for message in messages() {
        let bytes = message.encode();
        assert_eq!(decode(&bytes).as_ref(), Ok(&message));
        // Sessions are checked when they are applied, and a reason is any text.
        if matches!(message, Message::Sessions(_) | Message::Abort(_)) {
            continue;
        }
        for cut in HEADER..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "{message:?} cut at byte {cut}");
        }
        let mut longer = [&bytes[..], b"x"].concat();
        let length = u32::try_from(longer.len() - HEADER).expect("is short");
        longer[..4].copy_from_slice(&length.to_be_bytes());
        assert!(decode(&longer).is_err(), "{message:?} with one byte more");
    }
}

#[test]
fn what_another_version_says_is_refused_in_words() {
    let unknown = decode(&[0, 0, 0, 0, 99]).unwrap_err();
    assert_eq!(unknown, Unreadable::Unknown(99));
    assert_eq!(unknown.to_string(), "a message of kind 99, which this version does not know");
    assert!(matches!(Header::decode([0xff, 0xff, 0xff, 0xff, 1]), Err(Unreadable::TooLong(_))));
    // What a later version adds to what it says of itself does no harm: its format decides.
    let later = br#"{"format": 2, "engine": "outer", "version": "9", "speaks": "more"}"#;
    let bytes = [&(later.len() as u32).to_be_bytes()[..], &[1], later].concat();
    assert!(matches!(decode(&bytes), Ok(Message::Hello(Hello { format: 2, .. }))));
}
