//! Controllers in virtual time: alone on a link, and two back to back through model firewalls.

mod alone;
mod apply;
mod checks;
mod claims;
mod cluster_role;
mod clusters;
mod duplicates;
mod farm;
mod history;
mod late;
mod observe;
mod orders;
mod paths;
mod peers;
mod refusals;
mod returns;
mod sandwich;
mod services;
mod start;
mod thousands;

pub(super) use crate::config::testing::config;
