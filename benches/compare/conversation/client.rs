//! The clients: a fixed number of conversations at a time, each followed by the next one from another port.

use std::net::{Ipv4Addr, SocketAddrV4};

use fwlb::time::{Duration, Instant};
use fwlb::wire::frame::tcp_flags::{ACK, FIN, PSH, RST, SYN};

use super::segment::Segment;
use super::{REQUEST, RESPONSE};

/// The address of the first client. Every client uses the ports from [`FIRST_PORT`] on, so that a pair of address and
/// port is used again only after 16 million conversations.
const FIRST_HOST: u32 = u32::from_be_bytes([100, 64, 0, 0]);
const HOSTS: u32 = 256;
const FIRST_PORT: u16 = 1024;
const PORTS: u32 = 64_000;
const NUMBERS: u32 = HOSTS * PORTS;
/// How long an answer may take before the last segment is sent again: at least as long as kernels wait.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long an acknowledgement waits for data to go with (RFC 9293 section 3.8.6.3).
const DELAY: Duration = Duration::from_millis(40);
/// How often a segment is sent before the conversation is given up.
const TRIES: u8 = 8;

/// How conversations ended, and what happened in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// The whole page arrived, and both FINs were acknowledged.
    pub completed: u64,
    /// Ended by a reset.
    pub reset: u64,
    /// Ended because nobody answered.
    pub given_up: u64,
    /// Ended with another page than the server's.
    pub wrong: u64,
    /// Segments that were retransmitted.
    pub repeated: u64,
    /// Segments that arrived twice, too early, or for no conversation.
    pub strays: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No conversation.
    Silent,
    /// A SYN was sent.
    Opening,
    /// The request was sent, and this many bytes of the page have arrived.
    Asked { received: usize },
    /// The page has arrived, and the client's own FIN was sent.
    Closing,
}

#[derive(Debug, Clone, Copy)]
struct Conversation {
    state: State,
    /// The number that determines its address and port.
    number: u32,
    /// The client's first sequence number.
    first: u32,
    /// The sequence number that is expected next.
    expected: u32,
    /// When the last segment is sent again.
    deadline: Instant,
    tries: u8,
    /// When the received data is acknowledged at the latest.
    acknowledge: Option<Instant>,
}

/// The clients, see the module.
#[derive(Debug)]
pub struct Client {
    server: SocketAddrV4,
    conversations: Vec<Conversation>,
    /// Whether a conversation that ends is followed by another.
    goes_on: bool,
    tally: Tally,
}

impl Client {
    /// This many clients of a server, a power of two up to 16,384; silent until they begin.
    pub fn new(server: SocketAddrV4, at_a_time: u32) -> Self {
        assert!(at_a_time.is_power_of_two() && NUMBERS.is_multiple_of(at_a_time), "{at_a_time} conversations");
        let conversation = |number| Conversation {
            state: State::Silent,
            number,
            first: 0,
            expected: 0,
            deadline: Instant::ZERO,
            tries: 0,
            acknowledge: None,
        };
        Self {
            server,
            conversations: (0..at_a_time).map(conversation).collect(),
            goes_on: false,
            tally: Tally::default(),
        }
    }

    /// What happened so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether no conversation is left.
    pub fn is_silent(&self) -> bool {
        self.conversations.iter().all(|conversation| conversation.state == State::Silent)
    }

    /// Opens every conversation, and another one for each that ends.
    pub fn begin(&mut self, now: Instant, mut say: impl FnMut(&Segment<'_>)) {
        self.goes_on = true;
        for at in 0..self.conversations.len() {
            self.open_next(at, now, &mut say);
        }
    }

    /// Opens no more conversations; those that are open go on to their end.
    pub const fn end(&mut self) {
        self.goes_on = false;
    }

    /// Gives up all conversations that are still open.
    pub fn abandon(&mut self) {
        for conversation in self.conversations.iter_mut().filter(|conversation| conversation.state != State::Silent) {
            conversation.state = State::Silent;
            self.tally.given_up += 1;
        }
    }

    /// Handles a segment from the server.
    pub fn hear(&mut self, segment: &Segment<'_>, now: Instant, mut say: impl FnMut(&Segment<'_>)) {
        let Some(at) = self.whose(segment) else {
            self.tally.strays += 1;
            return;
        };
        let conversation = &mut self.conversations[at];
        if segment.has(RST) && conversation.state != State::Silent {
            self.tally.reset += 1;
            self.open_next(at, now, say);
            return;
        }
        let acknowledges = |number: u32| segment.has(ACK) && segment.acknowledgement == number;
        match conversation.state {
            State::Opening if segment.has(SYN) && acknowledges(conversation.first.wrapping_add(1)) => {
                conversation.expected = segment.end();
                conversation.enter(State::Asked { received: 0 }, now);
                let request = conversation.word(self.server);
                say(&Segment { flags: ACK, payload: &[], ..request });
                say(&request);
            }
            State::Asked { received } if segment.sequence == conversation.expected && !segment.has(SYN) => {
                let until = received + segment.payload.len();
                conversation.expected = segment.end();
                let is_right = RESPONSE.get(received..until) == Some(segment.payload);
                let is_cut = segment.has(FIN) && until < RESPONSE.len();
                if !is_right || is_cut {
                    self.tally.wrong += 1;
                    self.open_next(at, now, say);
                } else if segment.has(FIN) {
                    conversation.enter(State::Closing, now);
                    say(&conversation.word(self.server));
                } else if until > received {
                    conversation.enter(State::Asked { received: until }, now);
                    conversation.acknowledge = Some(now + DELAY);
                }
            }
            State::Closing if acknowledges(conversation.after()) && segment.sequence == conversation.expected => {
                self.tally.completed += 1;
                self.open_next(at, now, say);
            }
            State::Silent | State::Opening => self.tally.strays += 1,
            // A repeated segment, or one that arrives too early, is answered with the expected sequence number (RFC
            // 9293 section 3.10.7.4).
            State::Asked { .. } | State::Closing => {
                self.tally.strays += 1;
                if segment.end() != segment.sequence {
                    say(&conversation.acknowledgement(self.server));
                }
            }
        }
    }

    /// Retransmits what was not answered, and sends acknowledgements that are due. To be called several times within
    /// the shortest of the waits.
    pub fn tick(&mut self, now: Instant, mut say: impl FnMut(&Segment<'_>)) {
        for at in 0..self.conversations.len() {
            let conversation = &mut self.conversations[at];
            if conversation.acknowledge.is_some_and(|due| due <= now) {
                conversation.acknowledge = None;
                say(&conversation.acknowledgement(self.server));
            }
            if conversation.state == State::Silent || conversation.deadline > now {
                continue;
            }
            if conversation.tries == TRIES {
                self.tally.given_up += 1;
                self.open_next(at, now, &mut say);
                continue;
            }
            conversation.tries += 1;
            conversation.deadline = now + PATIENCE;
            self.tally.repeated += 1;
            say(&conversation.word(self.server));
        }
    }

    fn open_next(&mut self, at: usize, now: Instant, mut say: impl FnMut(&Segment<'_>)) {
        let step = self.conversations.len() as u32;
        let conversation = &mut self.conversations[at];
        conversation.state = State::Silent;
        conversation.acknowledge = None;
        if self.goes_on {
            conversation.number = (conversation.number + step) % NUMBERS;
            // Numbers that differ between neighbours, as TCP expects (Knuth's multiplicative hash).
            conversation.first = conversation.number.wrapping_mul(0x9e37_79b1);
            conversation.expected = 0;
            conversation.enter(State::Opening, now);
            say(&conversation.word(self.server));
        }
    }

    /// The conversation to which a segment belongs: its number follows from the client's address and port.
    fn whose(&self, segment: &Segment<'_>) -> Option<usize> {
        let host = u32::from(*segment.to.ip()).checked_sub(FIRST_HOST).filter(|host| *host < HOSTS)?;
        let port = u32::from(segment.to.port().checked_sub(FIRST_PORT)?);
        let number = port * HOSTS + host;
        let at = number as usize % self.conversations.len();
        (self.conversations[at].number == number && segment.from == self.server).then_some(at)
    }
}

impl Conversation {
    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.deadline = now + PATIENCE;
        self.tries = 0;
        self.acknowledge = None;
    }

    /// The sequence number after everything that the client has sent.
    const fn after(&self) -> u32 {
        self.first.wrapping_add(2 + REQUEST.len() as u32)
    }

    /// The segment that the client sends in this state, for the first time or again.
    fn word(&self, server: SocketAddrV4) -> Segment<'static> {
        let (flags, sequence, payload) = match self.state {
            State::Opening => (SYN, self.first, &[][..]),
            State::Asked { received: 0 } => (PSH | ACK, self.first.wrapping_add(1), REQUEST),
            State::Asked { .. } => (ACK, self.after().wrapping_sub(1), &[][..]),
            State::Closing | State::Silent => (FIN | ACK, self.after().wrapping_sub(1), &[][..]),
        };
        let acknowledgement = if self.state == State::Opening { 0 } else { self.expected };
        Segment { from: self.address(), to: server, flags, sequence, acknowledgement, payload }
    }

    /// A bare acknowledgement.
    fn acknowledgement(&self, server: SocketAddrV4) -> Segment<'static> {
        let sequence = match self.state {
            State::Closing => self.after(),
            State::Asked { received: 0 } | State::Opening | State::Silent => self.first.wrapping_add(1),
            State::Asked { .. } => self.after().wrapping_sub(1),
        };
        let (from, acknowledgement) = (self.address(), self.expected);
        Segment { from, to: server, flags: ACK, sequence, acknowledgement, payload: &[] }
    }

    fn address(&self) -> SocketAddrV4 {
        let (host, port) = (self.number % HOSTS, self.number / HOSTS);
        let port = FIRST_PORT + u16::try_from(port).expect("fewer numbers than ports of all hosts");
        SocketAddrV4::new(Ipv4Addr::from(FIRST_HOST + host), port)
    }
}
