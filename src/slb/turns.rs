//! Whose turn it is, where weights are shares: exact, smooth, and for the price of the weights' variety, not of the servers'
//! number.
//!
//! Among servers whose weights sum up to W, the k-th turn (from 0) of a server of weight w is due between all turns number
//! k·W/w, its *start*, and (k+1)·W/w, its *deadline*. Of the servers whose start has come the one whose deadline is the
//! first has the turn (earliest eligible virtual deadline first, Stoica and Abdel-Wahab 1995). So each server has had its
//! share of all turns at any time, to less than one turn, and exactly its share after every W turns; servers of weights 5, 1
//! and 1 go a b a a c a a.
//!
//! Servers of one weight have their turns in the order in which they had them last, so that only the first of each weight
//! can be next: a turn looks at as many servers as there are different weights, which are at most 256, and mostly one.
//!
//! When servers come or go, those that stay keep what is due to them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};

use crate::slb::scheduler::need_backups;
use crate::slb::{Server, ServerState};
use crate::wire::Family;

/// Who takes part: the servers that take new sessions in a family.
#[derive(Debug, Default)]
pub struct Lineup(Vec<Member>);

#[derive(Debug)]
struct Member {
    /// Its position in the service.
    place: usize,
    weight: u16,
    /// Who it is, wherever a reload puts it.
    state: Weak<ServerState>,
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        (self.place, self.weight) == (other.place, other.weight) && self.state.ptr_eq(&other.state)
    }
}

/// The lineups of a service in both families, worked out at the first asking. A copy works out its own, because its servers may
/// be made to stand otherwise.
#[derive(Debug, Default)]
pub struct Lineups(OnceLock<[Arc<Lineup>; 2]>);

impl Clone for Lineups {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Lineups {
    /// The lineup of a family, and the number of the sequence of turns that it has: families in which the same servers stand
    /// share one.
    pub(super) fn of(&self, servers: &[Server], family: Family) -> (&Arc<Lineup>, usize) {
        let both = self.0.get_or_init(|| {
            let v4 = Arc::new(Lineup::new(servers, Family::V4));
            let v6 = Lineup::new(servers, Family::V6);
            let v6 = if v6.0 == v4.0 { Arc::clone(&v4) } else { Arc::new(v6) };
            [v4, v6]
        });
        let sequence = if Arc::ptr_eq(&both[0], &both[1]) { 0 } else { super::family_index(family) };
        (&both[super::family_index(family)], sequence)
    }
}

impl Lineup {
    /// Those that take new sessions; or, when every other is down, those of the backup servers that do.
    fn new(servers: &[Server], family: Family) -> Self {
        let of = |backup: bool| {
            let is_one = |server: &Server| server.backup == backup && server.is_candidate(family);
            let those = servers.iter().enumerate().filter(|(_, server)| is_one(server));
            let member = |(place, server): (usize, &Server)| Member {
                place,
                weight: server.weight,
                state: Arc::downgrade(&server.state),
            };
            those.map(member).collect::<Vec<_>>()
        };
        let primaries = of(false);
        Self(if primaries.is_empty() && need_backups(servers, family) { of(true) } else { primaries })
    }
}

/// One sequence of turns. All in it is counted in turns times the sum of weights, so that everything is a whole number.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    lineup: Arc<Lineup>,
    /// The sum of weights.
    sum: i128,
    /// Turns given.
    given: i128,
    /// Servers by weight.
    classes: Vec<Class>,
}

/// The servers of one weight, the next one first.
#[derive(Debug, Clone)]
struct Class {
    weight: i128,
    queue: VecDeque<Waiting>,
}

/// A server that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// The start of its next turn times its weight; the deadline is the sum of weights more.
    start: i128,
    /// Position in the lineup.
    number: usize,
}

impl Turns {
    /// Whose turn it is, in a lineup that may be another than the last one; nothing changes.
    pub(super) fn foresee(&self, lineup: &Arc<Lineup>) -> Option<usize> {
        if *self.lineup.0 == *lineup.0 {
            return self.first().and_then(|class| self.place(class));
        }
        let turns = self.with(lineup);
        turns.first().and_then(|class| turns.place(class))
    }

    /// Gives a turn; answers the server's position in the service.
    pub(super) fn take(&mut self, lineup: &Arc<Lineup>) -> Option<usize> {
        if !Arc::ptr_eq(&self.lineup, lineup) {
            if *self.lineup.0 == *lineup.0 {
                self.lineup = Arc::clone(lineup);
            } else {
                *self = self.with(lineup);
            }
        }
        let class = self.first()?;
        let place = self.place(class);
        let queue = &mut self.classes[class].queue;
        if let Some(first) = queue.pop_front() {
            let again = Waiting { start: first.start + self.sum, ..first };
            let position = queue.partition_point(|waiting| *waiting < again);
            queue.insert(position, again);
        }
        self.given += 1;
        place
    }

    fn place(&self, class: usize) -> Option<usize> {
        let first = self.classes[class].queue.front()?;
        Some(self.lineup.0[first.number].place)
    }

    /// The weight whose first server has the turn.
    fn first(&self) -> Option<usize> {
        (0..self.classes.len()).min_by(|a, b| self.order(&self.classes[*a], &self.classes[*b]))
    }

    /// Who has started comes before who has not, then the earlier deadline, then the earlier in the file.
    fn order(&self, a: &Class, b: &Class) -> Ordering {
        let (Some(first), Some(second)) = (a.queue.front(), b.queue.front()) else {
            return a.queue.is_empty().cmp(&b.queue.is_empty());
        };
        let waits = |class: &Class, waiting: &Waiting| waiting.start > self.given * class.weight;
        let deadlines = ((first.start + self.sum) * b.weight).cmp(&((second.start + self.sum) * a.weight));
        waits(a, first).cmp(&waits(b, second)).then(deadlines).then(first.number.cmp(&second.number))
    }

    /// The same sequence with other servers. What is due to those that stay is kept, as a part of a turn; then all are put
    /// forward or back alike, so that what is due to all of them together is nothing, or less than a turn.
    fn with(&self, lineup: &Arc<Lineup>) -> Self {
        let sum: i128 = lineup.0.iter().map(|member| i128::from(member.weight)).sum();
        let mut due = HashMap::with_hasher(ahash::RandomState::default());
        for class in &self.classes {
            for waiting in &class.queue {
                let lag = (self.given * class.weight - waiting.start).clamp(-self.sum, self.sum);
                due.insert(self.lineup.0[waiting.number].state.as_ptr(), lag);
            }
        }
        let lag = |member: &Member| due.get(&member.state.as_ptr()).map_or(0, |lag| lag * sum / self.sum);
        let forward = -lineup.0.iter().map(lag).sum::<i128>().div_euclid(sum.max(1));
        let mut classes: BTreeMap<u16, Vec<Waiting>> = BTreeMap::new();
        for (number, member) in lineup.0.iter().enumerate() {
            let start = -(lag(member) + forward * i128::from(member.weight));
            classes.entry(member.weight).or_default().push(Waiting { start, number });
        }
        let class = |(weight, mut waiting): (u16, Vec<Waiting>)| {
            waiting.sort_unstable();
            Class { weight: weight.into(), queue: waiting.into() }
        };
        let classes = classes.into_iter().map(class).collect();
        Self { lineup: Arc::clone(lineup), sum, given: 0, classes }
    }
}

#[cfg(test)]
mod tests;
