//! `fwlb probe`: checks a firewall or a server at once and prints the exchange.

use std::process::ExitCode;

use crate::api::calls;
use crate::cli::completions::live;
use crate::cli::engines::{EngineSelection, ask, block_on};
use crate::cli::output;
use crate::engine::view::ExchangeView;

/// Probe every path through a firewall, or check a server, and print the exchange
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The firewall or server
    #[arg(value_name = "GROUP/FIREWALL|SERVICE/SERVER", add = live::members())]
    subject: String,
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let (value, exchanges) = block_on(ask(&engine, &calls::Probe { subject: args.subject.clone() }))??;
    if selection.json {
        output::print_json(&value)?;
    } else {
        output::print(&exchanges.iter().map(show).collect::<String>())?;
    }
    Ok(if exchanges.iter().all(|exchange| exchange.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An exchange frame by frame.
pub fn show(exchange: &ExchangeView) -> String {
    let verdict = match (exchange.ok, exchange.rtt_us) {
        (true, Some(_)) => format!("ok, {}", output::round_trip(exchange.rtt_us)),
        (true, None) => "ok".to_owned(),
        (false, _) => "FAILED".to_owned(),
    };
    let reason = exchange.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let mut text = format!("{}: {verdict}{reason}\n", exchange.subject);
    for step in &exchange.steps {
        let at = format!("{}.{:03}", step.at_us / 1000, step.at_us % 1000);
        text.push_str(&format!("  {at:>9} ms  {:<8}  {}\n", step.direction, step.what));
    }
    text
}
