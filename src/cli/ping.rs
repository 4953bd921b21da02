//! `fwlb ping`: pings from the engine, whose addresses the kernel's ping cannot use.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::api::calls;
use crate::cli::completions::live;
use crate::cli::engines::{Engine, EngineSelection, ask, block_on};
use crate::cli::{output, probe};

/// Ping from the engine's own addresses
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whom
    address: IpAddr,
    /// Leave by this link
    #[arg(long, conflicts_with = "firewall", add = live::links())]
    link: Option<String>,
    /// Leave through this firewall
    #[arg(long, value_name = "GROUP/FIREWALL", add = live::whole_firewalls())]
    firewall: Option<String>,
    /// How many
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Time between them
    #[arg(short, long, default_value = "500ms", value_name = "TIME", value_parser = output::parse_duration)]
    interval: Duration,
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = selection.engine()?;
    let call = calls::Ping { address: args.address, link: args.link.clone(), firewall: args.firewall.clone() };
    block_on(exchanges(args, &engine, &call, selection.json))?
}

/// Exit status 0 if anybody answered, as ping(8).
async fn exchanges(args: &Args, engine: &Engine, call: &calls::Ping, json: bool) -> anyhow::Result<ExitCode> {
    let mut answered = 0;
    let mut rows: Vec<Value> = Vec::new();
    for number in 0..args.count {
        if number > 0 {
            tokio::time::sleep(args.interval).await;
        }
        let (value, exchanges) = ask(engine, call).await?;
        answered += u32::from(exchanges.iter().any(|exchange| exchange.ok));
        match (json, value) {
            (true, Value::Array(list)) => rows.extend(list),
            (true, one) => rows.push(one),
            (false, _) => output::print(&exchanges.iter().map(probe::show).collect::<String>())?,
        }
    }
    match json {
        true => output::print_json(&rows)?,
        false => output::print(&format!("{} sent, {answered} answered\n", args.count))?,
    }
    Ok(if answered > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
