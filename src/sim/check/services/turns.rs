//! Predicts the turns of weighted round robin independently of the engine.

use std::collections::BTreeMap;

use crate::slb::Server;

/// The turns of one service. They are unknown once a packet that was not forwarded may have used up a turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// One sequence per address family; families with the same servers share the first.
    sequences: [Sequence; 2],
    is_unknown: bool,
}

/// One sequence of turns.
#[derive(Debug, Default)]
struct Sequence {
    /// Weight and lag of each server by name; the lag is in turns times the sum of weights.
    lags: BTreeMap<String, (i128, i128)>,
}

impl Turns {
    /// Gives up: from now on the next turn is unknown.
    pub(super) fn set_unknown(&mut self) {
        self.is_unknown = true;
    }

    /// Notes that the server `taken` had a turn; returns whose turn it was, if it was another's.
    pub(super) fn note_turn(&mut self, servers: &[Server], family: usize, taken: &str) -> Option<String> {
        if self.is_unknown {
            return None;
        }
        let lineups = [0, 1].map(|family| rotation_members(servers, family));
        let shared = lineups[0].iter().map(|server| &server.name).eq(lineups[1].iter().map(|server| &server.name));
        let sequence = &mut self.sequences[if shared { 0 } else { family }];
        let next = sequence.note_turn(&lineups[family])?;
        (next != taken).then_some(next)
    }
}

/// The servers that accept new sessions, or else the backup servers that do.
fn rotation_members(servers: &[Server], family: usize) -> Vec<&Server> {
    let of = |backup: bool| {
        let takes = move |server: &&Server| {
            server.up[family] && server.accepts_new_sessions && server.weight > 0 && server.backup == backup
        };
        servers.iter().filter(takes).collect::<Vec<_>>()
    };
    let primaries = of(false);
    if primaries.is_empty() { of(true) } else { primaries }
}

impl Sequence {
    /// The server with the next turn of these members of the rotation. With every turn, each server's lag grows by its
    /// weight, and the server that has the turn pays the sum of weights. Among the servers whose lag is not negative,
    /// the turn goes to the one that would be the first to lag a whole turn.
    fn note_turn(&mut self, lineup: &[&Server]) -> Option<String> {
        let sum: i128 = lineup.iter().map(|server| i128::from(server.weight)).sum();
        self.set_members(lineup, sum);
        let lag = |server: &&&Server| self.lags[&server.name];
        // The time until a server lags a whole turn is (sum - lag) / weight.
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

    /// Follows a change of the rotation's members: servers that stay keep the fraction of a turn that is due to them,
    /// new ones begin at zero, and all lags are shifted so that together they are less than one turn.
    fn set_members(&mut self, lineup: &[&Server], sum: i128) {
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
