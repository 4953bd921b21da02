//! Keeps many timers, of which one is due next.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;

/// At most one time for each `K`.
#[derive(Debug, Clone)]
pub(super) struct Agenda<K> {
    times: BTreeMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Self { times: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Agenda<K> {
    /// Sets the one time at which `key` is due; `None` removes it.
    pub(super) fn set(&mut self, key: K, time: Option<Instant>) {
        let before = match time {
            Some(time) => self.times.insert(key, time),
            None => self.times.remove(&key),
        };
        if let Some(before) = before {
            self.order.remove(&(before, key));
        }
        if let Some(time) = time {
            self.order.insert((time, key));
        }
    }

    /// Removes and returns a key that is due, the one that is overdue longest first.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<K> {
        let &(_, key) = self.order.first().filter(|(time, _)| *time <= now)?;
        self.set(key, None);
        Some(key)
    }

    /// The time at which the next key is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.order.first().map(|(time, _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_called_once_at_the_time_that_was_set_last() {
        let at = Instant::from_millis;
        let mut agenda = Agenda::default();
        for (key, time) in [('a', 30), ('b', 10), ('c', 20), ('b', 40), ('a', 5)] {
            agenda.set(key, Some(at(time)));
        }
        agenda.set('c', None);

        assert_eq!(agenda.poll_timeout(), Some(at(5)));
        assert_eq!(agenda.take_due(at(4)), None);
        let due: Vec<char> = std::iter::from_fn(|| agenda.take_due(at(100))).collect();
        assert_eq!((due, agenda.poll_timeout()), (vec!['a', 'b'], None));
    }
}
