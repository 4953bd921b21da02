//! What is heard on which link, and which links are dead although their carrier stays.

use crate::ha::settings::{HaConfig, LegId, NodeId};
use crate::time::{Duration, Instant};

/// A leg counts as dead after so many intervals without any frame.
const QUIET_INTERVALS: u32 = 10;
/// It counts as dead after this time at the least.
const QUIET_MIN: Duration = Duration::from_millis(300);

/// What was heard on each leg, and when.
#[derive(Debug, Clone)]
pub struct Legs {
    legs: Vec<Heard>,
    interval: Duration,
}

#[derive(Debug, Clone)]
struct Heard {
    /// When the leg began to count: at the start, and when its carrier came back.
    since: Instant,
    has_carrier: bool,
    has_neighbors: bool,
    /// A station outside the cluster.
    station: Option<Instant>,
    /// The nodes of the cluster, by [`NodeId`].
    nodes: Vec<Option<Instant>>,
}

impl Heard {
    fn latest(&self) -> Instant {
        self.nodes.iter().flatten().chain(&self.station).copied().fold(self.since, Instant::max)
    }
}

impl Legs {
    /// Legs on which nothing was heard yet.
    pub fn new(config: &HaConfig, now: Instant) -> Self {
        let heard = |has_neighbors| Heard {
            since: now,
            has_carrier: true,
            has_neighbors,
            station: None,
            nodes: vec![None; config.nodes.len()],
        };
        Self { legs: config.legs.iter().map(|leg| heard(leg.has_neighbors)).collect(), interval: config.interval }
    }

    /// A station outside the cluster was heard.
    pub fn hear_station(&mut self, leg: LegId, now: Instant) {
        if let Some(leg) = self.legs.get_mut(leg.index()) {
            leg.station = Some(now);
        }
    }

    /// A node of the cluster was heard.
    pub fn hear_node(&mut self, leg: LegId, node: NodeId, now: Instant) {
        if let Some(heard) = self.legs.get_mut(leg.index()).and_then(|leg| leg.nodes.get_mut(node.index())) {
            *heard = Some(now);
        }
    }

    /// A leg has carrier, or has none.
    pub fn set_carrier(&mut self, leg: LegId, has_carrier: bool, now: Instant) {
        if let Some(leg) = self.legs.get_mut(leg.index())
            && leg.has_carrier != has_carrier
        {
            leg.has_carrier = has_carrier;
            leg.since = now;
        }
    }

    /// The time in which this node's own loop stood still does not count as silence.
    pub fn excuse(&mut self, late: Duration, now: Instant) {
        for leg in &mut self.legs {
            leg.since = (leg.since + late).min(now);
            for heard in leg.nodes.iter_mut().chain([&mut leg.station]).flatten() {
                *heard = (*heard + late).min(now);
            }
        }
    }

    /// The nodes that are heard on a leg: bit `i` for node `i`.
    pub fn hears(&self, leg: LegId, now: Instant) -> u8 {
        let Some(leg) = self.legs.get(leg.index()) else { return 0 };
        let is_fresh = |heard: &Option<Instant>| heard.is_some_and(|heard| now.since(heard) < self.quiet());
        let nodes = leg.nodes.iter().enumerate().filter(|(_, heard)| is_fresh(heard));
        nodes.fold(0, |bits, (node, _)| bits | 1u8.checked_shl(node as u32).unwrap_or(0))
    }

    /// True if a station outside the cluster was heard on any leg since `since`. Also true if no leg has a station that
    /// could be asked.
    pub fn hears_outside(&self, since: Instant) -> bool {
        let mut asked = self.legs.iter().filter(|leg| leg.has_neighbors).peekable();
        asked.peek().is_none() || self.legs.iter().any(|leg| leg.station.is_some_and(|heard| heard >= since))
    }

    /// True if a leg has carrier but hears nobody, although there is somebody to hear: a configured neighbour, or a
    /// node that is heard elsewhere (`others_live`).
    pub fn is_dead(&self, leg: LegId, others_live: bool, now: Instant) -> bool {
        let Some(leg) = self.legs.get(leg.index()) else { return false };
        let somebody = leg.has_neighbors || others_live;
        leg.has_carrier && somebody && now.since(leg.latest()) >= self.quiet()
    }

    /// True if a leg with neighbours has been quiet for so long that they are to be asked.
    pub fn wants_asking(&self, now: Instant) -> bool {
        let is_quiet = |leg: &Heard| leg.has_carrier && now.since(leg.latest()) >= self.quiet() / 2;
        self.legs.iter().any(|leg| leg.has_neighbors && is_quiet(leg))
    }

    fn quiet(&self) -> Duration {
        (self.interval * QUIET_INTERVALS).max(QUIET_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::machine::testing::config;

    const MS: fn(u64) -> Instant = Instant::from_millis;

    #[test]
    fn a_leg_is_dead_when_it_hears_neither_node_nor_station_for_ten_intervals() {
        let mut legs = Legs::new(&config(2), MS(0));
        legs.hear_node(LegId(0), NodeId(1), MS(100));
        legs.hear_station(LegId(1), MS(200));

        assert!(!legs.is_dead(LegId(0), true, MS(399)));
        assert!(legs.is_dead(LegId(0), true, MS(400)));
        assert!(!legs.is_dead(LegId(1), true, MS(499)));
        assert!(legs.is_dead(LegId(1), false, MS(500)), "it has neighbours that do not answer");
        assert_eq!(legs.hears(LegId(0), MS(399)), 0b10);
        assert_eq!(legs.hears(LegId(0), MS(400)), 0);
    }

    #[test]
    fn a_leg_without_neighbours_is_dead_only_beside_a_node_that_is_heard_elsewhere() {
        let mut config = config(2);
        config.legs[0].has_neighbors = false;
        let legs = Legs::new(&config, MS(0));

        assert!(!legs.is_dead(LegId(0), false, MS(10_000)));
        assert!(legs.is_dead(LegId(0), true, MS(10_000)));
        assert!(!legs.hears_outside(MS(0)), "the other leg has neighbours");
        config.legs[1].has_neighbors = false;
        assert!(Legs::new(&config, MS(0)).hears_outside(MS(0)), "nobody could be asked");
    }

    #[test]
    fn carrier_that_returns_gives_the_leg_its_time_again() {
        let mut legs = Legs::new(&config(2), MS(0));
        legs.set_carrier(LegId(0), false, MS(1000));
        assert!(!legs.is_dead(LegId(0), true, MS(9000)), "without carrier it is down, not dead");
        legs.set_carrier(LegId(0), true, MS(9000));
        assert!(!legs.is_dead(LegId(0), true, MS(9299)));
        assert!(legs.is_dead(LegId(0), true, MS(9300)));
    }

    #[test]
    fn time_in_which_the_own_loop_stood_still_is_no_silence() {
        let mut legs = Legs::new(&config(2), MS(0));
        legs.hear_station(LegId(0), MS(1000));
        legs.excuse(Duration::from_millis(5000), MS(6010));

        assert!(!legs.is_dead(LegId(0), true, MS(6299)));
        assert!(legs.is_dead(LegId(0), true, MS(6300)));
    }

    #[test]
    fn neighbours_are_asked_before_the_leg_counts_as_dead() {
        let mut legs = Legs::new(&config(2), MS(0));
        assert!(!legs.wants_asking(MS(149)));
        assert!(legs.wants_asking(MS(150)));
        legs.hear_station(LegId(0), MS(150));
        legs.hear_station(LegId(1), MS(150));
        assert!(!legs.wants_asking(MS(299)));
    }
}
