//! Log lines on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::LevelFilter;

use crate::config::Log;

/// Starts logging for the process. Where several engines run, the most talkative level holds, and JSON if one asks for it.
/// A process that logs already goes on as it does.
pub(super) fn start<'a>(settings: impl Iterator<Item = &'a Log>) {
    let (level, json) = settings.fold((LevelFilter::ERROR, false), |(level, json), log| {
        // Validation has seen the word.
        let asked = log.level.parse().unwrap_or(LevelFilter::INFO);
        (level.max(asked), json || log.json)
    });
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(stderr).with_target(false);
    let lines = lines.with_ansi(stderr().is_terminal());
    let _ = if json { lines.json().flatten_event(true).try_init() } else { lines.compact().try_init() };
}
