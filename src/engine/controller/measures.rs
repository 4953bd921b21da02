//! What the controller measures beside what it counts.

use super::Controller;
use crate::engine::view::TableView;

impl Controller {
    /// How full the controller's tables are.
    pub fn tables(&self) -> Vec<TableView> {
        let limits = &self.config.limits;
        let table = |name: &str, used: usize, capacity: usize| TableView {
            name: name.to_owned(),
            used: used as u64,
            capacity: capacity as u64,
        };
        vec![
            table("neighbors", self.links.neighbors().len(), limits.neighbors),
            table("pending", self.links.neighbors().waiting(), limits.pending),
            table("sticky", self.farm.sticky_used(), limits.sticky),
        ]
    }
}
