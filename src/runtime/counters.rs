//! Adds up the counters of all workers, and makes one flat object of them.

use crate::engine::Counters;
use crate::engine::view::CountersView;

/// The sum of the workers' counters. In each of them every received frame has one verdict, and so it is in the sum.
pub(super) fn sum(parts: impl Iterator<Item = Counters>) -> Counters {
    parts.fold(Counters::default(), |mut total, part| {
        total.add(&part);
        total
    })
}

/// Every counter by name: those of the workers, and `others` such as the controller's and the sockets'.
pub(super) fn flat(counters: &Counters, others: impl Iterator<Item = (String, u64)>) -> CountersView {
    let mut view: CountersView = counters.named().map(|(name, value)| (name.to_owned(), value)).collect();
    for (name, value) in others {
        *view.entry(name).or_default() += value;
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::DropReason;
    use crate::id::{FirewallId, LinkId};
    use crate::path::pinning::PinChange;

    #[test]
    fn the_sum_of_workers_is_conserved_and_flat_under_the_names_of_the_contract() {
        let worker = |number: u64| {
            let mut counters = Counters { received: 10 * number, forwarded: 6 * number, ..Counters::default() };
            counters.hairpinned = number;
            counters.punted = number;
            counters.drops[DropReason::NoRoute.index()] = 2 * number;
            counters.pins[PinChange::Followed as usize] = number;
            counters.firewall(FirewallId(number as u16)).sessions = -1;
            counters.link(LinkId(0)).rx_packets = 10 * number;
            counters
        };

        let mut total = sum([1, 2, 3].map(worker).into_iter());

        assert!(total.is_conserved());
        assert_eq!((total.received, total.link(LinkId(0)).rx_packets, total.firewalls.len()), (60, 60, 4));
        let others = [("tx_link_down".to_owned(), 4), ("punt_drop_fragment_timeout".to_owned(), 5)];
        let view = flat(&total, others.into_iter());
        for (name, value) in [
            ("received", 60),
            ("forwarded", 36),
            ("hairpinned", 6),
            ("punted", 6),
            ("dropped", 12),
            ("drop_no_route", 12),
            ("drop_land", 0),
            ("pin_followed", 6),
            ("pin_learned", 0),
            ("tx_link_down", 4),
            ("punt_drop_fragment_timeout", 5),
        ] {
            assert_eq!(view.get(name), Some(&value), "{name}");
        }
        let drops: u64 = view.iter().filter(|(name, _)| name.starts_with("drop_")).map(|(_, value)| value).sum();
        assert_eq!(drops, view["dropped"]);
    }
}
