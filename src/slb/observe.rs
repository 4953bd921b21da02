//! Passive checks: what the TCP connections of clients say about a server between its active checks.
//!
//! The workers note each connection that they give to a server, and whether the server answers or refuses it. An answer proves that the
//! server is alive, whoever asked. So only the connections since the last answer count, and one client that nobody answers
//! says nothing about a server that answers others.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::time::{Duration, Instant};

/// The number of connections refused in a row that count against a server.
const REFUSED_MIN: u32 = 3;
/// The number of connections without an answer that count against a server, once the first of them has waited for [`PATIENCE`].
const UNANSWERED_MIN: u32 = 3;
/// How long a server may leave the first of several connections without an answer. A server is near, and its kernel answers a
/// SYN: both take milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// The number of different clients whose connections have to fail before their word is enough.
const CLIENTS_MIN: u32 = 3;

/// The connections to one server in one family since it last answered one.
///
/// Workers and the controller share it without a lock. When they meet, a connection may be counted once too often or not at
/// all, which matters to no verdict.
#[derive(Debug, Default)]
pub struct Observation {
    is_on: AtomicBool,
    opened: AtomicU32,
    refused: AtomicU32,
    /// One bit for each client, at a place by its address: two clients may share a bit, so that the number of bits is a lower
    /// bound of the number of clients.
    clients: AtomicU64,
    /// When the first of them was opened, in nanoseconds.
    since: AtomicU64,
}

/// What speaks against a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complaint {
    /// How the connections failed.
    pub failed: Failed,
    /// Connections of several clients failed, so that one broken client does not explain it.
    pub is_shared: bool,
}

/// How the connections of clients failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The server refused so many in a row (RST in answer to SYN).
    Refused(u32),
    /// So many are without an answer, the first of them for half a second or longer.
    Unanswered(u32),
}

impl Complaint {
    /// The complaint in words, such as `3 connections of clients in a row were refused`.
    pub fn words(&self) -> String {
        match self.failed {
            Failed::Refused(count) => format!("{count} connections of clients in a row were refused"),
            Failed::Unanswered(count) => format!("{count} connections of clients in a row were not answered"),
        }
    }
}

impl Observation {
    /// Switches it on or off; off, it notes nothing.
    pub fn switch(&self, is_on: bool) {
        if self.is_on.swap(is_on, Relaxed) != is_on {
            self.forget();
        }
    }

    /// A worker gave the server a connection of `client`.
    pub fn opened(&self, client: IpAddr, now: Instant) {
        if !self.is_on.load(Relaxed) {
            return;
        }
        if self.opened.fetch_add(1, Relaxed) == 0 {
            self.since.store(now.as_nanos(), Relaxed);
        }
        self.clients.fetch_or(1 << place(client), Relaxed);
    }

    /// The server answered a connection (SYN-ACK).
    pub fn answered(&self) {
        // Most servers answer before the next connection is opened: a read costs the others nothing.
        if self.opened.load(Relaxed) != 0 || self.refused.load(Relaxed) != 0 {
            self.forget();
        }
    }

    /// The server refused a connection.
    pub fn refused(&self) {
        if self.is_on.load(Relaxed) {
            self.refused.fetch_add(1, Relaxed);
        }
    }

    /// Forgets what was noted so far.
    pub fn forget(&self) {
        self.opened.store(0, Relaxed);
        self.refused.store(0, Relaxed);
        self.clients.store(0, Relaxed);
    }

    /// What speaks against the server at `now`, if anything does.
    pub fn complaint(&self, now: Instant) -> Option<Complaint> {
        let (opened, refused) = (self.opened.load(Relaxed), self.refused.load(Relaxed));
        let waited = || now.since(Instant::from_nanos(self.since.load(Relaxed)));
        let failed = if refused >= REFUSED_MIN {
            Failed::Refused(refused)
        } else if opened >= UNANSWERED_MIN && waited() >= PATIENCE {
            Failed::Unanswered(opened)
        } else {
            return None;
        };
        Some(Complaint { failed, is_shared: self.clients.load(Relaxed).count_ones() >= CLIENTS_MIN })
    }
}

/// The bit of a client. The addresses of one IPv6 /64 are one client's.
fn place(client: IpAddr) -> u32 {
    let address = match client {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    };
    // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn client(number: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, number])
    }

    fn switched_on() -> Observation {
        let observation = Observation::default();
        observation.switch(true);
        observation
    }

    #[test]
    fn three_refusals_in_a_row_count_and_an_answer_takes_them_back() {
        let seen = switched_on();
        for number in 0..2 {
            seen.opened(client(number), at(0));
            seen.refused();
        }
        assert_eq!(seen.complaint(at(10)), None);
        seen.answered();
        for number in 0..3 {
            assert_eq!(seen.complaint(at(10)), None);
            seen.opened(client(number), at(10));
            seen.refused();
        }
        let complaint = seen.complaint(at(10)).unwrap();
        assert_eq!(complaint, Complaint { failed: Failed::Refused(3), is_shared: true });
        assert_eq!(complaint.words(), "3 connections of clients in a row were refused");
    }

    #[test]
    fn connections_without_an_answer_count_once_the_first_has_waited_long_enough() {
        let seen = switched_on();
        for number in 0..3 {
            seen.opened(client(number), at(1_000 + 100 * u64::from(number)));
        }
        assert_eq!(seen.complaint(at(1_499)), None);
        assert_eq!(seen.complaint(at(1_500)), Some(Complaint { failed: Failed::Unanswered(3), is_shared: true }));
        seen.answered();
        assert_eq!(seen.complaint(at(9_999)), None);
    }

    #[test]
    fn one_client_is_one_however_often_it_comes() {
        let seen = switched_on();
        for _ in 0..1_000 {
            seen.opened(client(7), at(0));
            seen.refused();
        }
        assert!(!seen.complaint(at(0)).unwrap().is_shared);
        let seen = switched_on();
        for host in 0..1_000_u128 {
            seen.opened(IpAddr::V6((0x2001_0db8_0000_0007_u128 << 64 | host).into()), at(0));
            seen.refused();
        }
        assert!(!seen.complaint(at(0)).unwrap().is_shared, "a /64 is one client");
    }

    #[test]
    fn switched_off_it_notes_nothing() {
        let seen = Observation::default();
        for number in 0..9 {
            seen.opened(client(number), at(0));
            seen.refused();
        }
        assert_eq!(seen.complaint(at(10_000)), None);
    }
}
