//! The options that select sessions.

use crate::api::{SessionFilter, address_or_prefix};
use crate::cli::completions::live;
use crate::engine::view::SessionState;
use crate::flow::FlowPattern;

/// Every given part has to match.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArgs {
    /// Whose source is this address, or lies in this prefix
    #[arg(long, value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    source: Option<ipnet::IpNet>,
    /// Whose destination is this address, or lies in this prefix
    #[arg(long, value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    destination: Option<ipnet::IpNet>,
    /// From or to this address or prefix, before or after translation; may be repeated
    #[arg(long = "host", value_parser = prefix, value_name = "ADDRESS[/LENGTH]")]
    hosts: Vec<ipnet::IpNet>,
    /// From or to this port, before or after translation; may be repeated
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// Of this flow, also when it is translated: PROTO A B, either direction, ports may be left out
    #[arg(long, value_name = "FLOW")]
    flow: Option<FlowPattern>,
    /// That are pinned to this firewall
    #[arg(long, value_name = "[GROUP/]FIREWALL", add = live::firewalls())]
    firewall: Option<String>,
    /// Of this virtual service
    #[arg(long, value_name = "SERVICE", add = live::services())]
    service: Option<String>,
    /// At this real server
    #[arg(long, value_name = "[SERVICE/]SERVER", add = live::servers())]
    server: Option<String>,
    /// In this state
    #[arg(long, value_parser = SessionState::NAMES)]
    state: Option<String>,
}

impl FilterArgs {
    /// The filter as a request has it.
    pub fn filter(&self) -> SessionFilter {
        let Self { source, destination, hosts, ports, flow, firewall, service, server, state } = self.clone();
        SessionFilter { source, destination, hosts, ports, flow, firewall, service, server, state }
    }
}

/// Parses an address or a prefix.
pub fn prefix(text: &str) -> Result<ipnet::IpNet, String> {
    address_or_prefix(text).map_err(|error| error.to_string())
}
