//! `fwlb lab`: the sandwich in network namespaces.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};

use crate::lab::traffic::{self, ECHO_PORT, Line, Plan, Protocol};
use crate::lab::{self, FirewallKind, Lab, Leg, Routers, Side, Topology};

/// The name of a lab that is not given one.
const DEFAULT_NAME: &str = "fwlb";

/// Build the sandwich in network namespaces, play with it, break it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the laboratory; several may stand side by side
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    name: String,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Build it, start the engines, leave it standing and say what to try
    Up(TopologyArgs),
    /// The guided tour: traffic, a firewall dies under load and comes back, what every session lived through
    Demo {
        #[command(flatten)]
        topology: TopologyArgs,
        /// Leave the laboratory standing at the end
        #[arg(long)]
        keep: bool,
    },
    /// Stations, firewalls and their own drop counters
    Status,
    /// Run a command at a station: client, outer, fw1, ..., inner, s1, ..., switch
    Exec {
        /// Station
        node: String,
        /// Program and arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Cut a firewall's cables
    Fail {
        /// fw1, fw2, ...
        firewall: String,
        /// Cut one cable only: a half-dead firewall
        #[arg(long)]
        leg: Option<LegArg>,
    },
    /// Put a firewall's cables back
    Heal {
        /// fw1, fw2, ...
        firewall: String,
    },
    /// Remove every trace of it, also after a crash
    Down,
    /// The laboratory's own traffic programs; JSON lines
    #[command(hide = true)]
    Traffic {
        #[command(subcommand)]
        program: TrafficCommand,
    },
}

#[derive(Debug, clap::Args)]
struct TopologyArgs {
    /// How many firewalls
    #[arg(long, default_value_t = 2)]
    firewalls: u8,
    /// What they are
    #[arg(long, value_enum, default_value = "strict")]
    kind: KindArg,
    /// How many servers
    #[arg(long, default_value_t = 2)]
    servers: u8,
    /// Both engines in one process
    #[arg(long)]
    one_box: bool,
    /// No fwlb: the kernel routes through firewall 1 toward the servers and through the last one back, to see the fault
    #[arg(long, conflicts_with = "one_box")]
    without_fwlb: bool,
    /// A setting for both engines, as in group.on-failure=reset or limits.sessions=10000
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    Strict,
    Loose,
    Nat,
    Transparent,
    Vlan,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LegArg {
    Outer,
    Inner,
}

#[derive(Debug, Subcommand)]
enum TrafficCommand {
    /// Echo on TCP and UDP, and a page
    Serve {
        /// What the page calls this host
        #[arg(long = "as", default_value = "server")]
        host: String,
        /// Echo port
        #[arg(long, default_value_t = ECHO_PORT)]
        echo: u16,
        /// Port of the page
        #[arg(long, default_value_t = 80)]
        http: u16,
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
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProtocolArg {
    Tcp,
    Udp,
    Icmp,
}

/// Runs `fwlb lab …`.
///
/// # Errors
/// What could not be done, in words.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let open = || Lab::open(&args.name, &program);
    match &args.command {
        LabCommand::Up(topology) => {
            let mut lab = Lab::up(topology.build(&args.name)?, &program)?;
            lab.keep();
            print!("{}", how_to_play(&lab));
        }
        LabCommand::Demo { topology, keep } => return demo(&topology.build(&args.name)?, &program, *keep),
        LabCommand::Status => print!("{}", status(&open()?)?),
        LabCommand::Exec { node, command } => {
            let lab = open()?;
            let node = lab.topology().node(node)?;
            let (program, arguments) = command.split_first().context("give a command after --")?;
            let status = lab.command(node, program).args(arguments).status().context("cannot run ip netns exec")?;
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)));
        }
        LabCommand::Fail { firewall, leg } => {
            let lab = open()?;
            let leg = match leg {
                None => Leg::Both,
                Some(LegArg::Outer) => Leg::Outer,
                Some(LegArg::Inner) => Leg::Inner,
            };
            lab.fail(lab.topology().firewall(firewall)?, leg)?;
        }
        LabCommand::Heal { firewall } => {
            let lab = open()?;
            lab.heal(lab.topology().firewall(firewall)?)?;
        }
        LabCommand::Down => lab::remove(&args.name)?,
        LabCommand::Traffic { program } => return traffic(program),
    }
    Ok(ExitCode::SUCCESS)
}

impl TopologyArgs {
    fn build(&self, name: &str) -> anyhow::Result<Topology> {
        let kind = match self.kind {
            KindArg::Strict => FirewallKind::Strict,
            KindArg::Loose => FirewallKind::Loose,
            KindArg::Nat => FirewallKind::Nat,
            KindArg::Transparent => FirewallKind::Transparent,
            KindArg::Vlan => FirewallKind::Vlan,
        };
        let routers = match (self.one_box, self.without_fwlb) {
            (true, _) => Routers::OneBox,
            (false, true) => Routers::Kernel { outer: 1, inner: self.firewalls },
            (false, false) => Routers::Engines,
        };
        let mut topology =
            Topology { firewalls: self.firewalls, kind, servers: self.servers, routers, ..Topology::new(name) };
        for setting in &self.set {
            let (section, key, value) = parse_setting(setting).with_context(|| {
                format!("--set wants SECTION.KEY=VALUE, as in group.on-failure=reset, not {setting:?}")
            })?;
            topology = topology.with(section, key, value);
        }
        topology.validate()?;
        Ok(topology)
    }
}

/// `group.check.fall=3` is section `group.check`, key `fall`; what is no TOML value is taken as text.
fn parse_setting(text: &str) -> Option<(&str, &str, toml::Value)> {
    let (name, value) = text.split_once('=')?;
    let (section, key) = name.rsplit_once('.')?;
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    Some((section, key, parsed.unwrap_or_else(|| value.into())))
}

/// What to type at a lab that stands.
fn how_to_play(lab: &Lab) -> String {
    let topology = lab.topology();
    let name = if topology.name == DEFAULT_NAME { String::new() } else { format!(" --name {}", topology.name) };
    let (v4, v6) = (topology.server(1).v4, topology.server(1).v6);
    let (outer, inner) = (lab.socket(Side::Outer), lab.socket(Side::Inner));
    format!(
        "\
Lab {lab_name} stands: client, outer (fwlb), {firewalls} firewalls, inner (fwlb), {servers} servers. Play with it:

  traffic   fwlb lab{name} exec client -- curl -s http://{v4}/
            fwlb lab{name} exec client -- curl -s 'http://[{v6}]/'
            fwlb lab{name} exec client -- ping -c 3 {v4}
            fwlb lab{name} exec client -- traceroute -n {v4}
            fwlb lab{name} exec s1 -- curl -s http://{client}/
  look      fwlb -s {outer} show firewalls
            fwlb -s {outer} show sessions
            fwlb -s {inner} show counters
            fwlb -s {outer} explain tcp {client}:40000 {v4}:80
            fwlb lab{name} status
  break     fwlb lab{name} fail fw1
            fwlb lab{name} fail fw1 --leg inner
            fwlb lab{name} heal fw1
            fwlb -s {outer} set firewall fw1 drain
  remove    fwlb lab{name} down

Configurations and logs: {directory}
",
        lab_name = topology.name,
        firewalls = topology.firewalls,
        servers = topology.servers,
        client = topology.client().v4,
        outer = outer.display(),
        inner = inner.display(),
        directory = lab.directory().display(),
    )
}

fn status(lab: &Lab) -> anyhow::Result<String> {
    let topology = lab.topology();
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["FIREWALL", "OUTER SEES", "INNER SEES", "SESSIONS", "PASSED", "INVALID", "NEW-NOT-SYN"]);
    let views = Side::BOTH.map(|side| lab.firewalls(side));
    for number in 1..=topology.firewalls {
        let name = format!("fw{number}");
        let seen = views.each_ref().map(|view| {
            view.as_ref().ok().and_then(|firewalls| firewalls.iter().find(|firewall| firewall.name == name))
        });
        let state = seen.map(|seen| seen.map_or("?", |firewall| &firewall.state).to_owned());
        let sessions = seen[0].map_or("?".to_owned(), |firewall| firewall.sessions.to_string());
        let drops = lab.drops(number)?;
        let [outer, inner] = state;
        table.add_row([
            name,
            outer,
            inner,
            sessions,
            drops.passed.to_string(),
            drops.invalid.to_string(),
            drops.new_not_syn.to_string(),
        ]);
    }
    let stations: Vec<_> = topology.nodes().into_iter().map(|node| topology.namespace(node)).collect();
    let mut text = format!("{}\n\nnamespaces: {}\n", table.trim_fmt(), stations.join(" "));
    for (side, view) in Side::BOTH.iter().zip(&views) {
        if let Err(error) = view {
            text += &format!("engine {}: {error}\n", side.engine());
        }
    }
    Ok(text)
}

/// The tour; Ctrl-C ends it and removes the lab as well.
fn demo(topology: &Topology, program: &Path, keep: bool) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.store(true, Ordering::Relaxed);
        }
    });
    let topology = lab::demo::topology(topology.clone());
    println!(
        "Building lab {}: client, outer fwlb, {} {} firewalls, inner fwlb, {} servers. on-failure is {}: a firewall that does \
         not synchronise takes the state of its TCP sessions with it.",
        topology.name,
        topology.firewalls,
        format!("{:?}", topology.kind).to_lowercase(),
        topology.servers,
        topology.settings["group"]["on-failure"],
    );
    let mut lab = Lab::up(topology, program)?;
    println!(
        "\nTraffic: TCP, UDP in datagrams of 4,000 bytes, ping; IPv4 and IPv6; from the client and from a server; long \
         sessions and short ones.\n"
    );
    let report = lab::demo::run(&lab, &mut lab::demo::Screen::stdout(), &stop)?;
    println!("\n{report}");
    if let Some((protocol, source, destination)) = &report.example {
        println!("fwlb explain {protocol} {source} {destination}\n");
        println!("{}", lab.fwlb(Side::Outer, &["explain", protocol, source, destination])?);
    }
    if keep {
        lab.keep();
        print!("{}", how_to_play(&lab));
    } else {
        lab.down()?;
    }
    let broken = report.promises.iter().filter(|promise| !promise.kept).count();
    println!("{} promises kept, {broken} broken", report.promises.len() - broken);
    Ok(if report.kept() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn traffic(program: &TrafficCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let print = |line: &Line| {
        let text = serde_json::to_string(line).expect("plain data");
        // Whoever reads may have gone; then so do we.
        if writeln!(std::io::stdout(), "{text}").is_err() {
            std::process::exit(1);
        }
    };
    match program {
        TrafficCommand::Serve { host, echo, http } => {
            runtime
                .block_on(traffic::serve(host.clone(), *echo, *http, |_, _| print(&Line::Ready)))
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
            let plan = Plan {
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
                patience: Duration::from_millis(*patience_ms),
                reopen: !*once,
                life: life_ms.map(Duration::from_millis),
            };
            runtime.block_on(traffic::run(plan, print));
        }
    }
    Ok(ExitCode::SUCCESS)
}
