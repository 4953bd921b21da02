//! Controllers in virtual time: alone on a link, and two back to back through model firewalls.

mod alone;
mod apply;
mod checks;
mod claims;
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

use std::path::Path as FilePath;

use crate::config::{self, Config};

/// The configuration in `text`, which is valid.
pub(super) fn config(text: &str) -> Config {
    let outcome = config::load("test.toml", text, &mut |_: &FilePath| Err("no files in tests".to_owned()));
    outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics))
}
