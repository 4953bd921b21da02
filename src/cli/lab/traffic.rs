//! `fwlb lab traffic`: the laboratory's own traffic programs.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};

use crate::lab::traffic::{self, ECHO_PORT, OutputLine, PagePlan, Protocol, Serve, TrafficPlan};

#[derive(Debug, Subcommand)]
pub enum TrafficCommand {
    /// Echo on TCP and UDP, and a page
    Serve {
        /// What the page calls this host
        #[arg(long = "as", default_value = "server")]
        host: String,
        /// Echo port
        #[arg(long, default_value_t = ECHO_PORT)]
        echo: u16,
        /// Port of the pages
        #[arg(long, default_value_t = 80)]
        http: u16,
        /// Somebody else shows the pages
        #[arg(long)]
        no_pages: bool,
        /// As long as this file is there, every page is a 503
        #[arg(long)]
        sick: Option<PathBuf>,
    },
    /// Flows that ask and are answered
    Flows {
        /// tcp, udp or icmp
        #[arg(value_enum)]
        protocol: ProtocolArg,
        /// Server's address
        to: IpAddr,
        /// Server's port
        #[arg(long, default_value_t = ECHO_PORT)]
        port: u16,
        /// Flows at the same time
        #[arg(long, default_value_t = 1)]
        flows: usize,
        /// Between two requests of a flow
        #[arg(long, default_value_t = 100)]
        interval_ms: u64,
        /// Bytes of a request
        #[arg(long, default_value_t = 100)]
        size: usize,
        /// How long
        #[arg(long, default_value_t = 5_000)]
        duration_ms: u64,
        /// An answer that takes longer is lost
        #[arg(long, default_value_t = 5_000)]
        patience_ms: u64,
        /// Do not open a TCP flow again that was cut
        #[arg(long)]
        once: bool,
        /// End each TCP flow after this long and open the next
        #[arg(long)]
        life_ms: Option<u64>,
    },
    /// Page after page, each on a connection of its own
    Pages {
        /// Web server
        to: SocketAddr,
        /// Readers at the same time
        #[arg(long, default_value_t = 1)]
        readers: usize,
        /// Between two pages of a reader
        #[arg(long, default_value_t = 100)]
        interval_ms: u64,
        /// How long
        #[arg(long, default_value_t = 5_000)]
        duration_ms: u64,
        /// A page that takes longer, with all its tries, has failed
        #[arg(long, default_value_t = 5_000)]
        patience_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ProtocolArg {
    Tcp,
    Udp,
    Icmp,
}

/// Runs a traffic program.
///
/// # Errors
/// A port cannot be bound.
pub fn run(program: &TrafficCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let print = |line: &OutputLine| {
        let text = serde_json::to_string(line).expect("plain data");
        // If the reader is gone, the program ends too.
        if writeln!(std::io::stdout(), "{text}").is_err() {
            std::process::exit(1);
        }
    };
    match program {
        TrafficCommand::Serve { host, echo, http, no_pages, sick } => {
            let pages = (!no_pages).then_some(*http);
            let serve = Serve { name: host.clone(), echo: *echo, pages, sick: sick.clone() };
            runtime
                .block_on(traffic::serve(serve, |_, _| print(&OutputLine::Ready)))
                .with_context(|| format!("cannot serve on ports {echo} and {http}"))?;
        }
        TrafficCommand::Flows {
            protocol,
            to,
            port,
            flows,
            interval_ms,
            size,
            duration_ms,
            patience_ms,
            once,
            life_ms,
        } => {
            let plan = TrafficPlan {
                protocol: match protocol {
                    ProtocolArg::Tcp => Protocol::Tcp,
                    ProtocolArg::Udp => Protocol::Udp,
                    ProtocolArg::Icmp => Protocol::Icmp,
                },
                to: SocketAddr::new(*to, *port),
                flows: *flows,
                interval: Duration::from_millis(*interval_ms.max(&1)),
                size: *size.max(&8),
                duration: Duration::from_millis(*duration_ms),
                timeout: Duration::from_millis(*patience_ms),
                reopen: !*once,
                lifetime: life_ms.map(Duration::from_millis),
            };
            runtime.block_on(traffic::run(plan, print));
        }
        TrafficCommand::Pages { to, readers, interval_ms, duration_ms, patience_ms } => {
            let pages = PagePlan {
                to: *to,
                readers: *readers,
                interval: Duration::from_millis(*interval_ms.max(&1)),
                duration: Duration::from_millis(*duration_ms),
                timeout: Duration::from_millis(*patience_ms),
            };
            runtime.block_on(traffic::read_pages(pages, print));
        }
    }
    Ok(ExitCode::SUCCESS)
}
