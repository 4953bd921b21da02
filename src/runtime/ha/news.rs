//! What the control thread is to do and to report for the role machine.

use crate::engine::change::{Alarm, StateChange, Subject};
use crate::engine::controller::ClusterRole;
use crate::engine::view::EventKind;
use crate::ha::{self, AlarmChange, RoleChange, RoleWord};
use crate::runtime::control::{Command, Commands, Control};

/// What the control thread has not been given yet, as its queue may be full for a moment.
#[derive(Debug, Default)]
pub(super) struct ControlNews {
    role: Option<RoleWord>,
    cluster_role: Option<ClusterRole>,
    announce: bool,
    ask: bool,
    wake: bool,
    events: Vec<StateChange>,
    /// Events for which there was no room.
    lost_events: u64,
}

/// Events that wait, at most.
const EVENTS_MAX: usize = 256;

impl ControlNews {
    /// A new role, which packet workers follow already. Of the changes of a moment the last one counts.
    pub(super) fn role(&mut self, word: RoleWord) {
        self.role = Some(word);
    }

    /// What probes are to report about this node from now on.
    pub(super) fn cluster_role(&mut self, role: ClusterRole) {
        self.cluster_role = Some(role);
    }

    pub(super) fn announce(&mut self) {
        self.announce = true;
    }

    pub(super) fn ask(&mut self) {
        self.ask = true;
    }

    /// The control thread is to turn once.
    pub(super) fn wake(&mut self) {
        self.wake = true;
    }

    pub(super) fn event(&mut self, event: StateChange) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        } else {
            self.lost_events += 1;
        }
    }

    /// Gives the control thread what there is, if its queue has room.
    pub(super) fn pass(&mut self, commands: &Commands) {
        let Self { role, cluster_role, announce, ask, wake, events, lost_events: _ } = &self;
        if role.is_none() && cluster_role.is_none() && !announce && !ask && !wake && events.is_empty() {
            return;
        }
        // A place in the queue first, so that nothing is given away that finds none.
        let Ok(place) = commands.try_reserve() else { return };
        let news = std::mem::take(self);
        let command: Command = Box::new(move |control: &mut Control| news.carry_out(control));
        place.send(command);
    }

    fn carry_out(self, control: &mut Control) {
        let now = control.now();
        // Probes that a new role causes say it.
        if self.cluster_role.is_some() {
            control.controller.set_cluster_role(self.cluster_role);
        }
        if let Some(word) = self.role {
            control.controller.set_role(word, now);
        }
        if self.announce {
            control.controller.announce_floating(now);
        }
        if self.ask {
            control.controller.ask_neighbors(now);
        }
        if self.lost_events > 0 {
            let (engine, lost) = (&control.shared.engine, self.lost_events);
            tracing::warn!(engine, lost, "events of the cluster were lost while the control thread stood still");
        }
        self.events.into_iter().for_each(|event| control.shared.event(event));
    }
}

/// The event of a change of role. `reason` is in words.
pub(super) fn role_event(node: &str, change: &RoleChange, reason: &str) -> StateChange {
    let reason = format!("{reason}, term {}", change.term);
    let by = change.by.as_ref().and_then(|by| by.operator.clone());
    let event = StateChange::to(EventKind::Role, Subject::Node(node.to_owned()), change.to.name());
    event.from(change.from.name()).because(reason).by(by).after(change.lasted)
}

/// The event of an alarm that was raised or cleared.
pub(super) fn alarm_event(change: &AlarmChange) -> StateChange {
    match change {
        AlarmChange::Raised(wrong, reason) => alarm(wrong).raised(reason.clone()),
        AlarmChange::Cleared(wrong) => alarm(wrong).cleared(None),
    }
}

/// An alarm of the role machine, in the form of all alarms.
pub(super) fn alarm(wrong: &ha::Alarm) -> Alarm {
    let subject = match wrong.kind {
        ha::AlarmKind::LegDead => Subject::Link(wrong.subject.clone()),
        ha::AlarmKind::ConfigDiffers
        | ha::AlarmKind::HaAlone
        | ha::AlarmKind::HaPartition
        | ha::AlarmKind::HaSlow
        | ha::AlarmKind::SplitBrain
        | ha::AlarmKind::StandbyNotReady
        | ha::AlarmKind::SyncBehind
        | ha::AlarmKind::SyncFailed
        | ha::AlarmKind::SyncLost
        | ha::AlarmKind::SyncRefused
        | ha::AlarmKind::VersionDiffers
        | ha::AlarmKind::VridClash => Subject::Node(wrong.subject.clone()),
    };
    Alarm { kind: wrong.kind.into(), subject }
}
