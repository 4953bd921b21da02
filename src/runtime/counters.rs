//! Counters of all workers as one flat object (INTERFACE.md section 3).

use crate::engine::view::CountersView;
use crate::engine::{Counters, DropReason};
use crate::path::pinning::PinChange;

/// The sum of what several workers counted. Each part is conserved, so the sum is.
pub(super) fn sum(parts: impl Iterator<Item = Counters>) -> Counters {
    parts.fold(Counters::default(), |mut total, part| {
        total.add(&part);
        total
    })
}

const fn pin_name(change: PinChange) -> &'static str {
    match change {
        PinChange::Hashed => "pin_hashed",
        PinChange::Learned => "pin_learned",
        PinChange::Corrected => "pin_corrected",
        PinChange::Followed => "pin_followed",
        PinChange::Rotated => "pin_rotated",
        PinChange::Reselected => "pin_reselected",
    }
}

const PIN_CHANGES: [PinChange; 6] = [
    PinChange::Hashed,
    PinChange::Learned,
    PinChange::Corrected,
    PinChange::Followed,
    PinChange::Rotated,
    PinChange::Reselected,
];

/// Every counter by name: the workers' (`counters`), and `others` (the controller's, the sockets').
pub(super) fn flat(counters: &Counters, others: impl Iterator<Item = (String, u64)>) -> CountersView {
    let mut view = CountersView::new();
    for (name, value) in [
        ("received", counters.received),
        ("forwarded", counters.forwarded),
        ("hairpinned", counters.hairpinned),
        ("punted", counters.punted),
        ("dropped", counters.dropped()),
        ("asymmetric", counters.asymmetric),
        ("sessions_created", counters.sessions_created),
        ("sessions_expired", counters.sessions_expired),
        ("sessions_evicted", counters.sessions_evicted),
        ("sessions_failed", counters.sessions_failed),
        ("table_full", counters.table_full),
        ("resets_sent", counters.resets_sent),
        ("fragments_released", counters.fragments_released),
        ("punt_drop_fragment_timeout", counters.punt_drop_fragment_timeout),
        ("punt_drop_fragment_unsent", counters.punt_drop_fragment_unsent),
        ("punt_drop_icmp_error", counters.punt_drop_icmp_error),
    ] {
        view.insert(name.to_owned(), value);
    }
    view.extend(DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), counters.drops_for(*reason))));
    view.extend(PIN_CHANGES.iter().map(|change| (pin_name(*change).to_owned(), counters.pin_changes(*change))));
    for (name, value) in others {
        *view.entry(name).or_default() += value;
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{FirewallId, LinkId};

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
