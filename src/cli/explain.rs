//! `fwlb explain`: where a flow goes and why.

mod draw;
mod ha;
mod offline;
mod peer;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::api::{LinkOrFirewall, calls, flow_text};
use crate::cli::completions::live;
use crate::cli::engines::{EngineSelection, ask, block_on};
use crate::cli::output;
use crate::flow::FlowKey;

/// Explain where a flow goes and why, by the engine's own code
///
/// The flow may be live or never seen; nothing is stored. It is also said what would happen if the firewall, or the
/// server, that it takes died.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// PROTO SOURCE DESTINATION, as in: tcp 198.51.100.7:40000 203.0.113.80:80; icmp takes an identifier behind them
    #[arg(required = true, num_args = 1..=4, value_name = "FLOW")]
    flow: Vec<String>,
    /// Where it arrives: a link or GROUP/FIREWALL; default: where its source is routed
    #[arg(long, value_name = "LINK|GROUP/FIREWALL", value_parser = via, add = live::origins())]
    from: Option<LinkOrFirewall>,
    /// Ask a configuration file instead of a running engine, as if everything were up and no session known
    #[arg(short, long, value_name = "CONFIG", conflicts_with_all = ["socket", "engine"])]
    config: Option<PathBuf>,
    /// With --config: as if this were down; may be repeated
    #[arg(long, value_name = "GROUP/FIREWALL|SERVICE/SERVER", requires = "config")]
    down: Vec<String>,
    /// Say too what the engine behind the firewalls makes of it, and whether both agree
    #[arg(long)]
    peer: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Explain who is active in the cluster and why, in sentences
    ///
    /// By which change and which rule this node has its role, what is taken from its priority, whether the other nodes
    /// are ready and why they do not get the role, and what would happen if the active node died now. Exit status 1 if no
    /// node is known to be active.
    Ha,
}

fn via(text: &str) -> Result<LinkOrFirewall, String> {
    text.parse().map_err(|error: crate::api::ApiError| error.to_string())
}

pub fn run(args: &Args, selection: &EngineSelection) -> anyhow::Result<ExitCode> {
    if let Some(What::Ha) = args.what {
        return ha::run(selection);
    }
    let flow: FlowKey = flow_text::parse(&args.flow.join(" "))?;
    let (mut value, explained, engine) = match &args.config {
        Some(path) => {
            let Some(explained) = offline::explain(path, &flow, args.from.as_ref(), &args.down)? else {
                return Ok(ExitCode::FAILURE);
            };
            (serde_json::to_value(&explained)?, explained, None)
        }
        None => {
            let engine = selection.engine()?;
            let (value, explained) = block_on(ask(&engine, &calls::Explain { flow, from: args.from.clone() }))??;
            (value, *explained, Some(engine))
        }
    };
    let peer = args.peer.then(|| peer::of(&explained, &flow, engine.as_ref(), selection)).transpose()?;
    if selection.json {
        if let (Some(object), Some(peer)) = (value.as_object_mut(), &peer) {
            object.insert("peer_answer".to_owned(), json!(peer));
        }
        output::print_json(&value)?;
    } else {
        output::print(&draw::show(&explained, peer.as_ref()))?;
    }
    let disagrees = peer.is_some_and(|peer| peer.agrees == Some(false));
    Ok(if explained.drop.is_none() && !disagrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
