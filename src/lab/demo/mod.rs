//! The guided tour: traffic over both firewalls, one of them half dies under load and comes back, and in the end every
//! session tells what it lived through and every firewall what it had to drop.
//!
//! The group runs with `on-failure = "reset"`: a strict firewall without synchronisation takes the state of its sessions
//! with it, so their clients are told at once and open anew, instead of hanging until a time-out.

mod report;
mod screen;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

pub use report::{Evidence, Promise, Report};
pub use screen::Screen;

use super::traffic::{FlowReport, Line, Progress};
use super::{Lab, LabError, Leg, Node, Side, Topology, pause};
use crate::engine::view;

/// Traffic before the firewall fails.
const CALM: Duration = Duration::from_secs(6);
/// How long the firewall stays dead.
const DEAD: Duration = Duration::from_secs(8);
/// Traffic after it came back: the hold time, and new flows on it.
const RECOVERED: Duration = Duration::from_secs(8);
/// The firewall that fails.
const VICTIM: u8 = 1;

/// The topology of the tour.
#[must_use]
pub fn topology(base: Topology) -> Topology {
    let chosen = base.settings.get("group").is_some_and(|group| group.contains_key("on-failure"));
    if chosen { base } else { base.with("group", "on-failure", "reset") }
}

/// Runs the tour in a lab that stands.
///
/// # Errors
/// The lab does not do what it is told; `stop` was set.
pub fn run(lab: &Lab, screen: &mut Screen, stop: &AtomicBool) -> Result<Report, LabError> {
    let mut tour = Tour { lab, screen, stop, start: Instant::now(), programs: Vec::new(), shown: Instant::now() };
    tour.start_traffic()?;
    let victim = format!("fw{VICTIM}");

    tour.watch(CALM, "all firewalls carry sessions")?;
    let mut at_failure = sessions(lab)?;
    lab.fail(VICTIM, Leg::Inner)?;
    let failed_at = Instant::now();
    let failed_ms = tour.elapsed_ms();
    // Flows that were opened while the first copy was made are in the second; their pins cannot have moved so early.
    at_failure.extend(sessions(lab)?);
    tour.screen.note(&format!(
        "{victim} is half dead: its inner cable is cut, its outer side still answers ARP; only a check through it can tell"
    ));
    let seen_down_ms = tour.wait_until_down(&victim, failed_at)?;
    tour.watch(DEAD.saturating_sub(failed_at.elapsed()), &format!("{victim} is dead, the others carry on"))?;

    let before_heal = sessions(lab)?;
    lab.heal(VICTIM)?;
    tour.screen
        .note(&format!("{victim} is healed: it takes new sessions after its hold time, and no living one moves back"));
    tour.watch(RECOVERED.saturating_sub(Duration::from_secs(1)), &format!("{victim} is back"))?;
    let after_heal = sessions(lab)?;
    tour.watch(Duration::from_secs(2), "traffic ends")?;

    let flows = tour.finish_traffic()?;
    let drops = (1..=lab.topology().firewalls)
        .map(|firewall| Ok((format!("fw{firewall}"), lab.drops(firewall)?)))
        .collect::<Result<_, LabError>>()?;
    let counters = [lab.counters(Side::Outer)?, lab.counters(Side::Inner)?];
    Ok(Report::judge(&Evidence {
        victim,
        failed_ms,
        seen_down_ms,
        at_failure,
        before_heal,
        after_heal,
        flows,
        drops,
        counters,
        resets: on_failure_resets(lab.topology()),
    }))
}

/// Whether the sessions of a failed firewall are reset.
fn on_failure_resets(topology: &Topology) -> bool {
    topology.settings.get("group").and_then(|group| group.get("on-failure")).and_then(|value| value.as_str())
        == Some("reset")
}

/// The firewall of every session that the outer engine knows, by protocol, source and destination.
pub fn sessions(lab: &Lab) -> Result<BTreeMap<FlowName, String>, LabError> {
    Ok(lab.sessions(Side::Outer)?.iter().filter_map(named).collect())
}

/// Protocol, source and destination, as [`FlowReport`] and `show sessions` both write them.
pub type FlowName = (String, String, String);

fn named(session: &view::SessionView) -> Option<(FlowName, String)> {
    let firewall = session.pins.first()?.firewall.clone();
    let protocol = session.protocol.trim_end_matches("v6").to_owned();
    let end = |end: &str| if protocol == "icmp" { without_port(end) } else { end.to_owned() };
    Some(((protocol.clone(), end(&session.source), end(&session.destination)), firewall))
}

/// The address of an endpoint: an ICMP session's end may carry the identifier as a port.
fn without_port(end: &str) -> String {
    end.parse::<std::net::SocketAddr>().map_or_else(|_| end.to_owned(), |end| end.ip().to_string())
}

struct Tour<'a> {
    lab: &'a Lab,
    screen: &'a mut Screen,
    stop: &'a AtomicBool,
    start: Instant,
    programs: Vec<Program>,
    shown: Instant,
}

/// A traffic program that runs, and what it said so far.
struct Program {
    child: Child,
    said: Arc<Mutex<Said>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Said {
    progress: Progress,
    flows: Vec<FlowReport>,
}

impl Tour<'_> {
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn start_traffic(&mut self) -> Result<(), LabError> {
        let duration = (CALM + DEAD + RECOVERED).as_millis().to_string();
        let topology = self.lab.topology();
        let (server, client) = (topology.server(1), topology.client());
        let mut plans: Vec<(Node, Vec<String>)> = Vec::new();
        let mut add = |node: Node, words: &str| {
            let words = words.split_whitespace().map(String::from);
            plans.push((node, words.chain(["--duration-ms".to_owned(), duration.clone()]).collect()));
        };
        for to in server.both() {
            // Long sessions, short ones, datagrams of three fragments, pings.
            add(Node::Client, &format!("tcp {to} --flows 20 --interval-ms 100"));
            add(Node::Client, &format!("tcp {to} --flows 4 --interval-ms 50 --life-ms 200"));
            add(Node::Client, &format!("udp {to} --flows 10 --interval-ms 100 --size 4000 --patience-ms 1500"));
        }
        for number in 1..=topology.servers {
            for to in topology.server(number).both() {
                add(Node::Client, &format!("icmp {to} --interval-ms 100"));
            }
        }
        for to in client.both() {
            add(Node::Server(1), &format!("tcp {to} --flows 10 --interval-ms 100"));
        }
        self.start = Instant::now();
        for (node, words) in plans {
            self.programs.push(Program::start(self.lab, node, &words)?);
        }
        Ok(())
    }

    /// Shows how it goes for a while.
    fn watch(&mut self, duration: Duration, caption: &str) -> Result<(), LabError> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.check_stop()?;
            self.show(caption)?;
            pause(Duration::from_millis(100));
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), LabError> {
        if self.stop.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
    }

    fn show(&mut self, caption: &str) -> Result<(), LabError> {
        if self.shown.elapsed() < self.screen.period() && self.shown > self.start {
            return Ok(());
        }
        self.shown = Instant::now();
        let rows = screen::rows(self.lab)?;
        let mut progress = Progress { at_ms: self.elapsed_ms(), ..Progress::default() };
        for program in &self.programs {
            let said = program.said.lock().unwrap_or_else(PoisonError::into_inner);
            progress.sent += said.progress.sent;
            progress.answered += said.progress.answered;
        }
        self.screen.show(caption, progress, &rows);
        Ok(())
    }

    /// How long each engine took to call the firewall down; `None` if it did not within two seconds.
    fn wait_until_down(&mut self, victim: &str, since: Instant) -> Result<[Option<u64>; 2], LabError> {
        let mut seen = [None, None];
        while seen.contains(&None) && since.elapsed() < Duration::from_secs(2) {
            self.check_stop()?;
            for (side, seen) in Side::BOTH.into_iter().zip(&mut seen) {
                let firewalls = self.lab.firewalls(side)?;
                let firewall = firewalls.iter().find(|firewall| firewall.name == victim);
                if let Some(down) = firewall.filter(|firewall| seen.is_none() && firewall.state == "down") {
                    let ago = Duration::from_millis(down.since_ms);
                    *seen = Some(u64::try_from(since.elapsed().saturating_sub(ago).as_millis()).unwrap_or(u64::MAX));
                }
            }
            pause(Duration::from_millis(20));
        }
        Ok(seen)
    }

    fn finish_traffic(&mut self) -> Result<Vec<FlowReport>, LabError> {
        let deadline = self.start + CALM + DEAD + RECOVERED + Duration::from_secs(15);
        let mut flows = Vec::new();
        for program in &mut self.programs {
            while program.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(LabError::Interrupted);
                }
                pause(Duration::from_millis(50));
            }
            flows.append(&mut program.finish().flows);
        }
        Ok(flows)
    }
}

impl Program {
    fn start(lab: &Lab, node: Node, words: &[String]) -> Result<Self, LabError> {
        let mut child = lab
            .traffic(node)
            .arg("flows")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Start { program: "ip netns exec".to_owned(), source })?;
        let output = child.stdout.take().expect("piped above");
        let said = Arc::new(Mutex::new(Said::default()));
        let writer = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut said = writer.lock().unwrap_or_else(PoisonError::into_inner);
                match serde_json::from_str(&line) {
                    Ok(Line::Progress(progress)) => said.progress = progress,
                    Ok(Line::Flow(flow)) => said.flows.push(flow),
                    Ok(Line::Ready | Line::Page(_)) | Err(_) => {}
                }
            }
        });
        Ok(Self { child, said, reader: Some(reader) })
    }

    /// Ends the program if it has not ended, and takes what it said.
    fn finish(&mut self) -> Said {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.finish();
    }
}
