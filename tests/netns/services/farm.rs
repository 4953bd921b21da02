//! One engine between clients and servers, without firewalls.
//!
//! ```text
//!   two arms:   client ── br-clients ── lb ── br-farm ── s1, s2, ...       the servers' gateway is the engine
//!   one arm:    client ── br-clients ── router ── br-farm ── lb, s1, ...   the servers' gateway is the router
//! ```

mod engine;
mod wiring;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use fwlb::lab::command::Command;
use fwlb::lab::{self, LABS_DIRECTORY};

pub use self::engine::Engine;
use super::host::Connection;
use crate::ground::{FWLB, ground, netns_list, said};
use crate::withheld::Withheld;

/// The addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    V4,
    V6,
}

/// Both families: every promise holds for each of them.
pub const NETS: [Net; 2] = [Net::V4, Net::V6];

impl Net {
    fn pick(self, v4: String, v6: String) -> IpAddr {
        let text = match self {
            Self::V4 => v4,
            Self::V6 => v6,
        };
        text.parse().unwrap_or_else(|_| panic!("an address, not {text}"))
    }

    /// An address of the client, which has numbers 7 and 100..=139.
    pub fn client(self, number: u8) -> IpAddr {
        self.pick(format!("198.51.100.{number}"), format!("2001:db8:1::{number}"))
    }

    /// An address in the servers' subnet: server N has number 10 + N, the engine 1, the router 254; VIPs and `snat` are
    /// in between.
    pub fn farm(self, number: u8) -> IpAddr {
        self.pick(format!("10.10.20.{number}"), format!("fd00:20::{number}"))
    }

    /// An address that is routed to the engine and is in no subnet.
    pub fn vip(self, number: u8) -> IpAddr {
        self.pick(format!("203.0.113.{number}"), format!("2001:db8:113::{number}"))
    }

    /// The address in the form of a URL.
    pub fn url(self, address: IpAddr) -> String {
        match self {
            Self::V4 => format!("http://{address}"),
            Self::V6 => format!("http://[{address}]"),
        }
    }
}

/// The position of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arms {
    One,
    Two,
}

/// A farm to build.
pub struct Plan {
    pub arms: Arms,
    pub servers: u8,
    /// The engine's `mtu` of the farm's link; `None`: the device's.
    pub link_mtu: Option<u16>,
    /// Packet workers of the engine.
    pub workers: u8,
    /// The rest of the configuration file: `[[service]]` and so on.
    pub text: String,
}

impl Plan {
    /// A plan with two arms.
    pub fn new(servers: u8, text: impl Into<String>) -> Self {
        Self { arms: Arms::Two, servers, link_mtu: None, workers: 1, text: text.into() }
    }
}

/// `name = "N", address = [...]` for server N in both families.
pub fn server(number: u8, more: &str) -> String {
    let [v4, v6] = NETS.map(|net| net.farm(10 + number));
    format!("\n[[service.server]]\nname = \"s{number}\"\naddress = [\"{v4}\", \"{v6}\"]\n{more}\n")
}

/// A `[[service]]` of TCP, unless `more` says otherwise, with the VIP of this number in both families and the servers
/// `s1` to `s<servers>`.
pub fn service(name: &str, vip: u8, port: u16, more: &str, servers: u8) -> String {
    let [v4, v6] = NETS.map(|net| net.vip(vip));
    let protocol = if more.contains("protocol = ") { "" } else { "protocol = \"tcp\"\n" };
    let head =
        format!("\n[[service]]\nname = \"{name}\"\naddress = [\"{v4}\", \"{v6}\"]\n{protocol}port = {port}\n{more}\n");
    (1..=servers).fold(head, |text, number| text + &server(number, ""))
}

/// A check that notices a change within half a second.
pub const QUICK: &str = "interval = \"200ms\"\ntimeout = \"150ms\"\nfall = 2\nrise = 1";

/// A running farm.
pub struct Farm {
    name: String,
    directory: PathBuf,
    plan: Plan,
    engine: Engine,
    process: Option<Child>,
}

/// Builds the farm, runs its engine and `test`, asserts that the engine's counters add up, and removes everything.
pub fn farm(plan: Plan, test: impl FnOnce(&mut Farm)) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(_alone) = ground() else { return };
    let name = format!("t{:x}xf{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let directory = Path::new(LABS_DIRECTORY).join(&name);
    let engine = Engine { socket: directory.join("lb.sock") };
    let mut farm = Farm { name: name.clone(), directory, plan, engine, process: None };
    farm.build();
    farm.start();

    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&mut farm))) {
        farm.tell();
        resume_unwind(panic);
    }

    farm.assert_counters_add_up();
    let log = farm.log();
    assert!(!log.contains("panicked"), "{log}");
    drop(farm);
    assert!(!netns_list().contains(&name), "a namespace was left behind");
}

impl Farm {
    pub fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// The namespace of `client`, `lb`, `router`, `s1`, ...
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// Runs a command at a host that has to succeed.
    #[track_caller]
    pub fn exec(&self, host: &str, words: &str) -> String {
        let output = self.output(host, &words.split_whitespace().collect::<Vec<_>>());
        assert!(output.status.success(), "{words} at {host}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command at a host, whatever its result.
    pub fn output(&self, host: &str, words: &[&str]) -> Output {
        self.command(host, words[0]).args(&words[1..]).stdin(Stdio::null()).output().expect("ip netns exec runs")
    }

    /// A command that will run at a host.
    pub fn command(&self, host: &str, program: &str) -> std::process::Command {
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// Plugs a host's cable in or out.
    pub fn plug(&self, host: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        self.ip("switch", &[format!("link set {host} {state}")]);
    }

    /// Changes of `nft` in a host.
    pub fn nft(&self, host: &str, rules: &str) {
        Command::nft(&self.namespace(host), format!("{rules}\n")).run().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs nginx at a host with these `server` blocks, until it is dropped.
    pub fn nginx(&self, host: &str, servers: &str) -> Nginx {
        let prefix = self.directory.join(format!("nginx-{host}"));
        std::fs::create_dir_all(&prefix).expect("may be made");
        let at = prefix.display();
        let configuration = format!(
            "daemon off; master_process off; user root; pid {at}/pid; error_log {at}/error.log;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {at}; proxy_temp_path {at};
                 fastcgi_temp_path {at}; uwsgi_temp_path {at}; scgi_temp_path {at};
                 {servers}
             }}\n"
        );
        std::fs::write(prefix.join("nginx.conf"), configuration).expect("may be written");
        let mut command = self.command(host, "nginx");
        command.arg("-p").arg(&prefix).arg("-c").arg(prefix.join("nginx.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Nginx(command.spawn().expect("ip netns exec runs"))
    }

    /// Changes of `ip` in a host.
    pub fn ip(&self, host: &str, lines: &[String]) {
        Command::ip_in(&self.namespace(host), lines).run().unwrap_or_else(|error| panic!("{error}"));
    }

    /// A connection of the client from its address of this number.
    pub fn connect(&self, from: IpAddr, to: (IpAddr, u16)) -> std::io::Result<Connection> {
        Connection::open(&self.namespace("client"), from, SocketAddr::from(to))
    }

    /// The servers that answer this many connections of a client, one after the other.
    #[track_caller]
    pub fn answers(&self, from: IpAddr, to: (IpAddr, u16), count: usize) -> Vec<String> {
        let answer = |_| match self.connect(from, to) {
            Ok(connection) => connection.server,
            Err(error) => panic!("{from} to {to:?}: {error}"),
        };
        (0..count).map(answer).collect()
    }

    /// Waits until every check of every service succeeds.
    #[track_caller]
    pub fn wait_all_up(&self) {
        self.engine.wait_until(Duration::from_secs(5), "every server is up", |engine| {
            let services = engine.services();
            let mut checks = services.iter().flat_map(|service| &service.servers).flat_map(|server| &server.checks);
            checks.all(|check| check.state.name() == "up")
        });
    }

    /// Ends the engine, gives it another configuration and starts it again.
    pub fn restart(&mut self, text: String) {
        self.stop();
        self.plan.text = text;
        self.start();
    }

    /// The process id of the running engine.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("an engine runs").id()
    }

    /// What the machine withholds from the engine from here on.
    pub fn withheld(&self) -> Withheld {
        Withheld::from([self.pid()])
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("lb.log")).unwrap_or_default()
    }

    /// The output of `fwlb check` for the farm's configuration.
    pub fn check(&self) -> String {
        let output = std::process::Command::new(FWLB).arg("check").arg(self.configuration()).output();
        said(&output.expect("fwlb runs"))
    }

    #[track_caller]
    pub fn assert_counters_add_up(&self) {
        let counters = self.engine.counters();
        let sum: u64 = ["forwarded", "hairpinned", "punted", "dropped"].iter().map(|name| counters[*name]).sum();
        assert_eq!(counters["received"], sum, "{counters:#?}");
        let reasons = counters.iter().filter(|(name, _)| name.starts_with("drop_")).map(|(_, count)| count);
        assert_eq!(counters["dropped"], reasons.sum::<u64>(), "{counters:#?}");
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("lb.toml")
    }

    /// Starts the engine with the plan's text and waits until it answers.
    pub fn start(&mut self) {
        let [farm4, farm6] = NETS.map(|net| net.farm(1));
        let (directory, workers) = (self.directory.display(), self.plan.workers);
        let mut text = format!(
            "[engine]\nname = \"lb\"\nworkers = {workers}\ncontrol = \"{directory}/lb.sock\"\nstate = \"{directory}/state/lb\"\n\n\
             [[link]]\nname = \"farm\"\ndevice = \"farm\"\naddresses = [\"{farm4}/24\", \"{farm6}/64\"]\n"
        );
        if let Some(mtu) = self.plan.link_mtu {
            text += &format!("mtu = {mtu}\n");
        }
        match self.plan.arms {
            Arms::Two => {
                let [v4, v6] = NETS.map(|net| net.client(1));
                text += &format!(
                    "\n[[link]]\nname = \"clients\"\ndevice = \"clients\"\naddresses = [\"{v4}/24\", \"{v6}/64\"]\n"
                );
            }
            Arms::One => {
                let [v4, v6] = NETS.map(|net| net.farm(254));
                text += &format!("\n[[route]]\nto = \"default\"\nvia = [\"{v4}\", \"{v6}\"]\n");
            }
        }
        text += &self.plan.text;
        std::fs::write(self.configuration(), text).expect("the directory is there");
        let mut command = self.command("lb", FWLB);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.directory.join("lb.log"));
        let log = log.expect("may be written");
        command.arg("run").arg(self.configuration()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.process = Some(command.spawn().expect("ip netns exec runs"));
        let start = tokio::time::Instant::now();
        let status = || std::process::Command::new(FWLB).arg("-s").arg(&self.engine.socket).args(["show"]).output();
        while !status().is_ok_and(|output| output.status.success()) {
            let ended = self.process.as_mut().is_some_and(|process| process.try_wait().is_ok_and(|end| end.is_some()));
            assert!(!ended && start.elapsed() < Duration::from_secs(30), "no engine answers: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the engine with SIGTERM.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = std::process::Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }

    /// CPU time of all threads of the engine so far.
    pub fn processor_time(&self) -> Duration {
        let process = self.process.as_ref().expect("it runs");
        let text = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).expect("it runs");
        let fields: Vec<&str> = text.rsplit(')').next().expect("a line").split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
        // utime and stime (proc_pid_stat(5)); USER_HZ is 100 on every architecture of Linux.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    fn tell(&self) {
        let counters: Vec<_> = self.engine.counters().into_iter().filter(|(_, count)| *count > 0).collect();
        let mut services = self.engine.services();
        // Thousands of servers would hide the rest.
        services.retain(|service| service.servers.len() < 100);
        let mut err = std::io::stderr();
        let _ = writeln!(err, "counters: {counters:?}\n{services:#?}\n{}", self.log());
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = lab::remove(&self.name) {
            eprintln!("{error}");
        }
    }
}

/// A running web server.
pub struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
