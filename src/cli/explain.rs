//! `fwlb explain`: where a flow goes and why.

mod offline;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::api::{Answer, Request, Via, flow_text};
use crate::cli::output::{self, or_dash, table};
use crate::cli::reach::{Reach, ask, block_on};
use crate::engine::view::ExplainView;
use crate::flow::FlowKey;

/// Explain where a flow goes and why, by the engine's own code
#[derive(Debug, clap::Args)]
pub struct Args {
    /// PROTO SOURCE DESTINATION, as in: tcp 198.51.100.7:40000 203.0.113.80:80; icmp takes an identifier behind them
    #[arg(required = true, num_args = 1..=4, value_name = "FLOW")]
    flow: Vec<String>,
    /// Where it arrives: a link or GROUP/FIREWALL; default: where its source is routed
    #[arg(long, value_name = "LINK|GROUP/FIREWALL", value_parser = via)]
    from: Option<Via>,
    /// Ask a configuration file instead of a running engine, as if everything were up and no session known
    #[arg(short, long, value_name = "CONFIG", conflicts_with_all = ["socket", "engine"])]
    config: Option<PathBuf>,
}

fn via(text: &str) -> Result<Via, String> {
    text.parse().map_err(|error: crate::api::ApiError| error.to_string())
}

pub fn run(args: &Args, reach: &Reach) -> anyhow::Result<ExitCode> {
    let flow: FlowKey = flow_text::parse(&args.flow.join(" "))?;
    let (value, explained) = match &args.config {
        Some(path) => {
            let Some(explained) = offline::explain(path, &flow, args.from.as_ref())? else {
                return Ok(ExitCode::FAILURE);
            };
            (serde_json::to_value(&explained)?, explained)
        }
        None => {
            let engine = reach.engine()?;
            let (value, answer) = block_on(ask(&engine, &Request::Explain { flow, from: args.from.clone() }))??;
            let Answer::Explain(explained) = answer else { anyhow::bail!("the engine answered something else") };
            (value, explained)
        }
    };
    match reach.json {
        true => output::print_json(&value)?,
        false => output::print(&show(&explained))?,
    }
    Ok(if explained.drop.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(explained: &ExplainView) -> String {
    let mut text = format!("{} from {}\n", explained.flow, explained.from);
    // Writing to a string cannot fail.
    for sentence in &explained.story {
        let _ = writeln!(text, "  {sentence}");
    }
    let _ = writeln!(text, "decided by  {}", explained.decided_by);
    if let Some(firewall) = &explained.firewall {
        let peer = explained.peer.as_ref().map(|peer| format!(" (towards {peer})")).unwrap_or_default();
        let _ = writeln!(text, "firewall    {firewall}{peer}");
    }
    for pin in &explained.pins {
        let _ = writeln!(
            text,
            "pin         {}/{} toward {}: {}, {}",
            pin.group, pin.firewall, pin.toward, pin.pinned_by, pin.state
        );
    }
    if let Some(egress) = &explained.egress {
        let mac = egress.mac.as_ref().map(|mac| format!(" at {mac}")).unwrap_or_default();
        let _ = writeln!(text, "leaves by   {} to {}{mac}", egress.link, or_dash(egress.next_hop.as_deref()));
    }
    if let Some(drop) = &explained.drop {
        let _ = writeln!(text, "dropped     {drop}");
    }
    if !explained.candidates.is_empty() {
        let rows: Vec<_> = explained
            .candidates
            .iter()
            .map(|one| vec![one.name.clone(), one.state.clone(), one.weight.to_string(), one.score.to_string()])
            .collect();
        let _ = write!(text, "\n{}", table(&["CANDIDATE", "STATE", ">WEIGHT", ">SCORE"], &rows));
    }
    text
}
