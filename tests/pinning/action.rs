//! What may happen to the model: packets that move or are lost, faults, and what engines see of them.

use crate::settings::{Kind, Settings};
use crate::world::{Conntrack, I, O, TICK, Tally, World};

/// An action that changes the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The end on this side sends what it has to send.
    Send(usize),
    /// The packet at this position takes its next step.
    Deliver(usize),
    Lose(usize),
    Duplicate(usize),
    /// The firewall fails; with a side, only packets of that side still pass.
    Fail(usize, Option<usize>),
    /// The firewall recovers; `rebooted` means without its state.
    Heal(usize, bool),
    /// An engine's view becomes correct.
    SeeDown(usize, usize),
    SeeUp(usize, usize),
    /// An engine takes a healthy firewall for down.
    Alarm(usize, usize),
    /// An engine forgets its sessions.
    Restart(usize),
    Drain(usize, usize),
    /// The drain deadline passes in one engine's view.
    Deadline(usize, usize),
    /// The policy of a firewall blocks the probes of one engine.
    Block(usize, usize),
    Tick,
}

impl World {
    pub fn see_down(&mut self, side: usize, firewall: usize) {
        let engine = &mut self.engines[side];
        if engine.up & (1 << firewall) != 0 {
            engine.up &= !(1 << firewall);
            engine.falls[firewall] += 1;
            self.harm(firewall);
        }
    }

    /// Whether probes of `side` through the firewall are answered.
    pub fn probes_pass(&self, side: usize, firewall: usize) -> bool {
        self.is_healthy(firewall) && self.engines[side].blocked & (1 << firewall) == 0
    }

    fn is_settled(&self, settings: &Settings) -> bool {
        let is_true = |side: usize, firewall: usize| {
            self.probes_pass(side, firewall) == (self.engines[side].up & (1 << firewall) != 0)
        };
        self.flight.is_empty() && [O, I].iter().all(|&side| (0..settings.firewalls).all(|f| is_true(side, f)))
    }

    /// Whether an action is possible in this state.
    pub fn allows(&self, settings: &Settings, action: Action) -> bool {
        let sees_up = |side: usize, firewall: usize| self.engines[side].up & (1 << firewall) != 0;
        let has = |bits: u64, firewall: usize| bits & (1 << firewall) != 0;
        let fault = self.faults_left > 0;
        match action {
            Action::Send(side) => self.flight.len() < settings.flight_max && self.can_send(settings, side),
            Action::Deliver(place) | Action::Lose(place) => place < self.flight.len(),
            Action::Duplicate(place) => fault && place < self.flight.len() && self.flight.len() < settings.flight_max,
            Action::Fail(firewall, _) => fault && self.is_healthy(firewall),
            // No packet lives until a firewall has recovered.
            Action::Heal(firewall, _) => {
                !self.is_healthy(firewall) && self.flight.iter().all(|packet| packet.firewall != firewall)
            }
            Action::SeeDown(side, firewall) => !self.probes_pass(side, firewall) && sees_up(side, firewall),
            Action::SeeUp(side, firewall) => self.probes_pass(side, firewall) && !sees_up(side, firewall),
            Action::Alarm(side, firewall) => fault && sees_up(side, firewall),
            Action::Restart(side) => fault && self.engines[side].pin.is_some(),
            Action::Drain(side, firewall) => fault && !has(self.engines[side].draining, firewall),
            Action::Deadline(side, firewall) => fault && !has(self.engines[side].ended, firewall),
            Action::Block(side, firewall) => fault && !has(self.engines[side].blocked, firewall),
            Action::Tick => !settings.patient || self.is_settled(settings),
        }
    }

    /// Performs an action.
    pub fn step(&mut self, settings: &Settings, action: Action, tally: &mut Tally) {
        match action {
            Action::Duplicate(_)
            | Action::Fail(..)
            | Action::Alarm(..)
            | Action::Restart(_)
            | Action::Drain(..)
            | Action::Deadline(..)
            | Action::Block(..) => self.faults_left -= 1,
            Action::Send(_)
            | Action::Deliver(_)
            | Action::Lose(_)
            | Action::Heal(..)
            | Action::SeeDown(..)
            | Action::SeeUp(..)
            | Action::Tick => {}
        }
        match action {
            Action::Send(side) => self.emit(settings, side, tally),
            Action::Deliver(place) => self.deliver(settings, place, tally),
            Action::Lose(place) => {
                self.flight.remove(place);
                tally.lost += 1;
            }
            Action::Duplicate(place) => {
                self.flight.push(self.flight[place]);
                self.flight.sort();
            }
            Action::Fail(firewall, half) => {
                self.passes[firewall] = [O, I].map(|side| half == Some(side));
                self.harm(firewall);
            }
            Action::Heal(firewall, rebooted) => {
                self.passes[firewall] = [true; 2];
                if rebooted && settings.kind != Kind::Synced {
                    self.conntrack[firewall] = Conntrack::None;
                }
            }
            Action::SeeDown(side, firewall) | Action::Alarm(side, firewall) => self.see_down(side, firewall),
            Action::SeeUp(side, firewall) => self.engines[side].up |= 1 << firewall,
            Action::Restart(side) => {
                self.engines[side].pin = None;
                self.clean = false;
            }
            Action::Drain(side, firewall) => self.engines[side].draining |= 1 << firewall,
            Action::Deadline(side, firewall) => {
                let engine = &mut self.engines[side];
                engine.draining |= 1 << firewall;
                engine.ended |= 1 << firewall;
                engine.falls[firewall] += 1;
                self.harm(firewall);
            }
            Action::Block(side, firewall) => {
                self.engines[side].blocked |= 1 << firewall;
                self.harm(firewall);
            }
            Action::Tick => self.now += TICK,
        }
    }
}
