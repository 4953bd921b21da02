//! The turns of smooth weighted round robin, counted beside the engine.

use std::collections::BTreeMap;

use crate::slb::Server;

/// What is due to each server of a service. The count is lost when a turn may have been taken by a packet that went nowhere.
#[derive(Debug, Default)]
pub(super) struct Turns {
    credits: BTreeMap<String, i64>,
    lost: bool,
}

impl Turns {
    /// From here on nobody knows whose turn it is.
    pub(super) fn lose_count(&mut self) {
        self.lost = true;
    }

    /// A server took a turn; answers whose turn it was, if it was another's.
    ///
    /// Everybody's credit grows by his weight, the richest (the first of them in the file's order) has the turn and pays for
    /// all: over a full cycle the turns are exactly the weights.
    pub(super) fn take(&mut self, servers: &[Server], family: usize, taken: &str) -> Option<String> {
        if self.lost {
            return None;
        }
        let eligible = |backup: bool| {
            let of = move |server: &&Server| {
                server.up[family] && server.takes_new && server.weight > 0 && (backup || !server.backup)
            };
            servers.iter().filter(of).collect::<Vec<_>>()
        };
        let mut turn = eligible(false);
        if turn.is_empty() {
            turn = eligible(true);
        }
        let mut total = 0;
        for server in &turn {
            *self.credits.entry(server.name.clone()).or_default() += i64::from(server.weight);
            total += i64::from(server.weight);
        }
        let richest = turn.iter().rev().max_by_key(|server| self.credits[&server.name])?.name.clone();
        *self.credits.entry(richest.clone()).or_default() -= total;
        (richest != taken).then_some(richest)
    }
}
