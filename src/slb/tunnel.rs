//! What is known of the path of a tunnel to a server: its MTU, and the next IPv4 identification.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::time::{Duration, Instant};
use crate::wire::Family;

/// How long a path MTU is valid before a larger packet is tried again (RFC 1191 section 6.3, RFC 8201 section 4).
pub const MTU_LIFETIME: Duration = Duration::from_secs(600);

/// The path of a tunnel to one server, shared by all workers.
#[derive(Debug, Default)]
pub struct TunnelPathState {
    /// For each family of the outer packet: the path MTU in the upper 16 bits, and the second until which it is valid
    /// in the lower 48 bits. 0 means unknown.
    mtu: [AtomicU64; 2],
    ident: AtomicU16,
}

impl TunnelPathState {
    /// The path MTU in bytes of outer packet; `None` if only the MTU of the link is known.
    pub fn mtu(&self, outer: Family, now: Instant) -> Option<u16> {
        let known = self.mtu[super::family_index(outer)].load(Ordering::Relaxed);
        (known & UNTIL > seconds(now)).then_some((known >> 48) as u16)
    }

    /// Takes a path MTU from an ICMP error. Since that may be forged, no value is accepted that is below what every
    /// path carries (552 bytes as in Linux `min_pmtu`; 1280 bytes by RFC 8201 section 4), and an error never raises the
    /// path MTU.
    pub fn learn(&self, outer: Family, mtu: u16, now: Instant) {
        let mtu = mtu.max(match outer {
            Family::V4 => 552,
            Family::V6 => 1280,
        });
        if self.mtu(outer, now).is_none_or(|known| mtu <= known) {
            let until = (seconds(now) + MTU_LIFETIME.as_secs()) & UNTIL;
            self.mtu[super::family_index(outer)].store(u64::from(mtu) << 48 | until, Ordering::Relaxed);
        }
    }

    /// An identification that the last 65,535 outer packets to this server did not have (RFC 791 section 3.2, RFC
    /// 6864).
    pub fn next_ident(&self) -> u16 {
        self.ident.fetch_add(1, Ordering::Relaxed)
    }
}

const UNTIL: u64 = (1 << 48) - 1;

fn seconds(now: Instant) -> u64 {
    now.since(Instant::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn the_smallest_mtu_that_was_heard_of_holds_for_ten_minutes() {
        let path = TunnelPathState::default();
        assert_eq!(path.mtu(Family::V4, at(1)), None);

        path.learn(Family::V4, 1400, at(1));
        path.learn(Family::V4, 1450, at(2));
        assert_eq!((path.mtu(Family::V4, at(600)), path.mtu(Family::V6, at(2))), (Some(1400), None));
        path.learn(Family::V4, 1300, at(600));
        assert_eq!((path.mtu(Family::V4, at(1199)), path.mtu(Family::V4, at(1200))), (Some(1300), None));

        path.learn(Family::V4, 1450, at(1200));
        assert_eq!(path.mtu(Family::V4, at(1201)), Some(1450));
    }

    #[test]
    fn nobody_makes_a_path_smaller_than_every_path_is() {
        let path = TunnelPathState::default();
        path.learn(Family::V4, 68, at(0));
        path.learn(Family::V6, 68, at(0));
        assert_eq!((path.mtu(Family::V4, at(1)), path.mtu(Family::V6, at(1))), (Some(552), Some(1280)));
    }
}
