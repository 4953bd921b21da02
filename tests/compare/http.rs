//! Client and server of the benchmark's HTTP connections, over a simulated wire that loses and duplicates segments.

use std::collections::HashMap;
use std::net::SocketAddrV4;

use fwlb::time::{Duration, Instant};
use fwlb::wire::MacAddr;
use fwlb::wire::emit::MacPair;
use fwlb::wire::frame::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use fwlb::wire::offload::Offload;
use pnet_packet::Packet as _;
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::ipv4::{self, Ipv4Packet};
use pnet_packet::tcp::{self, TcpOptionNumbers, TcpPacket};
use proptest::prelude::*;

use crate::conversation::client::{Client, Tally};
use crate::conversation::segment::{Outbox, Segment};
use crate::conversation::server::{self, Heard};
use crate::conversation::{REQUEST, RESPONSE};

/// A TCP segment that owns its data.
#[derive(Debug, Clone)]
struct Owned {
    segment: Segment<'static>,
    payload: Vec<u8>,
}

impl Owned {
    fn of(segment: &Segment<'_>) -> Self {
        let Segment { from, to, flags, sequence, acknowledgement, payload } = *segment;
        Self {
            segment: Segment { from, to, flags, sequence, acknowledgement, payload: &[] },
            payload: payload.to_vec(),
        }
    }

    fn segment(&self) -> Segment<'_> {
        Segment { payload: &self.payload, ..self.segment }
    }
}

fn server() -> SocketAddrV4 {
    "10.1.255.80:80".parse().unwrap()
}

/// How many segments the wire loses of one conversation, at most. A client repeats a segment eight times before it gives
/// up, and each time fails by a loss.
const LOSSES_MAX: u32 = 8;

/// What the simulated wire does to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    IsLost,
    ComesTwice,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::IsLost), 1 => Just(Fate::ComesTwice)]
}

/// The server's page as a proxy's kernel may send it: in two segments, with a separate FIN.
fn in_pieces(segment: &Segment<'static>) -> Vec<Segment<'static>> {
    if segment.payload.is_empty() {
        return vec![*segment];
    }
    let (first, last) = segment.payload.split_at(20);
    let piece = |payload: &'static [u8], after: usize, flags| Segment {
        payload,
        flags,
        sequence: segment.sequence.wrapping_add(after as u32),
        ..*segment
    };
    vec![piece(first, 0, ACK), piece(last, 20, PSH | ACK), piece(&[], segment.payload.len(), FIN | ACK)]
}

/// Lets four clients make requests over the wire for a number of steps of 10 ms, and then finish.
fn talk(fates: &[Fate], pieces: bool) -> Tally {
    let mut fates = fates.iter().copied().chain(std::iter::repeat(Fate::Arrives));
    let mut client = Client::new(server(), 4);
    let (mut up, mut down): (Vec<Owned>, Vec<Owned>) = Default::default();
    let mut losses: HashMap<SocketAddrV4, u32> = HashMap::new();
    let mut put = |wire: &mut Vec<Owned>, segment: &Segment<'_>| {
        let lost = losses.entry(if segment.from == server() { segment.to } else { segment.from }).or_default();
        match fates.next() {
            Some(Fate::IsLost) if *lost < LOSSES_MAX => *lost += 1,
            Some(Fate::ComesTwice) => wire.extend([Owned::of(segment), Owned::of(segment)]),
            Some(Fate::Arrives | Fate::IsLost) | None => wire.push(Owned::of(segment)),
        }
    };
    client.begin(Instant::ZERO, |segment| put(&mut up, segment));
    for step in 1..2000 {
        let now = Instant::ZERO + Duration::from_millis(10 * step);
        for heard in std::mem::take(&mut up) {
            let heard = heard.segment();
            let Some(answer) = server::answer(server::hear(&heard), &heard) else { continue };
            let said = if pieces { in_pieces(&answer) } else { vec![answer] };
            said.iter().for_each(|segment| put(&mut down, segment));
        }
        for heard in std::mem::take(&mut down) {
            client.hear(&heard.segment(), now, |segment| put(&mut up, segment));
        }
        client.tick(now, |segment| put(&mut up, segment));
        if step == 100 {
            client.end();
        }
        if client.is_silent() {
            return client.tally();
        }
    }
    panic!("conversations that do not end: {:?}", client.tally());
}

#[test]
fn on_a_good_wire_every_conversation_is_whole_and_nothing_is_said_twice() {
    for pieces in [false, true] {
        let tally = talk(&[], pieces);

        assert!(tally.completed > 100, "{tally:?}");
        assert_eq!(tally, Tally { completed: tally.completed, ..Tally::default() });
    }
}

proptest! {
    // Pages are sent in one segment here. A proxy's kernel, which sends them in pieces, retransmits a lost one by
    // itself.
    #[test]
    fn what_the_wire_loses_is_said_again_until_the_conversation_is_whole(
        fates in proptest::collection::vec(fate(), 0..400)
    ) {
        let tally = talk(&fates, false);

        prop_assert!(tally.completed >= 4);
        prop_assert_eq!((tally.reset, tally.given_up, tally.wrong), (0, 0, 0));
    }
}

#[test]
fn a_client_says_what_a_kernel_would() {
    let (mut client, mut said) = (Client::new(server(), 1), Vec::new());
    client.begin(Instant::ZERO, |segment| said.push(Owned::of(segment)));
    client.end();
    let mut heard = 0;
    while let Some(word) = said.get(heard).cloned() {
        heard += 1;
        let segment = word.segment();
        if let Some(answer) = server::answer(server::hear(&segment), &segment) {
            client.hear(&answer, Instant::ZERO, |segment| said.push(Owned::of(segment)));
        }
    }

    let flags: Vec<u8> = said.iter().map(|said| said.segment.flags).collect();
    assert_eq!(flags, [SYN, ACK, PSH | ACK, FIN | ACK]);
    assert_eq!(said[2].payload, REQUEST);
    let first = said[0].segment.sequence;
    let numbers: Vec<u32> = said.iter().map(|said| said.segment.sequence.wrapping_sub(first)).collect();
    assert_eq!(numbers, [0, 1, 1, 1 + REQUEST.len() as u32]);
    let heard = said[3].segment.acknowledgement.wrapping_sub(said[1].segment.acknowledgement);
    assert_eq!(heard as usize, RESPONSE.len() + 1, "the page and the FIN are acknowledged");
    assert_eq!(client.tally(), Tally { completed: 1, ..Tally::default() });
}

#[test]
fn a_reset_ends_a_conversation_and_another_port_follows() {
    let (mut client, mut said) = (Client::new(server(), 1), Vec::new());
    client.begin(Instant::ZERO, |segment| said.push(Owned::of(segment)));
    let syn = said[0].segment;
    let reset =
        Segment { from: syn.to, to: syn.from, flags: RST | ACK, sequence: 0, acknowledgement: syn.end(), payload: &[] };

    client.hear(&reset, Instant::ZERO, |segment| said.push(Owned::of(segment)));

    assert_eq!(client.tally(), Tally { reset: 1, ..Tally::default() });
    assert_eq!((said.len(), said[1].segment.flags), (2, SYN));
    assert_ne!(said[1].segment.from, syn.from);
}

#[test]
fn who_does_not_answer_is_given_up_and_a_stranger_is_not_heard() {
    let mut client = Client::new(server(), 1);
    client.begin(Instant::ZERO, |_| {});
    client.end();
    for step in 0..300 {
        client.tick(Instant::from_millis(10 * step), |_| {});
    }
    assert!(client.is_silent());
    assert_eq!((client.tally().given_up, client.tally().repeated), (1, 8));

    let stranger = Segment {
        from: server(),
        to: "100.64.0.7:2000".parse().unwrap(),
        flags: SYN | ACK,
        sequence: 1,
        acknowledgement: 2,
        payload: &[],
    };
    client.hear(&stranger, Instant::ZERO, |segment| panic!("answered {segment:?}"));
    assert_eq!(client.tally().strays, 1);
}

#[test]
fn the_server_answers_a_request_only_to_who_has_heard_its_first_number() {
    let client = "100.64.0.1:2000".parse().unwrap();
    let syn = Segment { from: client, to: server(), flags: SYN, sequence: 7, acknowledgement: 0, payload: &[] };
    let greeting = server::answer(server::hear(&syn), &syn).unwrap();
    assert_eq!((greeting.flags, greeting.acknowledgement), (SYN | ACK, 8));
    let request = Segment {
        flags: PSH | ACK,
        sequence: 8,
        acknowledgement: greeting.sequence.wrapping_add(1),
        payload: REQUEST,
        ..syn
    };

    assert_eq!(server::hear(&request), Heard::Request);
    let guessed = Segment { acknowledgement: request.acknowledgement.wrapping_add(1), ..request };
    assert_eq!(server::hear(&guessed), Heard::Stray);
    assert_eq!(server::hear(&Segment { payload: &REQUEST[1..], ..request }), Heard::Stray);
    assert_eq!(server::hear(&Segment { flags: RST, payload: &[], ..request }), Heard::Nothing);
}

#[test]
fn a_second_parser_reads_what_the_ends_send() {
    let macs = MacPair { source: MacAddr([2, 0, 0, 0, 0, 1]), destination: MacAddr([2, 0, 0, 0, 0, 2]) };
    let client = "100.64.0.1:2000".parse().unwrap();
    let syn =
        Segment { from: client, to: server(), flags: SYN, sequence: 0xdead_beef, acknowledgement: 0, payload: &[] };
    let page = Segment {
        from: server(),
        to: client,
        flags: PSH | FIN | ACK,
        sequence: 1,
        acknowledgement: 2,
        payload: RESPONSE,
    };
    let mut outbox = Outbox::new(macs);
    outbox.push(&syn);
    outbox.push(&page);

    let frames: Vec<Vec<u8>> = outbox.frames().map(<[u8]>::to_vec).collect();

    for (frame, said) in frames.into_iter().zip([syn, page]) {
        let ethernet = EthernetPacket::new(&frame).unwrap();
        assert_eq!(
            (ethernet.get_source().octets(), ethernet.get_destination().octets()),
            ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        );
        let packet = Ipv4Packet::new(ethernet.payload()).unwrap();
        assert_eq!(packet.get_checksum(), ipv4::checksum(&packet));
        // The shortest frame has padding after the packet.
        let length = usize::from(packet.get_total_length()) - 20;
        let segment = TcpPacket::new(&packet.payload()[..length]).unwrap();
        assert_eq!(
            segment.get_checksum(),
            tcp::ipv4_checksum(&segment, &packet.get_source(), &packet.get_destination())
        );
        assert_eq!(segment.payload(), said.payload);
        let options: Vec<_> = segment.get_options_iter().map(|option| option.get_number()).collect();
        assert_eq!(options.contains(&TcpOptionNumbers::MSS), said.flags & SYN != 0);
        assert_eq!(Segment::read(&mut frame.clone(), &Offload::NONE), Some(said));
    }
}
