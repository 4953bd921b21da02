//! `fwlb rollback`: returns a running engine to an earlier configuration.

use std::process::ExitCode;

use crate::api::calls;
use crate::cli::engines::{EngineSelection, ask, block_on, whoami};
use crate::cli::{output, plan, reload};

/// Return to an earlier configuration, as a reload does: all or nothing, sessions kept
///
/// `fwlb show configs` lists the last ten. The engine's file is not changed: a restart takes it again, and the answer says how to
/// bring the earlier configuration over to it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// So many configurations before the one in force
    #[arg(value_name = "N", default_value_t = 1)]
    back: usize,
    /// Only show what it would do
    #[arg(long)]
    plan: bool,
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    if args.plan {
        return plan::ask_and_show(selection, &calls::Plan { config: None, back: Some(args.back) });
    }
    let engine = selection.engine()?;
    let (value, done) = block_on(ask(&engine, &calls::Rollback { back: Some(args.back), by: Some(whoami()) }))??;
    output::print_error(&done.diagnostics);
    if selection.json {
        output::print_json(&value)?;
    } else {
        output::print(&reload::show(&done))?;
    }
    Ok(ExitCode::SUCCESS)
}
