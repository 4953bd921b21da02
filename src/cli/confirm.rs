//! `fwlb confirm`: the configuration of `fwlb reload --confirm` stays.

use std::process::ExitCode;

use crate::api::{Answer, Done, Request};
use crate::cli::engines::{EngineSelection, ask, block_on, whoami};
use crate::cli::output;

/// Say that the configuration of `fwlb reload --confirm` is to stay
///
/// The exit status is 1 where nothing waits for it: the time may be over.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args, reach: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = reach.engine()?;
    let (value, answer) = block_on(ask(&engine, &Request::Confirm { by: whoami() }))??;
    let Answer::Done(Done { done, .. }) = &answer else { anyhow::bail!("the engine answered something else") };
    if reach.json {
        output::print_json(&value)?;
    } else {
        output::print(&format!("{done}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
