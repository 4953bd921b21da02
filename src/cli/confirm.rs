//! `fwlb confirm`: the configuration of `fwlb reload --confirm` stays.

use std::process::ExitCode;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask, block_on, whoami};
use crate::cli::output;

/// Say that the configuration of `fwlb reload --confirm` is to stay
///
/// The exit status is 1 where nothing waits for it: the time may be over.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args, reach: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = reach.engine()?;
    let (value, answer) = block_on(ask(&engine, &calls::Confirm { by: Some(whoami()) }))??;
    if reach.json {
        output::print_json(&value)?;
    } else {
        output::print(&format!("{}\n", answer.done))?;
    }
    Ok(ExitCode::SUCCESS)
}
