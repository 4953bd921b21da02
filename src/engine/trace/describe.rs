//! Puts what the engine did with a frame into words, for the comments of a capture.

use std::fmt::Write as _;

use crate::engine::trace::{CapturedFrame, FrameEvent, SessionCopy};
use crate::engine::{PuntReason, Snapshot, Verdict};
use crate::flow::text;
use crate::id::{FirewallId, LinkId};
use crate::wire::MacAddr;
use crate::wire::offload::{GsoKind, Offload};
use crate::wire::pcapng::CaptureDirection;

impl CapturedFrame {
    /// One line such as `forward -> fw1 (session, confirmed, learned) out firewalls; service web, server s1`. Ids are
    /// those of `snapshot`.
    pub fn describe(&self, snapshot: &Snapshot) -> String {
        let story = &self.context;
        let to = match self.direction {
            CaptureDirection::Inbound => story.to,
            CaptureDirection::Outbound => story.to.or_else(|| {
                let station = self.bytes.first_chunk().map(|mac| MacAddr(*mac))?;
                snapshot.firewall_at(self.link, station)
            }),
        };
        let mut line = String::new();
        let _ = self.write_event(&mut line, to, snapshot);
        if let Some(seen) = &story.session {
            let _ = write_service(&mut line, seen, snapshot);
        }
        let _ = write_offload(&mut line, &self.offload);
        line
    }

    fn write_event(&self, line: &mut String, to: Option<FirewallId>, snapshot: &Snapshot) -> std::fmt::Result {
        let link = |id: LinkId| snapshot.links.get(id.index()).map_or("?", |link| link.name.as_str());
        let way = || self.describe_path(to, snapshot);
        match self.context.event {
            FrameEvent::Decided { verdict: Verdict::Forward(egress), punt: _ } => {
                write!(line, "forward{} out {}", way(), link(egress))
            }
            FrameEvent::Decided { verdict: Verdict::Hairpin(egress), punt: _ } => {
                write!(line, "hairpin{} out {}", way(), link(egress))
            }
            FrameEvent::Decided { verdict: Verdict::Replaced, punt: _ } => {
                write!(line, "forward in fragments{}", way())
            }
            FrameEvent::Decided { verdict: Verdict::Dropped(reason), punt: _ } => {
                write!(line, "drop {}{}", reason.name().trim_start_matches("drop_"), way())
            }
            FrameEvent::Decided { verdict: Verdict::Punted, punt } => match punt {
                Some(PuntReason::Neighbor) => write!(line, "to the engine: neighbour discovery"),
                Some(PuntReason::Local) => write!(line, "to the engine{}", way()),
                Some(PuntReason::Cluster) => write!(line, "to the engine: from another node of the cluster"),
                Some(PuntReason::NeighborWait { link: egress, next_hop, sender: _ }) => {
                    write!(line, "forward{} out {}, waits for neighbour {next_hop}", way(), link(egress))
                }
                Some(PuntReason::IcmpError(_)) => write!(line, "to the engine, to tell its sender"),
                None => write!(line, "forward in fragments{}, which wait for a neighbour", way()),
            },
            FrameEvent::Held => write!(line, "fragment, waits for the first of its datagram"),
            FrameEvent::Forwarded(ingress) => write!(line, "forward{} in {}", way(), link(ingress)),
            FrameEvent::Reset => write!(line, "reset by the engine{}", way()),
            FrameEvent::FromController => write!(line, "sent by the engine{}", way()),
        }
    }

    /// The firewalls and the session: ` from fw1 -> fw2 (session, confirmed, learned)`.
    fn describe_path(&self, to: Option<FirewallId>, snapshot: &Snapshot) -> String {
        let from = self.context.from;
        let mut way = String::new();
        if let Some(from) = from {
            let _ = write!(way, " from {}", firewall(from, snapshot));
        }
        if let Some(to) = to {
            let _ = write!(way, " -> {}", firewall(to, snapshot));
        }
        let Some(SessionCopy { session, .. }) = &self.context.session else {
            let is_transit = match self.context.event {
                FrameEvent::Decided { verdict, punt: _ } => verdict != Verdict::Punted,
                FrameEvent::Forwarded(_) => true,
                FrameEvent::Held | FrameEvent::Reset | FrameEvent::FromController => false,
            };
            if is_transit {
                way.push_str(" (no session)");
            }
            return way;
        };
        let new = if session.packets <= 1 { "new session" } else { "session" };
        let mut pins = [session.toward_low, session.toward_high].into_iter().flatten();
        let pin = pins.find(|pin| Some(pin.firewall) == to || Some(pin.firewall) == from);
        let _ = match pin {
            Some(pin) => write!(way, " ({new}, {}, {})", pin.state.name(), pin.pinned_by.name()),
            None => write!(way, " ({new}, {})", session.state.name()),
        };
        way
    }
}

/// The firewall's name `fw1`, with that of its group if there are several groups.
fn firewall(id: FirewallId, snapshot: &Snapshot) -> String {
    let Some(firewall) = snapshot.firewalls.get(id.index()) else { return "?".to_owned() };
    match (snapshot.groups.len(), snapshot.groups.get(firewall.group.index())) {
        (2.., Some(group)) => format!("{}/{}", group.name, firewall.name),
        _ => firewall.name.clone(),
    }
}

fn write_service(line: &mut String, seen: &SessionCopy, snapshot: &Snapshot) -> std::fmt::Result {
    let Some(bound) = &seen.bound else { return Ok(()) };
    let Some((service, server)) = snapshot.services.server(bound.service, bound.server) else { return Ok(()) };
    write!(line, "; service {}, server {}", service.name, server.name)?;
    match bound.inside {
        Some(inside) => write!(line, ", {} inside {}", text::format(&seen.flow), text::format(&inside)),
        None => Ok(()),
    }
}

fn write_offload(line: &mut String, offload: &Offload) -> std::fmt::Result {
    if offload.partial.is_some() {
        write!(line, "; checksum left to the device")?;
    }
    let Some(gso) = offload.gso else { return Ok(()) };
    let kind = match gso.kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => "TCP segments",
        GsoKind::UdpSegments => "UDP segments",
        GsoKind::UdpFragments => "IP fragments",
    };
    write!(line, "; to be cut into {kind} of {} bytes", gso.size)
}
