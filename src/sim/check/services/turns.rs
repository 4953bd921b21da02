//! The turns of weighted round robin, counted beside the engine.

use std::collections::BTreeMap;

use crate::slb::Server;

/// What is due to each server of a service. The count is lost when a turn may have been taken by a packet that went nowhere.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Families in which the same servers stand share a sequence, the first.
    sequences: [Sequence; 2],
    lost: bool,
}

/// One sequence of turns.
#[derive(Debug, Default)]
struct Sequence {
    /// Weight and lag by name, the latter in turns times the sum of weights.
    lags: BTreeMap<String, (i128, i128)>,
}

impl Turns {
    /// From here on nobody knows whose turn it is.
    pub(super) fn lose_count(&mut self) {
        self.lost = true;
    }

    /// A server took a turn; answers whose turn it was, if it was another's.
    pub(super) fn take(&mut self, servers: &[Server], family: usize, taken: &str) -> Option<String> {
        if self.lost {
            return None;
        }
        let lineups = [0, 1].map(|family| lineup(servers, family));
        let shared = lineups[0].iter().map(|server| &server.name).eq(lineups[1].iter().map(|server| &server.name));
        let sequence = &mut self.sequences[if shared { 0 } else { family }];
        let next = sequence.take(&lineups[family])?;
        (next != taken).then_some(next)
    }
}

/// Those that take new sessions, or the backup servers that do.
fn lineup(servers: &[Server], family: usize) -> Vec<&Server> {
    let of = |backup: bool| {
        let takes = move |server: &&Server| {
            server.up[family] && server.takes_new && server.weight > 0 && server.backup == backup
        };
        servers.iter().filter(takes).collect::<Vec<_>>()
    };
    let primaries = of(false);
    if primaries.is_empty() { of(true) } else { primaries }
}

impl Sequence {
    /// The turn of this lineup: everybody's lag grows by his weight with every turn, and whoever has one pays the sum of
    /// weights for it. Nobody has a turn whose lag is below nothing; of the others the one has it who would be the first to
    /// lag a whole turn.
    fn take(&mut self, lineup: &[&Server]) -> Option<String> {
        let sum: i128 = lineup.iter().map(|server| i128::from(server.weight)).sum();
        self.follow(lineup, sum);
        let lag = |server: &&&Server| self.lags[&server.name];
        // Until it lags a whole turn: (sum - lag) / weight.
        let left = |a: &&&Server, b: &&&Server| ((sum - lag(a).1) * lag(b).0).cmp(&((sum - lag(b).1) * lag(a).0));
        let waiting = lineup.iter().filter(|server| lag(server).1 >= 0);
        let next = waiting.min_by(left)?.name.clone();
        for (weight, lag) in self.lags.values_mut() {
            *lag += *weight;
        }
        if let Some((_, lag)) = self.lags.get_mut(&next) {
            *lag -= sum;
        }
        Some(next)
    }

    /// Others take part than at the last turn: what is due to those that stay is kept in parts of a turn, and all together
    /// are put to less than one.
    fn follow(&mut self, lineup: &[&Server], sum: i128) {
        let is_same = lineup.len() == self.lags.len()
            && lineup
                .iter()
                .all(|server| self.lags.get(&server.name).is_some_and(|known| known.0 == server.weight.into()));
        if is_same {
            return;
        }
        let before: i128 = self.lags.values().map(|(weight, _)| weight).sum();
        let kept = |server: &&Server| {
            let lag = self.lags.get(&server.name).map_or(0, |(_, lag)| lag.clamp(&-before, &before) * sum / before);
            (server.name.clone(), i128::from(server.weight), lag)
        };
        let kept: Vec<_> = lineup.iter().map(kept).collect();
        let back = kept.iter().map(|(.., lag)| lag).sum::<i128>().div_euclid(sum.max(1));
        self.lags = kept.into_iter().map(|(name, weight, lag)| (name, (weight, lag - back * weight))).collect();
    }
}
