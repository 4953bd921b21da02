//! The lab: the sandwich in network namespaces, with real packets and the kernel's own firewalls.
//!
//! ```text
//!  client ──── outer ──┬── fw1 ──┬── inner ──┬── s1
//!              (fwlb)  └── fw2 ──┘   (fwlb)  └── s2
//! ```
//!
//! With [`RoutingSetup::Pairs`] each side has two engines, which are one virtual router: `outer-a` and `outer-b`, `inner-a`
//! and `inner-b`.
//!
//! [`Topology`] says what to build, and [`blueprint`] turns it into commands of `ip`, `nft` and `sysctl`. [`Lab`] runs
//! them, starts engines and servers, breaks and heals firewalls, and removes everything again. [`traffic`] has the
//! programs that make flows; [`demo`] is the guided tour.
//!
//! Nothing here decides about a packet. All traffic stays in the lab's own namespaces; the caller's namespace is never
//! touched.

pub mod blueprint;
pub mod command;
pub mod configuration;
pub mod demo;
mod engine_faults;
mod engines;
mod error;
pub mod farm;
mod processes;
mod servers;
pub mod topology;
pub mod traffic;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tokio::time::Instant;

pub use blueprint::{EngineCable, FirewallCable};
use command::Command;
pub use configuration::configuration;
pub use engine_faults::EngineFault;
pub use engines::Stop;
pub use error::LabError;
pub use farm::{LabFarm, ServiceMode, WebProgram};
pub use servers::{ServerFault, ServerStatus};
pub use topology::{Engine, FirewallKind, PairNode, RoutingSetup, Side, Station, Topology};

/// Directory of all labs, with a directory for each.
pub const LABS_DIRECTORY: &str = "/run/fwlb-lab";

/// Time within which all firewalls of the engines must be up.
const ENGINES_READY_TIMEOUT: Duration = Duration::from_secs(15);
/// Time within which a process must end after a signal.
const PROCESS_END_TIMEOUT: Duration = Duration::from_secs(3);

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    directory: PathBuf,
    program: PathBuf,
    children: BTreeMap<String, Child>,
    keep: bool,
}

/// Counters of a firewall's own rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FirewallTotals {
    /// Packets dropped because conntrack calls them invalid.
    pub invalid: u64,
    /// Packets dropped because a new TCP flow does not begin with a SYN.
    pub new_not_syn: u64,
    /// Packets passed.
    pub passed: u64,
}

impl Lab {
    /// Builds a lab, starts `program` as its engines and servers, and waits until every firewall is up on both sides.
    /// The lab is removed when the value is dropped, also during a panic, unless [`Lab::keep`] was called.
    ///
    /// # Errors
    /// The process is not root, a lab of that name exists, a command fails, or the engines do not become ready. Nothing
    /// is left behind then.
    pub fn up(topology: Topology, program: &Path) -> Result<Self, LabError> {
        let mut lab = Self::build(topology, program)?;
        match lab.topology.routers {
            RoutingSetup::Engines | RoutingSetup::Pairs | RoutingSetup::OneBox | RoutingSetup::Single => {
                lab.start_engines()?;
                lab.wait_for_roles(ENGINES_READY_TIMEOUT)?;
                lab.wait_for_firewalls(ENGINES_READY_TIMEOUT)?;
                lab.wait_for_servers(ENGINES_READY_TIMEOUT)?;
            }
            RoutingSetup::Kernel { .. } => {}
        }
        Ok(lab)
    }

    /// As [`Lab::up`], without the engines: namespaces, firewalls and servers only.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn build(topology: Topology, program: &Path) -> Result<Self, LabError> {
        topology.validate()?;
        require_root()?;
        let directory = Path::new(LABS_DIRECTORY).join(&topology.name);
        configuration::check(&topology, &directory.display().to_string())?;
        if directory.exists() || !namespaces(&topology.name)?.is_empty() {
            return Err(LabError::Exists(topology.name));
        }
        let state = directory.join("state");
        fs::create_dir_all(&state).map_err(|source| LabError::File { path: state, source })?;
        // From here on a failure drops the value, which removes what was built so far.
        let mut lab = Self { topology, directory, program: program.to_owned(), children: BTreeMap::new(), keep: false };
        let description = serde_json::to_string_pretty(&lab.topology).expect("plain data");
        lab.write("lab.json", &description)?;
        lab.write_keys()?;
        for command in blueprint::build(&lab.topology) {
            command.run()?;
        }
        lab.start_servers()?;
        Ok(lab)
    }

    /// Opens the lab called `name`, which another process built and kept.
    ///
    /// # Errors
    /// There is none.
    pub fn open(name: &str, program: &Path) -> Result<Self, LabError> {
        if !topology::is_lab_name(name) {
            return Err(LabError::Missing(name.to_owned()));
        }
        let directory = Path::new(LABS_DIRECTORY).join(name);
        let path = directory.join("lab.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LabError::Missing(name.to_owned())),
            Err(source) => return Err(LabError::File { path, source }),
        };
        let topology = serde_json::from_str(&text)
            .map_err(|error| LabError::Answer { what: path.display().to_string(), answer: error.to_string() })?;
        Ok(Self { topology, directory, program: program.to_owned(), children: BTreeMap::new(), keep: true })
    }

    /// Keeps the lab when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// The topology of the lab.
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Directory of its files: configurations, sockets, logs, state.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Control socket of an engine.
    pub fn socket(&self, engine: impl Into<Engine>) -> PathBuf {
        self.directory.join(format!("{}.sock", engine.into()))
    }

    /// Configuration file of an engine.
    pub fn configuration_file(&self, engine: impl Into<Engine>) -> PathBuf {
        self.directory.join(format!("{}.toml", engine.into()))
    }

    /// A command that will run at a station.
    pub fn command(&self, node: Station, program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.topology.namespace(node)]).arg(program);
        command
    }

    /// Runs a command at a station and returns its output.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub fn exec(&self, node: Station, words: &[&str]) -> Result<String, LabError> {
        let namespace = self.topology.namespace(node);
        Command::new(["ip", "netns", "exec", &namespace].iter().chain(words).copied()).run()
    }

    /// A traffic program at a station, by the lab's own binary. It has priority over ordinary programs of the machine:
    /// a host without time to read its socket would lose datagrams, and the engines would be blamed.
    pub fn traffic(&self, node: Station) -> std::process::Command {
        let mut command = self.command(node, "nice");
        command.args(["-n", "-10"]).arg(&self.program).args(["lab", "traffic"]);
        command
    }

    /// Cuts a firewall's cables.
    ///
    /// # Errors
    /// `ip` fails, or the paths are VLANs and have no cables of their own.
    pub fn fail(&self, firewall: u8, leg: FirewallCable) -> Result<(), LabError> {
        self.cable(firewall, leg, false)
    }

    /// Restores a firewall's cables.
    ///
    /// # Errors
    /// As [`Lab::fail`].
    pub fn heal(&self, firewall: u8) -> Result<(), LabError> {
        self.cable(firewall, FirewallCable::Both, true)
    }

    fn cable(&self, firewall: u8, leg: FirewallCable, up: bool) -> Result<(), LabError> {
        if self.topology.kind == FirewallKind::Vlan {
            return Err(LabError::Topology("paths that are VLANs of one trunk have no cable of their own".to_owned()));
        }
        blueprint::cable(&self.topology, firewall, leg, up).iter().try_for_each(|command| command.run().map(drop))
    }

    /// The cut cables of a firewall: `outer`, `inner`.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn cut(&self, firewall: u8) -> Result<Vec<&'static str>, LabError> {
        let mut cut = Vec::new();
        for side in Side::BOTH {
            let Some((namespace, device)) = blueprint::cable_end(&self.topology, firewall, side) else { continue };
            let shown = Command::new(["ip", "-n", &namespace, "-o", "link", "show", &device]).run()?;
            if !is_set_up(&shown) {
                cut.push(side.engine());
            }
        }
        Ok(cut)
    }

    /// Turns a firewall off and on again, so that it forgets every flow and its counters.
    ///
    /// # Errors
    /// A command fails.
    pub fn reboot(&self, firewall: u8) -> Result<(), LabError> {
        let namespace = self.topology.namespace(Station::Firewall(firewall));
        Command::new(["ip", "netns", "del", &namespace]).run()?;
        // The kernel removes the cables a moment after the namespace.
        let switch = self.topology.namespace(Station::Switch);
        let port = format!("fw{firewall}-outer");
        let deadline = Instant::now() + PROCESS_END_TIMEOUT;
        while Command::new(["ip", "-n", &switch, "link", "show", &port]).output()?.status.success() {
            if Instant::now() > deadline {
                return Err(LabError::Topology(format!("port {port} stays after its firewall is gone")));
            }
            pause(Duration::from_millis(20));
        }
        blueprint::firewall(&self.topology, firewall).iter().try_for_each(|command| command.run().map(drop))
    }

    /// The counters of a firewall; all zero if the paths are VLANs and there is no firewall.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn firewall_totals(&self, firewall: u8) -> Result<FirewallTotals, LabError> {
        if self.topology.kind == FirewallKind::Vlan {
            return Ok(FirewallTotals::default());
        }
        let answer = self.exec(Station::Firewall(firewall), &["nft", "-j", "list", "counters"])?;
        parse_counters(&answer).ok_or_else(|| LabError::Answer { what: format!("nft in fw{firewall}"), answer })
    }

    /// The counters of every firewall, by its name.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn all_firewall_totals(&self) -> Result<Vec<(String, FirewallTotals)>, LabError> {
        let firewalls = 1..=self.topology().firewalls;
        firewalls.map(|number| Ok((format!("fw{number}"), self.firewall_totals(number)?))).collect()
    }

    /// Removes this lab.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        // The result is returned here, so `drop` has nothing left to do.
        self.keep = true;
        self.remove()
    }

    fn remove(&mut self) -> Result<(), LabError> {
        let removed = remove(&self.topology.name);
        // Killed above; waiting for them leaves no zombies.
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
        removed
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LabError> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|source| LabError::File { path, source })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep {
            // Nobody is left to report it to; `fwlb lab down` finds what could not be removed.
            let _ = self.remove();
        }
    }
}

/// Removes everything of the lab called `name`: the processes in its namespaces, the namespaces, and its directory. It
/// also removes what a crash left behind, and does nothing if there is nothing.
///
/// # Errors
/// Something could not be removed.
pub fn remove(name: &str) -> Result<(), LabError> {
    if !topology::is_lab_name(name) {
        return Err(LabError::Missing(name.to_owned()));
    }
    require_root()?;
    let namespaces = namespaces(name)?;
    let deadline = Instant::now() + PROCESS_END_TIMEOUT;
    for namespace in &namespaces {
        loop {
            let pids = Command::new(["ip", "netns", "pids", namespace]).run().unwrap_or_default();
            let pids: Vec<_> = pids.split_whitespace().collect();
            if pids.is_empty() || Instant::now() > deadline {
                break;
            }
            // One may have ended in the meantime, which the next look shows.
            let _ = Command::new(["kill", "-9"].iter().chain(&pids).copied()).output()?;
            pause(Duration::from_millis(10));
        }
    }
    for namespace in &namespaces {
        Command::new(["ip", "netns", "del", namespace]).run()?;
    }
    let path = Path::new(LABS_DIRECTORY).join(name);
    let removed = match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LabError::File { path, source: error }),
        Ok(()) | Err(_) => Ok(()),
    };
    // This succeeds for the last lab only; otherwise the directory is not empty.
    let _ = fs::remove_dir(LABS_DIRECTORY);
    removed
}

/// Names of the labs that exist, or of which something is left.
pub fn list() -> Vec<String> {
    let entries = fs::read_dir(LABS_DIRECTORY).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The namespaces of the lab called `name`.
fn namespaces(name: &str) -> Result<Vec<String>, LabError> {
    let prefix = format!("{name}-");
    let listed = Command::new(["ip", "netns", "list"]).run()?;
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|namespace| namespace.starts_with(&prefix)).map(String::from).collect())
}

fn require_root() -> Result<(), LabError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    if effective == Some("0") { Ok(()) } else { Err(LabError::NotRoot) }
}

/// Whether the device is up, by the flags of `ip -o link show`: `3: fw1-outer@if2: <BROADCAST,MULTICAST,UP,LOWER_UP>
/// ...`.
fn is_set_up(shown: &str) -> bool {
    let flags = shown.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    flags.is_some_and(|(flags, _)| flags.split(',').any(|flag| flag == "UP"))
}

/// Parses the output of `nft -j list counters`.
fn parse_counters(json: &str) -> Option<FirewallTotals> {
    let answer: serde_json::Value = serde_json::from_str(json).ok()?;
    let counters = answer.get("nftables")?.as_array()?;
    let packets = |name: &str| {
        let counter =
            counters.iter().filter_map(|entry| entry.get("counter")).find(|counter| counter["name"] == name)?;
        counter.get("packets")?.as_u64()
    };
    Some(FirewallTotals {
        invalid: packets("invalid")?,
        new_not_syn: packets("new_not_syn")?,
        passed: packets("passed")?,
    })
}

fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nfts_counters_are_understood() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "inet", "name": "invalid", "table": "fwlb", "handle": 1, "packets": 3, "bytes": 180}},
            {"counter": {"family": "inet", "name": "new_not_syn", "table": "fwlb", "handle": 2, "packets": 0, "bytes": 0}},
            {"counter": {"family": "inet", "name": "passed", "table": "fwlb", "handle": 3, "packets": 7, "bytes": 9}}]}"#;

        assert_eq!(parse_counters(json), Some(FirewallTotals { invalid: 3, new_not_syn: 0, passed: 7 }));
        assert_eq!(parse_counters("{}"), None);
    }

    #[test]
    fn a_device_is_set_up_by_its_own_flag_and_not_by_its_carriers() {
        assert!(is_set_up("3: fw1-outer@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP"));
        assert!(!is_set_up("3: fw1-outer@if2: <BROADCAST,MULTICAST,LOWER_UP> mtu 1500 state UP"));
        assert!(!is_set_up(""));
    }

    #[test]
    fn a_lab_that_does_not_stand_is_named() {
        let error = Lab::open("nosuchlab", Path::new("fwlb")).unwrap_err();

        assert!(error.to_string().contains("fwlb lab up --name nosuchlab"), "{error}");
        assert!(matches!(remove("../etc"), Err(LabError::Missing(_))));
    }
}
