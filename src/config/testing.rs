//! Configurations for the tests of every room. There are no files: a `file:/path` value is refused.

use crate::config::{self, Config, LoadedConfig};

/// What is made of `text`. Diagnostics call it `x.toml`.
pub fn load(text: &str) -> LoadedConfig {
    config::load("x.toml", text, &mut |path| Err(format!("no files here: {}", path.display())))
}

/// The configuration in `text`, which is valid.
///
/// # Panics
///
/// If `text` has an error. The message is the diagnostics.
pub fn config(text: &str) -> Config {
    let outcome = load(text);
    outcome.config.unwrap_or_else(|| panic!("{}", outcome.diagnostics))
}
