//! `fwlb ping`: pings from the engine, whose addresses the kernel's ping cannot use.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::api::{Answer, LinkOrFirewall, Request};
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

pub fn run(args: &Args, reach: &EngineSelection) -> anyhow::Result<ExitCode> {
    let engine = reach.engine()?;
    let via = match (&args.link, &args.firewall) {
        (Some(link), _) => Some(LinkOrFirewall::Link(link.clone())),
        (None, Some(firewall)) => Some(LinkOrFirewall::Firewall(firewall.clone())),
        (None, None) => None,
    };
    block_on(exchanges(args, &engine, &Request::Ping { address: args.address, via }, reach.json))?
}

/// Returns exit status 0 if any ping was answered, as ping(8).
async fn exchanges(args: &Args, engine: &Engine, request: &Request, json: bool) -> anyhow::Result<ExitCode> {
    let mut answered = 0;
    let mut rows: Vec<Value> = Vec::new();
    for number in 0..args.count {
        if number > 0 {
            tokio::time::sleep(args.interval).await;
        }
        let (value, answer) = ask(engine, request).await?;
        let Answer::Exchanges(exchanges) = &answer else { anyhow::bail!("the engine answered something else") };
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
