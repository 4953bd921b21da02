//! Weighted round robin: which server has the next turn. The sequence follows the weights exactly and smoothly, and the
//! cost of a turn depends on the number of different weights, not on the number of servers.
//!
//! Let W be the sum of all weights. The k-th turn (from 0) of a server of weight w is due between turn k·W/w of all
//! turns, its *start*, and turn (k+1)·W/w, its *deadline*. Among the servers whose start has come, the one with the
//! earliest deadline has the turn (earliest eligible virtual deadline first, Stoica and Abdel-Wahab 1995). At any time
//! each server thus has had its share of all turns to within less than one turn, and after every W turns exactly.
//! Servers of the weights 5, 1 and 1 give the sequence a b a a c a a.
//!
//! Servers of equal weight take their turns in the order in which they had the last ones, so that only the first of
//! each weight can be next. A turn therefore looks at as many servers as there are different weights. These are at most
//! 256, and usually one.
//!
//! When servers are added or removed, the others keep what is due to them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};

use crate::slb::scheduler::need_backups;
use crate::slb::{Server, ServerState};
use crate::wire::Family;

/// The servers that take new sessions in a family.
#[derive(Debug, Default)]
pub struct RotationMembers(Vec<RotationMember>);

#[derive(Debug)]
struct RotationMember {
    /// The position of the server in its service.
    position: usize,
    weight: u16,
    /// The identity of the server, whatever its position after a reload.
    state: Weak<ServerState>,
}

impl PartialEq for RotationMember {
    fn eq(&self, other: &Self) -> bool {
        (self.position, self.weight) == (other.position, other.weight) && self.state.ptr_eq(&other.state)
    }
}

/// The rotation members of a service in both families, computed when they are first needed. A copy computes its own,
/// because its servers may have other states.
#[derive(Debug, Default)]
pub struct RotationMembersByFamily(OnceLock<[Arc<RotationMembers>; 2]>);

impl Clone for RotationMembersByFamily {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl RotationMembersByFamily {
    /// The members of a family, and the number of its rotation. Families with the same members share one rotation.
    pub(super) fn of(&self, servers: &[Server], family: Family) -> (&Arc<RotationMembers>, usize) {
        let both = self.0.get_or_init(|| {
            let v4 = Arc::new(RotationMembers::new(servers, Family::V4));
            let v6 = RotationMembers::new(servers, Family::V6);
            let v6 = if v6.0 == v4.0 { Arc::clone(&v4) } else { Arc::new(v6) };
            [v4, v6]
        });
        let sequence = if Arc::ptr_eq(&both[0], &both[1]) { 0 } else { super::family_index(family) };
        (&both[super::family_index(family)], sequence)
    }
}

impl RotationMembers {
    /// The servers that take new sessions or, if all others are down, the backup servers that do.
    fn new(servers: &[Server], family: Family) -> Self {
        let of = |backup: bool| {
            let is_one = |server: &Server| server.backup == backup && server.is_candidate(family);
            let those = servers.iter().enumerate().filter(|(_, server)| is_one(server));
            let member = |(place, server): (usize, &Server)| RotationMember {
                position: place,
                weight: server.weight,
                state: Arc::downgrade(&server.state),
            };
            those.map(member).collect::<Vec<_>>()
        };
        let primaries = of(false);
        Self(if primaries.is_empty() && need_backups(servers, family) { of(true) } else { primaries })
    }
}

/// A sequence of turns. All quantities are multiplied by the sum of weights, so that they are whole numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Rotation {
    members: Arc<RotationMembers>,
    /// The sum of all weights.
    sum: i128,
    /// The number of turns given.
    given: i128,
    /// The servers, grouped by weight.
    classes: Vec<WeightClass>,
}

/// The servers of one weight, of which the next one comes first.
#[derive(Debug, Clone)]
struct WeightClass {
    weight: i128,
    queue: VecDeque<Waiting>,
}

/// A server that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// The start of its next turn times its weight. Its deadline is greater by the sum of weights.
    start: i128,
    /// Its position among the members.
    number: usize,
}

impl Rotation {
    /// The server that has the next turn among `lineup`, which may differ from the previous members. Nothing changes.
    pub(super) fn peek(&self, lineup: &Arc<RotationMembers>) -> Option<usize> {
        if *self.members.0 == *lineup.0 {
            return self.first().and_then(|class| self.position(class));
        }
        let turns = self.with_members(lineup);
        turns.first().and_then(|class| turns.position(class))
    }

    /// Gives a turn, and returns the server's position in the service.
    pub(super) fn take(&mut self, lineup: &Arc<RotationMembers>) -> Option<usize> {
        if !Arc::ptr_eq(&self.members, lineup) {
            if *self.members.0 == *lineup.0 {
                self.members = Arc::clone(lineup);
            } else {
                *self = self.with_members(lineup);
            }
        }
        let class = self.first()?;
        let place = self.position(class);
        let queue = &mut self.classes[class].queue;
        if let Some(first) = queue.pop_front() {
            let again = Waiting { start: first.start + self.sum, ..first };
            let position = queue.partition_point(|waiting| *waiting < again);
            queue.insert(position, again);
        }
        self.given += 1;
        place
    }

    fn position(&self, class: usize) -> Option<usize> {
        let first = self.classes[class].queue.front()?;
        Some(self.members.0[first.number].position)
    }

    /// The weight whose first server has the turn.
    fn first(&self) -> Option<usize> {
        (0..self.classes.len()).min_by(|a, b| self.order(&self.classes[*a], &self.classes[*b]))
    }

    /// Orders servers whose start has come before the others, then by deadline, then by their order in the
    /// configuration.
    fn order(&self, a: &WeightClass, b: &WeightClass) -> Ordering {
        let (Some(first), Some(second)) = (a.queue.front(), b.queue.front()) else {
            return a.queue.is_empty().cmp(&b.queue.is_empty());
        };
        let waits = |class: &WeightClass, waiting: &Waiting| waiting.start > self.given * class.weight;
        let deadlines = ((first.start + self.sum) * b.weight).cmp(&((second.start + self.sum) * a.weight));
        waits(a, first).cmp(&waits(b, second)).then(deadlines).then(first.number.cmp(&second.number))
    }

    /// The rotation continued with other members. What is due to those that stay is kept, as a fraction of a turn. Then
    /// all are shifted alike, so that the sum of what is due is nothing or less than a turn.
    fn with_members(&self, lineup: &Arc<RotationMembers>) -> Self {
        let sum: i128 = lineup.0.iter().map(|member| i128::from(member.weight)).sum();
        let mut due = HashMap::with_hasher(ahash::RandomState::default());
        for class in &self.classes {
            for waiting in &class.queue {
                let lag = (self.given * class.weight - waiting.start).clamp(-self.sum, self.sum);
                due.insert(self.members.0[waiting.number].state.as_ptr(), lag);
            }
        }
        let lag = |member: &RotationMember| due.get(&member.state.as_ptr()).map_or(0, |lag| lag * sum / self.sum);
        let forward = -lineup.0.iter().map(lag).sum::<i128>().div_euclid(sum.max(1));
        let mut classes: BTreeMap<u16, Vec<Waiting>> = BTreeMap::new();
        for (number, member) in lineup.0.iter().enumerate() {
            let start = -(lag(member) + forward * i128::from(member.weight));
            classes.entry(member.weight).or_default().push(Waiting { start, number });
        }
        let class = |(weight, mut waiting): (u16, Vec<Waiting>)| {
            waiting.sort_unstable();
            WeightClass { weight: weight.into(), queue: waiting.into() }
        };
        let classes = classes.into_iter().map(class).collect();
        Self { members: Arc::clone(lineup), sum, given: 0, classes }
    }
}

#[cfg(test)]
mod tests;
