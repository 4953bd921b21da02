//! `fwlb reload`: gives a running engine another configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask, block_on, whoami};
use crate::cli::output;
use crate::config::value::format_duration;
use crate::engine::view::ReloadView;
use crate::time::Duration;

/// Apply a changed configuration to a running engine: all or nothing, sessions kept
///
/// Without CONFIG the engine reads its own file again, the one that it was started with, as at SIGHUP. With CONFIG it
/// reads that file, once: a later reload without one, and a restart, take its own file again. Try it first with `fwlb
/// plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Another configuration file for the same engine
    #[arg(value_name = "CONFIG")]
    config: Option<PathBuf>,
    /// Return to the former configuration unless `fwlb confirm` comes within this time, 1s to 1day; also over a restart
    #[arg(long, value_name = "TIME", value_parser = output::parse_duration)]
    confirm: Option<Duration>,
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let config = args.config.as_deref().map(absolute).transpose()?;
    let confirm_ms = args.confirm.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    let (value, done) = block_on(ask(&engine, &calls::Reload { config, confirm_ms, by: Some(whoami()) }))??;
    output::print_error(&done.diagnostics);
    if selection.json {
        output::print_json(&value)?;
    } else {
        output::print(&show(&done))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The absolute path, because an engine runs in a directory of its own.
pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))
}

pub fn show(done: &ReloadView) -> String {
    let ReloadView { engine, config, own_config, changed, differences, diagnostics: _, kept, confirm_within_ms } = done;
    let mut text: String = differences.iter().map(|difference| format!("{difference}\n")).collect();
    text += &match changed {
        true => format!("engine {engine} runs with {config}\n"),
        false => format!("nothing has changed: engine {engine} ran with what {config} says already\n"),
    };
    if *changed && config != own_config {
        text += &format!("a reload without a file, and a restart, take {own_config} again\n");
        if let Some(kept) = kept {
            text += &format!("to bring it over: cp {kept} {own_config}\n");
        }
    }
    if let Some(within) = confirm_within_ms {
        let within = format_duration(Duration::from_millis(*within));
        text += &format!("it returns to the former one in {within}, unless you say: fwlb confirm\n");
    }
    text
}
