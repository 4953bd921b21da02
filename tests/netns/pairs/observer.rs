//! An observer at the switches: on which ports they saw the virtual MAC addresses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fwlb::lab::{Engine, Side, Station, Topology};

use crate::ground::Rig;

/// An address that no station has.
const MARK: &str = "02:00:00:00:00:01";

/// Listens to what the switches learn, from its making on.
pub struct Observer {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Observer {
    pub fn start(rig: &Rig) -> Self {
        let mut command = rig.lab.command(Station::Switch, "bridge");
        command.args(["-t", "monitor", "fdb"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("bridge runs");
        let output = child.stdout.take().expect("piped above");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let observer = Self { child, lines, reader: Some(reader) };
        // It says nothing of itself when it has begun to listen.
        rig.within(Duration::from_secs(5), "the observer listens", |rig| {
            for change in ["add", "del"] {
                rig.exec(Station::Switch, &["bridge", "fdb", change, MARK, "dev", "client", "master", "static"]);
            }
            observer.lines().iter().any(|line| line.contains(MARK))
        });
        observer
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ports to which the virtual MAC addresses of a side moved, for each address and switch in order.
    pub fn moves(&self, side: Side) -> BTreeMap<(String, String), Vec<String>> {
        let macs = virtual_macs(side);
        let mut moves: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for line in &self.lines() {
            let Some((mac, port, bridge)) = learned(line).filter(|(mac, ..)| macs.iter().any(|one| one == mac)) else {
                continue;
            };
            let ports = moves.entry((mac.to_owned(), bridge.to_owned())).or_default();
            if ports.last().is_none_or(|last| last != port) {
                ports.push(port.to_owned());
            }
        }
        moves
    }

    /// Asserts that every virtual MAC address of a side moved to the ports of `engine` and to no other, on both its
    /// switches.
    #[track_caller]
    pub fn assert_moved_once_to(&self, engine: Engine) {
        self.assert_ended_at(engine);
        for ((mac, bridge), ports) in self.moves(engine.side) {
            assert_eq!(ports.len(), 1, "{mac} on {bridge}: {ports:?}: {:#?}", self.lines());
        }
    }

    /// Asserts that every virtual MAC address of a side moved, and is on the ports of `engine`, on both its switches. Where
    /// the role is handed over, a frame that the other engine had in its hands may follow the first one of `engine`.
    #[track_caller]
    pub fn assert_ended_at(&self, engine: Engine) {
        let moves = self.moves(engine.side);
        for ((mac, bridge), ports) in &moves {
            let is_engine = ports.last().is_some_and(|port| port.starts_with(&format!("{engine}-")));
            assert!(is_engine, "{mac} on {bridge}: {ports:?}: {:#?}", self.lines());
        }
        let bridges: std::collections::BTreeSet<_> = moves.keys().map(|(_, bridge)| bridge).collect();
        assert_eq!(bridges.len(), 2, "both switches of the side: {moves:?}");
    }

    /// Asserts that no virtual MAC address of a side moved.
    #[track_caller]
    pub fn assert_nothing_moved(&self, side: Side) {
        assert_eq!(self.moves(side), BTreeMap::new());
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // It ends by itself only with the switches.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// The virtual MAC addresses of a side, for IPv4 and IPv6 (RFC 9568 section 7.3).
pub fn virtual_macs(side: Side) -> [String; 2] {
    let vrid = Topology::vrid(side);
    [format!("00:00:5e:00:01:{vrid:02x}"), format!("00:00:5e:00:02:{vrid:02x}")]
}

/// The ports on which the switches know the virtual MAC addresses of a side.
pub fn ports_of_virtual_macs(rig: &Rig, side: Side) -> Vec<String> {
    let table = rig.exec(Station::Switch, &["bridge", "fdb", "show"]);
    let macs = virtual_macs(side);
    let known = table.lines().filter_map(learned).filter(|(mac, ..)| macs.iter().any(|one| one == mac));
    let mut ports: Vec<_> = known.map(|(_, port, _)| port.to_owned()).collect();
    ports.sort();
    ports.dedup();
    ports
}

/// Parses `00:00:5e:00:01:33 dev outer-a-far master br-outer ...`, as `bridge fdb` and `bridge monitor` print it; a line about
/// an entry that was deleted is none.
fn learned(line: &str) -> Option<(&str, &str, &str)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let after = |key| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1)).copied();
    let mac = words.iter().find(|word| word.len() == 17 && word.matches(':').count() == 5)?;
    (words.first() != Some(&"Deleted")).then_some((*mac, after("dev")?, after("master")?))
}

#[test]
fn lines_of_bridge_are_understood() {
    let line = "00:00:5e:00:01:33 dev outer-a-far master br-outer ";
    assert_eq!(learned(line), Some(("00:00:5e:00:01:33", "outer-a-far", "br-outer")));
    assert_eq!(learned(&format!("Deleted {line}")), None);
    assert_eq!(learned("33:33:00:00:00:01 dev br-outer self permanent"), None);
}
