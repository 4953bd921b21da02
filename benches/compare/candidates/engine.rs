//! This program: the binary of the release profile with a real configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::ground::{self, run};
use crate::lane::{FAR, GEN, Lane, NEAR, SERVERS, SINK, VIP};
use crate::placement::DUT_CORE;
use crate::process::Process;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fwlb");

/// The task of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// The outer engine of a sandwich: each flow is pinned to a firewall.
    Pin,
    /// A server load balancer that translates addresses.
    Balance,
}

/// The configuration of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engine {
    /// Its task.
    pub duty: Duty,
    /// `io`.
    pub io: &'static str,
    /// `busy-poll`.
    pub busy_poll: bool,
}

impl Engine {
    /// The default configuration for a task.
    pub const fn new(duty: Duty) -> Self {
        Self { duty, io: "af-packet", busy_poll: false }
    }
}

/// Room for 1 M sessions and those of probes and neighbours.
const SESSIONS: u32 = 1_100_000;

/// Whether `fwlb check` accepts the value of `io`; the error has its output.
pub fn accepts(engine: Engine, directory: &Path) -> Result<()> {
    let path = directory.join("check.toml");
    std::fs::write(&path, configuration("check", engine, "eth0", "eth1", directory))?;
    let output = Command::new(PROGRAM).arg("check").arg(&path).output().context("cannot start fwlb")?;
    let words = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
    anyhow::ensure!(output.status.success(), "not available: {words}");
    Ok(())
}

/// Starts the engine and waits until it answers.
pub(super) fn start(lane: &Lane, engine: Engine, directory: &Path) -> Result<Process> {
    let name = name(lane);
    let path = directory.join(format!("{name}.toml"));
    std::fs::write(&path, configuration(&name, engine, &lane.near, &lane.far, directory))?;
    let words = ["run", &path.to_string_lossy()];
    let mut process = Process::start(directory, &lane.dut, DUT_CORE, Path::new(PROGRAM), &words)?;
    ground::wait_until(15_000, "fwlb does not answer", || {
        process.lives()?;
        Ok(sessions(lane, directory).is_ok())
    })?;
    // The engine probes its neighbours first.
    ground::pause(200)?;
    Ok(process)
}

/// Number of live sessions.
pub(super) fn sessions(lane: &Lane, directory: &Path) -> Result<u64> {
    let socket = socket(&name(lane), directory);
    let answer = run(PROGRAM, &["-s", &socket.to_string_lossy(), "show", "status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&answer).context("fwlb show status --json")?;
    status["sessions"].as_u64().with_context(|| format!("no sessions in {answer}"))
}

fn name(lane: &Lane) -> String {
    lane.dut.name().to_owned()
}

fn socket(name: &str, directory: &Path) -> PathBuf {
    directory.join(format!("{name}.sock"))
}

fn configuration(name: &str, engine: Engine, near: &str, far: &str, directory: &Path) -> String {
    let Engine { duty, io, busy_poll } = engine;
    let (socket, state) = (socket(name, directory), directory.join(format!("{name}.state")));
    let (socket, state) = (socket.display(), state.display());
    let head = format!(
        r#"
[engine]
name      = "{name}"
workers   = 1
io        = "{io}"
busy-poll = {busy_poll}
control   = "{socket}"
state     = "{state}"

[limits]
sessions = {SESSIONS}

# Sessions stand while others have their turn; what is closed makes room for the next, as it does with every other candidate.
[timeouts]
udp-new     = "1h"
udp         = "1h"
tcp-closing = "1s"

[[link]]
name      = "clients"
device    = "{near}"
addresses = "{NEAR}/16"

[[link]]
name      = "behind"
device    = "{far}"
addresses = "{FAR}/16"

[[route]]
to  = "100.64.0.0/10"
via = "{GEN}"
"#
    );
    let duty = match duty {
        Duty::Pin => format!(
            r#"
[[route]]
to    = "10.3.0.0/16"
group = "perimeter"

[[group]]
name = "perimeter"
seed = "the benchmark's own seed"

[[group.peer]]
name      = "inner"
addresses = "10.4.0.1"

[group.check]
kind = "none"

[[group.firewall]]
name      = "fw1"
link      = "behind"
addresses = "{SINK}"
"#
        ),
        Duty::Balance => {
            let servers: String = SERVERS
                .iter()
                .enumerate()
                .map(|(number, address)| {
                    format!("\n[[service.server]]\nname    = \"s{number}\"\naddress = \"{address}\"\n")
                })
                .collect();
            format!(
                r#"
[[route]]
to  = "10.3.0.0/16"
via = "{SINK}"

[[service]]
name      = "all"
address   = "{VIP}"
protocol  = ["tcp", "udp"]
port      = "any"
scheduler = "hash"
hash-on   = ["source-address", "source-port"]

[service.check]
kind = "none"
{servers}"#
            )
        }
    };
    head + &duty
}
