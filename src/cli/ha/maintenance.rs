//! `fwlb ha maint` and `fwlb ha ready`: whether a node may be active.

use std::process::ExitCode;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask, block_on, whoami};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Why: one line; it is shown with the change of role
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub fn run(args: &Args, maintenance: bool, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let call = calls::HaMaintenance { maintenance, reason: args.reason.clone(), by: Some(whoami()) };
    let (value, done) = block_on(ask(&engine, &call))??;
    output::print_done(&value, &done)?;
    Ok(ExitCode::SUCCESS)
}
