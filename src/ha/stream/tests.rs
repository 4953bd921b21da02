use proptest::prelude::*;

use super::*;
use crate::random::SplitMix64;
use crate::time::Instant;

const ID: StreamId = StreamId { origin: 77, run: 1 };

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn at(micros: u64) -> Instant {
    Instant::from_nanos(micros * 1000)
}

/// A way that loses, delays and repeats datagrams.
struct Way {
    random: SplitMix64,
    loss: u64,
    repeats: u64,
    delay_us: u64,
    under_way: Vec<(u64, Vec<u8>)>,
    lost: usize,
}

impl Way {
    fn new(seed: u64, loss: u64, repeats: u64, delay_us: u64) -> Self {
        Self { random: SplitMix64::new(seed), loss, repeats, delay_us, under_way: Vec::new(), lost: 0 }
    }

    fn send(&mut self, datagram: &[u8], now_us: u64) {
        let copies = if self.random.next_u64() % 100 < self.repeats { 2 } else { 1 };
        for _ in 0..copies {
            if self.random.next_u64() % 100 < self.loss {
                self.lost += 1;
            } else {
                let arrives = now_us + 50 + self.random.next_u64() % self.delay_us;
                self.under_way.push((arrives, datagram.to_vec()));
            }
        }
    }

    fn arrivals(&mut self, now_us: u64) -> Vec<Vec<u8>> {
        let mut due: Vec<_> = self.under_way.extract_if(.., |(arrives, _)| *arrives <= now_us).collect();
        due.sort_by_key(|(arrives, _)| *arrives);
        due.into_iter().map(|(_, datagram)| datagram).collect()
    }
}

/// Both ends and the ways between them.
struct Link {
    sender: Sender,
    receiver: Receiver,
    there: Way,
    back: Way,
    now_us: u64,
    given: u64,
    taken: Vec<u64>,
    /// At most so many datagrams are taken from the receiver in a step.
    appetite: usize,
    transmits: usize,
}

impl Link {
    fn new(there: Way, back: Way) -> Self {
        let sender = Sender::new(ID, Instant::ZERO);
        let (given, taken, now_us, appetite, transmits) = (0, Vec::new(), 0, usize::MAX, 0);
        Self { sender, receiver: Receiver::new(5), there, back, now_us, given, taken, appetite, transmits }
    }

    fn step(&mut self, give_until: u64) {
        self.now_us += 100;
        let now = at(self.now_us);
        while self.given < give_until && self.sender.room() > 0 {
            self.sender.push(self.given.to_be_bytes().to_vec(), now);
            self.given += 1;
        }
        self.sender.handle_timeout(now);
        while let Some(datagram) = self.sender.poll_transmit() {
            self.there.send(&datagram, self.now_us);
            self.transmits += 1;
        }
        for datagram in self.there.arrivals(self.now_us) {
            self.receiver.handle_datagram(&datagram, now);
        }
        for _ in 0..self.appetite {
            let Some(records) = self.receiver.poll_records(now) else { break };
            // An empty one asks for credit.
            self.taken.extend(records.first_chunk().map(|number| u64::from_be_bytes(*number)));
        }
        if let Some(ack) = self.receiver.poll_ack(now) {
            self.back.send(&ack, self.now_us);
        }
        for ack in self.back.arrivals(self.now_us) {
            assert_ne!(self.sender.handle_ack(&ack, now), AckOutcome::ReceiverRestarted);
        }
        assert!(self.sender.kept.len() as u64 <= WINDOW && self.sender.again.len() as u64 <= WINDOW);
        assert!(self.receiver.held.len() + self.receiver.ready.len() <= WINDOW as usize);
    }

    /// Steps until everything has arrived, and returns the time that this took in milliseconds.
    fn run(&mut self, count: u64, patience_ms: u64) -> u64 {
        while (self.taken.len() as u64) < count || !self.sender.is_flushed() {
            self.step(count);
            assert!(self.now_us <= patience_ms * 1000, "{} of {count} after {patience_ms} ms", self.taken.len());
        }
        self.now_us / 1000
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_the_network_does_all_arrives_once_and_in_order(
        seed: u64,
        loss in 0..=30_u64,
        repeats in 0..=30_u64,
        delay_us in 1..5000_u64,
        count in 1..3000_u64,
    ) {
        let mut link = Link::new(Way::new(seed, loss, repeats, delay_us), Way::new(!seed, loss, repeats, delay_us));
        link.run(count, 60_000);
        prop_assert_eq!(link.taken, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn foreign_bytes_do_no_harm(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..40)) {
        let mut link = Link::new(Way::new(1, 0, 0, 100), Way::new(2, 0, 0, 100));
        link.run(10, 1000);
        for bytes in &datagrams {
            let mut ack = Vec::new();
            ID.put(&mut ack);
            ack.extend_from_slice(&5_u64.to_be_bytes());
            ack.extend_from_slice(bytes);
            link.sender.handle_ack(&ack, ms(5));
            link.sender.handle_ack(bytes, ms(5));
            link.receiver.handle_datagram(&[&ID.origin.to_be_bytes()[..], bytes].concat(), ms(5));
        }
        prop_assert!(link.sender.is_flushed() && link.sender.first == 10);
    }
}

#[test]
fn a_third_of_all_lost_costs_time_only() {
    let mut link = Link::new(Way::new(3, 30, 5, 1), Way::new(4, 30, 5, 1));

    let took = link.run(10_000, 10_000);

    assert_eq!(link.taken, (0..10_000).collect::<Vec<_>>());
    assert!(took < 2_000, "{took} ms");
    assert!(link.transmits < 10_000 * 2, "{} datagrams were sent, {} of them lost", link.transmits, link.there.lost);
}

#[test]
fn without_loss_nothing_is_sent_twice() {
    let mut link = Link::new(Way::new(3, 0, 0, 1), Way::new(4, 0, 0, 1));
    link.run(5000, 1000);
    assert_eq!((link.transmits, link.sender.resends()), (5000, 0));
}

#[test]
fn a_slow_receiver_holds_the_sender_back_and_gets_everything() {
    let mut link = Link::new(Way::new(3, 10, 0, 500), Way::new(4, 10, 0, 500));
    link.appetite = 1;
    link.run(3000, 60_000);
    assert_eq!(link.taken, (0..3000).collect::<Vec<_>>());
}

#[test]
fn a_dead_receiver_gets_ever_fewer_datagrams_and_all_once_it_is_back() {
    let mut link = Link::new(Way::new(3, 100, 0, 100), Way::new(4, 0, 0, 100));
    for _ in 0..100_000 {
        link.step(u64::MAX);
    }
    assert_eq!(link.sender.kept.len() as u64, WINDOW);
    assert!(link.transmits < WINDOW as usize + 30 * RESENT_AT_ONCE, "{} in 10 s", link.transmits);
    assert!(link.sender.stalled(at(link.now_us)) > Duration::from_secs(9));

    link.there.loss = 0;
    let (count, from) = (link.given, link.now_us / 1000);
    let took = link.run(count, from + 2000) - from;
    assert!(took < 1500, "{took} ms");
}

#[test]
fn a_lost_offer_of_credit_is_repeated() {
    let mut link = Link::new(Way::new(3, 0, 0, 100), Way::new(4, 0, 0, 100));
    link.appetite = 0;
    for _ in 0..1000 {
        link.step(2000);
    }
    assert_eq!((link.sender.room(), link.sender.next), (0, WINDOW + 1), "it asks");
    (link.appetite, link.back.loss) = (usize::MAX, 100);
    link.step(2000);
    link.back.loss = 0;
    link.run(2000, 5000);
}

#[test]
fn a_new_run_begins_the_stream_again_and_an_old_one_is_over() {
    let mut receiver = Receiver::new(5);
    let datagram = |run, number: u64| {
        let mut bytes = Vec::new();
        StreamId { origin: 7, run }.put(&mut bytes);
        [&bytes[..], &number.to_be_bytes(), b"records"].concat()
    };
    assert!(receiver.handle_datagram(&datagram(1, 0), ms(1)));
    assert!(!receiver.handle_datagram(&datagram(1, 1), ms(1)));
    assert!(receiver.handle_datagram(&datagram(2, 0), ms(1)));
    assert!(!receiver.handle_datagram(&datagram(1, 2), ms(1)));

    assert_eq!(receiver.poll_records(ms(2)), Some(b"records".to_vec()));
    assert_eq!(receiver.poll_records(ms(2)), None);
    assert_eq!(receiver.expected, 1);
}

#[test]
fn a_receiver_that_started_again_is_recognised() {
    let mut sender = Sender::new(ID, ms(0));
    let (mut first, mut second) = (Receiver::new(5), Receiver::new(6));
    sender.push(vec![1], ms(0));
    first.handle_datagram(&sender.poll_transmit().unwrap(), ms(0));
    assert_eq!(sender.handle_ack(&first.poll_ack(ms(1)).unwrap(), ms(1)), AckOutcome::Progress);
    assert!(sender.is_flushed());

    sender.push(vec![2], ms(2));
    second.handle_datagram(&sender.poll_transmit().unwrap(), ms(2));
    assert_eq!(second.poll_records(ms(2)), None);
    assert_eq!(sender.handle_ack(&second.poll_ack(ms(3)).unwrap(), ms(3)), AckOutcome::ReceiverRestarted);
}

#[test]
fn a_receiver_says_since_when_it_is_behind() {
    let mut sender = Sender::new(ID, ms(0));
    let mut receiver = Receiver::new(5);
    (0..3).for_each(|byte| sender.push(vec![byte], ms(0)));
    let datagrams: Vec<_> = std::iter::from_fn(|| sender.poll_transmit()).collect();
    receiver.handle_datagram(&datagrams[0], ms(1));
    receiver.handle_datagram(&datagrams[2], ms(2));
    receiver.poll_records(ms(3));
    assert_eq!((receiver.has_records(), receiver.behind_since()), (false, Some(ms(2))));
    receiver.handle_datagram(&datagrams[1], ms(4));
    while receiver.poll_records(ms(4)).is_some() {}
    assert_eq!(receiver.behind_since(), None);
}
