//! What may happen to nodes, cables, firewalls and servers.

use super::{Cluster, configuration};
use crate::sim::host::Health;
use crate::sim::side::Side;
use crate::sim::sim_engine::SimEngine;
use crate::sim::world::Cable;
use crate::time::Duration;

impl Cluster {
    /// Starts a node.
    pub fn start(&mut self, side: Side, number: usize) {
        self.disturb();
        self.copies[side as usize].restarted(number);
        self.world.with_engine(self.nodes[side as usize][number], SimEngine::start);
    }

    /// Kills a node.
    pub fn crash(&mut self, side: Side, number: usize) {
        self.sample();
        self.disturb();
        self.judge.shaken(side, self.world.now());
        self.world.with_engine(self.nodes[side as usize][number], |engine, _| engine.crash());
    }

    /// Stops a node for a while, as a stopped process.
    pub fn pause(&mut self, side: Side, number: usize, duration: Duration) {
        self.disturb();
        self.world.with_engine(self.nodes[side as usize][number], |engine, now| engine.pause(now + duration));
        let until = self.world.now() + duration;
        self.checks.paused(until);
        self.copies[side as usize].paused(number, until);
    }

    /// Cuts or restores the directions of the cable of a node's link: what it sends, and what it receives.
    pub fn cut(&mut self, side: Side, number: usize, link: usize, (sending, receiving): (bool, bool)) {
        self.disturb();
        let node = self.nodes[side as usize][number];
        let port = self.world.port(node, link);
        (port.sending.cut, port.receiving.cut) = (sending, receiving);
        self.checks.cut(node, link, sending || receiving, self.world.now());
    }

    /// Makes the cable of a node's link as bad as this one, in both directions; whether it is cut stays as it is.
    pub fn impair(&mut self, side: Side, number: usize, link: usize, cable: Cable) {
        self.disturb();
        let node = self.nodes[side as usize][number];
        let port = self.world.port(node, link);
        for own in [&mut port.sending, &mut port.receiving] {
            *own = Cable { cut: own.cut, ..cable };
        }
        self.checks.impaired(node, link, cable != Cable::GOOD);
    }

    /// Makes every cable of a node's link lose so many of 1,000 frames.
    pub fn lose(&mut self, side: Side, number: usize, link: usize, loss: u32) {
        self.impair(side, number, link, Cable { loss, ..Cable::GOOD });
    }

    /// Whether a firewall is without power.
    pub fn firewall_is_dead(&self, number: usize) -> bool {
        self.dead_firewalls.contains(&number)
    }

    /// Takes a firewall's power away, or boots it.
    pub fn set_firewall(&mut self, number: usize, alive: bool) {
        self.disturb();
        let now = self.world.now();
        if alive {
            self.dead_firewalls.remove(&number);
            self.judge.causes.end(number, "is dead", now);
        } else {
            self.dead_firewalls.insert(number);
            self.judge.causes.begin(number, "is dead", now);
        }
        let node = self.firewalls[number];
        self.world.with_firewall(node, |firewall, _| if alive { firewall.boot() } else { firewall.crash() });
    }

    /// Changes the health of a server.
    pub fn set_server(&mut self, number: usize, health: Health) {
        self.disturb();
        let now = self.world.now();
        match health {
            Health::Well => self.judge.causes.end_server(number, "is not well", now),
            Health::Refusing | Health::Sick | Health::Dead => {
                self.judge.causes.begin_server(number, "is not well", now);
            }
        }
        self.world.with_host(self.servers[number], |host, now| host.set_health(health, now));
    }

    /// Reloads the file of a node, which differs from before in the weights of servers.
    pub fn reload(&mut self, side: Side, number: usize) {
        self.disturb();
        self.reloads += 1;
        let text = configuration::configuration(&self.plan, side, number, self.reloads);
        self.world.with_engine(self.nodes[side as usize][number], |engine, now| engine.reload(&text, now));
    }

    /// All faults are over: from some time on nothing may change without a reason.
    pub fn calm(&mut self) {
        self.checks.calm(self.world.now());
    }

    pub(super) fn disturb(&mut self) {
        self.checks.disturb(self.world.now());
    }
}
