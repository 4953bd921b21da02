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

pub fn run(_: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let (value, done) = block_on(ask(&engine, &calls::Confirm { by: Some(whoami()) }))??;
    output::print_done(&value, &done)?;
    Ok(ExitCode::SUCCESS)
}
