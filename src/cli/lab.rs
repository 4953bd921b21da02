//! `fwlb lab`: the sandwich in network namespaces.

mod status;
mod text;
mod traffic;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{Subcommand, ValueEnum};

use crate::cli::output;
use crate::lab::farm::{ServiceMode, WebProgram};
use crate::lab::{
    self, Engine, EngineCable, EngineFault, FirewallCable, FirewallKind, Lab, LabFarm, RoutingSetup, ServerFault, Side,
    Station, Topology,
};
use status::Status;
use text::{described, how_to_play};
use traffic::TrafficCommand;

/// The name of a lab if none is given.
const DEFAULT_NAME: &str = "fwlb";

/// Address of the console of `lab up --console`: loopback, so that it needs neither certificate nor token.
const CONSOLE_ADDRESS: &str = "127.0.0.1:9600";

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
    /// The guided tour: a firewall dies under load and comes back, then servers die, with --pairs engines too; what every
    /// session lived through
    Demo {
        #[command(flatten)]
        topology: TopologyArgs,
        /// Leave the laboratory standing at the end
        #[arg(long)]
        keep: bool,
    },
    /// Stations, engines with their roles, firewalls with their own drop counters, servers, and what was done to them
    Status,
    /// Run a command at a station: client, outer, fw1, ..., inner, s1, ..., sorry, switch
    Exec {
        /// Station
        node: String,
        /// Program and arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Break a firewall, a server or an engine: `fail fw1`, `fail s1`, `fail server s1 sick`, `fail outer`
    Fail {
        /// fw1, fw2, ..., s1, s2, ..., sorry, outer, inner, outer-a, ...; the words `firewall`, `server` and `engine`
        /// may stand before it. A server takes one more word: link (its cable is cut, as of a firewall; the default),
        /// kill (its programs), silent (it drops everything) or sick (every page is a 503). So does an engine: kill
        /// (the default), hang (its process is stopped), link (its cables are cut) or silent (the switches drop its
        /// frames, and it keeps its carrier)
        #[arg(value_name = "NAME [HOW]", required = true, num_args = 1..=3)]
        words: Vec<String>,
        /// Only one cable of a firewall (outer, inner) or of an engine (clients, firewalls, servers, sync): half dead
        #[arg(long)]
        leg: Option<LegArg>,
    },
    /// Undo what was done to a firewall, a server or an engine
    Heal {
        /// As for fail
        #[arg(value_name = "NAME", required = true, num_args = 1..=2)]
        words: Vec<String>,
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
    #[arg(long, default_value_t = 3)]
    servers: u8,
    /// Weights of the servers s1, s2, ...; 1 where there is none
    #[arg(long, value_delimiter = ',', default_value = "2", value_name = "WEIGHT,...")]
    weights: Vec<u16>,
    /// How the services reach their servers
    #[arg(long, value_enum, default_value = "nat")]
    mode: ModeArg,
    /// Who shows the pages; by default nginx where it is installed
    #[arg(long, value_enum)]
    web: Option<WebArg>,
    /// Servers without virtual services: the firewalls only
    #[arg(long)]
    no_services: bool,
    /// No firewalls: one engine between clients and servers, a plain server load balancer
    #[arg(long, conflicts_with_all = ["one_box", "without_fwlb", "no_services", "firewalls", "kind"])]
    plain: bool,
    /// Two engines on each side, one of them active: outer-a and outer-b, inner-a and inner-b
    #[arg(long, conflicts_with_all = ["one_box", "without_fwlb", "plain"])]
    pairs: bool,
    /// Both engines in one process
    #[arg(long)]
    one_box: bool,
    /// No fwlb: the kernel routes through firewall 1 toward the servers and through the last one back, to see the fault
    #[arg(long, conflicts_with = "one_box")]
    without_fwlb: bool,
    /// Serve the web console at 127.0.0.1:9600 of each engine's namespace
    #[arg(long, conflicts_with = "without_fwlb")]
    console: bool,
    /// A setting for all engines, as in group.on-failure=reset or limits.sessions=10000
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
enum ModeArg {
    Nat,
    FullNat,
    Direct,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WebArg {
    Nginx,
    BuiltIn,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LegArg {
    Outer,
    Inner,
    Clients,
    Firewalls,
    Servers,
    Sync,
}

/// Runs `fwlb lab …`.
///
/// # Errors
/// The command failed; the message says what to do.
pub fn run(args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let open = || Lab::open(&args.name, &program);
    match &args.command {
        LabCommand::Up(topology) => {
            let mut lab = Lab::up(topology.build(&args.name)?, &program)?;
            lab.keep();
            match json {
                true => output::print_json(&described(&lab))?,
                false => output::print(&how_to_play(&lab))?,
            }
        }
        LabCommand::Demo { topology, keep } => return demo(&topology.build(&args.name)?, &program, *keep),
        LabCommand::Status => {
            let status = Status::of(&open()?)?;
            match json {
                true => output::print_json(&status)?,
                false => output::print(&status.show())?,
            }
        }
        LabCommand::Exec { node, command } => {
            let lab = open()?;
            let node = lab.topology().station(node)?;
            let (program, arguments) = command.split_first().context("give a command after --")?;
            let status = lab.command(node, program).args(arguments).status().context("cannot run ip netns exec")?;
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)));
        }
        LabCommand::Fail { words, leg } => fail(&mut open()?, words, *leg)?,
        LabCommand::Heal { words } => {
            let mut lab = open()?;
            match subject(&lab, words)? {
                (Subject::Firewall(number), None) => lab.heal(number)?,
                (Subject::Server(node), None) => lab.heal_server(node)?,
                (Subject::Engine(engine), None) => lab.heal_engine(engine)?,
                (_, Some(word)) => anyhow::bail!("heal undoes everything, it takes no {word:?}"),
            }
        }
        LabCommand::Down => lab::remove(&args.name)?,
        LabCommand::Traffic { program } => return traffic::run(program),
    }
    Ok(ExitCode::SUCCESS)
}

/// What can be broken and healed.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Firewall(u8),
    Server(Station),
    Engine(Engine),
}

/// Parses `fw1`, `firewall fw1`, `s1 sick`, `engine outer-a hang`: the subject, and the word behind it.
fn subject<'a>(lab: &Lab, words: &'a [String]) -> anyhow::Result<(Subject, Option<&'a str>)> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let topology = lab.topology();
    let (subject, rest) = match words.as_slice() {
        ["firewall", name, rest @ ..] => (Subject::Firewall(topology.firewall(name)?), rest),
        ["server" | "engine", name, rest @ ..] => (server_or_engine(topology, name)?, rest),
        [name, rest @ ..] => match topology.firewall(name) {
            Ok(number) => (Subject::Firewall(number), rest),
            Err(_) => (server_or_engine(topology, name)?, rest),
        },
        [] => anyhow::bail!("name a firewall, a server or an engine, as in fw1, s1 or outer"),
    };
    match rest {
        [] => Ok((subject, None)),
        [word] => Ok((subject, Some(word))),
        [_, word, ..] => anyhow::bail!("one word too many: {word:?}"),
    }
}

fn server_or_engine(topology: &Topology, name: &str) -> anyhow::Result<Subject> {
    match topology.station(name)? {
        node @ (Station::Server(_) | Station::Sorry) => Ok(Subject::Server(node)),
        Station::Outer => Ok(Subject::Engine(Side::Outer.into())),
        Station::Inner => Ok(Subject::Engine(Side::Inner.into())),
        Station::Node(side, node) => Ok(Subject::Engine(Engine { side, node: Some(node) })),
        node @ (Station::Client | Station::Firewall(_) | Station::Switch) => {
            anyhow::bail!("{node} is neither a firewall nor a server nor an engine")
        }
    }
}

fn fail(lab: &mut Lab, words: &[String], leg: Option<LegArg>) -> anyhow::Result<()> {
    let (subject, how) = subject(lab, words)?;
    match (subject, how, leg) {
        (Subject::Firewall(number), None | Some("link"), leg) => {
            let leg = match leg {
                None => FirewallCable::Both,
                Some(LegArg::Outer) => FirewallCable::Outer,
                Some(LegArg::Inner) => FirewallCable::Inner,
                Some(LegArg::Clients | LegArg::Firewalls | LegArg::Servers | LegArg::Sync) => {
                    anyhow::bail!("a firewall has the cables outer and inner")
                }
            };
            lab.fail(number, leg)?;
        }
        (Subject::Firewall(_), Some(how), _) => {
            anyhow::bail!("a firewall fails by its cables (--leg outer|inner for one of them), not by {how:?}")
        }
        (Subject::Engine(engine), how, leg) => fail_engine(lab, engine, how, leg)?,
        (Subject::Server(_), _, Some(_)) => anyhow::bail!("--leg is for firewalls and engines: a server has one cable"),
        (Subject::Server(node), how, None) => {
            let harm = match how {
                None | Some("link") => ServerFault::Unplugged,
                Some("kill") => ServerFault::Killed,
                Some("silent") => ServerFault::Silent,
                Some("sick") => ServerFault::Sick,
                Some(other) => anyhow::bail!("a server fails by link, kill, silent or sick, not by {other:?}"),
            };
            lab.fail_server(node, harm)?;
        }
    }
    Ok(())
}

fn fail_engine(lab: &mut Lab, engine: Engine, how: Option<&str>, leg: Option<LegArg>) -> anyhow::Result<()> {
    let fault: fn(EngineCable) -> EngineFault = match (how, leg) {
        (None | Some("kill"), None) => return Ok(lab.fail_engine(engine, EngineFault::Killed)?),
        (Some("hang"), None) => return Ok(lab.fail_engine(engine, EngineFault::Hung)?),
        (Some("kill" | "hang"), Some(_)) => anyhow::bail!("--leg goes with link or silent: a process has no cable"),
        (None | Some("link"), _) => EngineFault::Unplugged,
        (Some("silent"), _) => EngineFault::Silent,
        (Some(other), _) => anyhow::bail!("an engine fails by kill, hang, link or silent, not by {other:?}"),
    };
    let cables = match leg {
        None => lab.engine_cables(engine),
        Some(LegArg::Clients) => vec![EngineCable::Clients],
        Some(LegArg::Firewalls) => vec![EngineCable::Firewalls],
        Some(LegArg::Servers) => vec![EngineCable::Servers],
        Some(LegArg::Sync) => vec![EngineCable::Sync],
        Some(LegArg::Outer | LegArg::Inner) => {
            let has: Vec<_> = lab.engine_cables(engine).into_iter().map(EngineCable::word).collect();
            anyhow::bail!("{engine} has the cables {}", has.join(", "));
        }
    };
    cables.into_iter().try_for_each(|cable| lab.fail_engine(engine, fault(cable)))?;
    Ok(())
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
        let (routers, firewalls) = match (self.one_box, self.without_fwlb, self.plain, self.pairs) {
            (true, _, _, _) => (RoutingSetup::OneBox, self.firewalls),
            (_, true, _, _) => (RoutingSetup::Kernel { outer: 1, inner: self.firewalls }, self.firewalls),
            (_, _, true, _) => (RoutingSetup::Single, 0),
            (_, _, _, true) => (RoutingSetup::Pairs, self.firewalls),
            (false, false, false, false) => (RoutingSetup::Engines, self.firewalls),
        };
        let farm = (!self.no_services && !self.without_fwlb).then(|| self.farm());
        let mut topology = Topology { firewalls, kind, servers: self.servers, routers, farm, ..Topology::new(name) };
        if self.console {
            topology = topology.with("api", "listen", CONSOLE_ADDRESS);
        }
        for setting in &self.set {
            let (section, key, value) = parse_setting(setting).with_context(|| {
                format!("--set wants SECTION.KEY=VALUE, as in group.on-failure=reset, not {setting:?}")
            })?;
            topology = topology.with(section, key, value);
        }
        topology.validate()?;
        Ok(topology)
    }

    fn farm(&self) -> LabFarm {
        let mode = match self.mode {
            ModeArg::Nat => ServiceMode::Nat,
            ModeArg::FullNat => ServiceMode::FullNat,
            ModeArg::Direct => ServiceMode::Direct,
        };
        let program = match self.web {
            None => WebProgram::of_this_machine(),
            Some(WebArg::Nginx) => WebProgram::Nginx,
            Some(WebArg::BuiltIn) => WebProgram::BuiltIn,
        };
        LabFarm { mode, weights: self.weights.clone(), program }
    }
}

/// Parses `group.check.fall=3` as section `group.check`, key `fall`; a value that is not valid TOML is taken as text.
fn parse_setting(text: &str) -> Option<(&str, &str, toml::Value)> {
    let (name, value) = text.split_once('=')?;
    let (section, key) = name.rsplit_once('.')?;
    let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    Some((section, key, parsed.unwrap_or_else(|| value.into())))
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
    lab::demo::validate(topology)?;
    let topology = lab::demo::topology(topology.clone());
    print!("{}", lab::demo::wrap(&text::building(&topology), 0));
    let mut lab = Lab::up(topology, program)?;
    let story = lab::demo::run(&mut lab, &mut lab::demo::Screen::stdout(), &stop)?;
    let live = story.servers.as_ref().and_then(|report| report.explained.clone());
    if let Some((words, answer)) = live {
        println!("\nfwlb {words}\n\n{answer}");
    } else if let Some((protocol, source, destination)) =
        story.firewalls.as_ref().and_then(|report| report.example.clone())
    {
        let words = ["explain", &protocol, &source, &destination];
        println!("\nfwlb {}\n\n{}", words.join(" "), lab.fwlb(Side::Outer, &words)?);
    }
    let promises = story.promises();
    print!("\n{}", lab::demo::promises(promises.iter().copied()));
    if keep {
        lab.keep();
        print!("{}", how_to_play(&lab));
    } else {
        lab.down()?;
    }
    let broken = promises.iter().filter(|promise| !promise.kept).count();
    println!("\n{} promises kept, {broken} broken", promises.len() - broken);
    if let Some(starved) = story.starved.as_ref().filter(|_| broken > 0) {
        print!("\n{}", lab::demo::wrap(starved, 0));
    }
    Ok(if story.kept() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
