//! How other threads reach the thread of the role machine: devices, stations that are heard, frames of other nodes,
//! questions and orders. It knows neither that thread nor the others.

mod counters;
mod maintenance;
mod ring;

use std::sync::Arc;

use crossbeam_channel as channel;
use tokio::sync::oneshot;

use crate::api::ApiError;
use crate::engine::Punt;
use crate::engine::view::AlarmView;
use crate::ha::explained::ExplainedHaView;
use crate::ha::view::HaView;
use crate::ha::{NodeKind, Order, OrderRefused, Role, WitnessReport};
use crate::id::{DeviceId, LinkId};
use crate::io::frame_io::Sender;
use crate::io::wait::Wake;
use crate::named_enum::EnumOrUnknown;
use crate::time::Duration;
use crate::wire::MacAddr;

pub use counters::NAMES as CLUSTER_COUNTERS;
pub(super) use counters::{Counted, HaCounters};
pub(super) use maintenance::MaintenanceFile;
pub(super) use ring::ClusterRing;

/// Messages that may wait.
const MESSAGES_MAX: usize = 1024;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the end of the program waits until another node has the role, which has three seconds at the most to take
/// it; then the node may linger.
const STOP_MAX: Duration = Duration::from_millis(3500);
/// How often it looks.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// Messages to the thread.
#[derive(Debug)]
pub(super) enum HaMessage {
    /// A device has appeared.
    Attach(DeviceId, Sender),
    /// A device is gone.
    Detach(DeviceId),
    /// A station with this MAC address was heard on a link.
    Station(LinkId, MacAddr),
    /// A far engine says something about a node.
    Witness(WitnessReport),
    /// Asks for the cluster.
    Ask(oneshot::Sender<ClusterState>),
    /// Asks who is active, and why.
    Explain(oneshot::Sender<ExplainedHaView>),
    /// Gives an order.
    Order(Order, oneshot::Sender<Result<(), OrderRefused>>),
    /// Tells the other nodes all sessions again, if this one tells them any.
    Resync(oneshot::Sender<Result<(), &'static str>>),
    /// Asks whether the program may end.
    MayEnd(oneshot::Sender<bool>),
}

/// The cluster as the node sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ClusterState {
    /// `show ha`.
    pub(super) view: HaView,
    /// What is wrong with the cluster.
    pub(super) alarms: Vec<AlarmView>,
}

/// The handle of other threads.
#[derive(Debug, Clone)]
pub(super) struct HaHandle {
    messages: channel::Sender<HaMessage>,
    wake: Wake,
    /// What was counted.
    pub(super) counters: Arc<HaCounters>,
    /// Where maintenance is kept over a restart. Who changes it holds the lock from the order to the file, so that both
    /// say the same.
    pub(super) maintenance: Arc<tokio::sync::Mutex<MaintenanceFile>>,
}

/// The thread's own ends of what connects it with others.
#[derive(Debug)]
pub(super) struct HaChannels {
    pub(super) wake: Wake,
    pub(super) counters: Arc<HaCounters>,
    pub(super) frames: channel::Receiver<Punt>,
    pub(super) messages: channel::Receiver<HaMessage>,
}

/// The handle of other threads, the ring of the packet workers, and the thread's own ends of both.
pub(super) fn channels(maintenance: MaintenanceFile) -> std::io::Result<(HaHandle, ClusterRing, HaChannels)> {
    let (wake, counters) = (Wake::new()?, Arc::new(HaCounters::default()));
    let (ring, frames) = ring::ring(wake.clone(), counters.clone());
    let (sender, messages) = channel::bounded(MESSAGES_MAX);
    let handle = HaHandle {
        messages: sender,
        wake: wake.clone(),
        counters: counters.clone(),
        maintenance: Arc::new(maintenance.into()),
    };
    Ok((handle, ring, HaChannels { wake, counters, frames, messages }))
}

impl HaHandle {
    /// From here on, the thread sends on this device by `sender`.
    pub(super) fn attach(&self, device: DeviceId, sender: Sender) {
        self.send(HaMessage::Attach(device, sender));
    }

    /// A device is gone.
    pub(super) fn detach(&self, device: DeviceId) {
        self.send(HaMessage::Detach(device));
    }

    /// A frame of neighbour discovery came from this MAC address.
    pub(super) fn heard(&self, link: LinkId, mac: MacAddr) {
        self.offer(HaMessage::Station(link, mac));
    }

    /// A far engine says something about a node of this cluster.
    pub(super) fn witness(&self, report: WitnessReport) {
        self.offer(HaMessage::Witness(report));
    }

    /// The cluster as this node sees it.
    pub(super) async fn state(&self) -> Result<ClusterState, ApiError> {
        self.ask(HaMessage::Ask).await
    }

    /// Who is active, and why.
    pub(super) async fn explain(&self) -> Result<ExplainedHaView, ApiError> {
        self.ask(HaMessage::Explain).await
    }

    /// Gives the machine an order.
    pub(super) async fn order(&self, order: Order) -> Result<(), ApiError> {
        let ordered = self.ask(|answer| HaMessage::Order(order, answer)).await?;
        ordered.map_err(|refused| ApiError::Conflict(refused.to_string()))
    }

    /// Tells the other nodes all sessions again.
    pub(super) async fn resync(&self) -> Result<(), ApiError> {
        self.ask(HaMessage::Resync).await?.map_err(|refused| ApiError::Conflict(refused.to_owned()))
    }

    /// Gives the role away, as the program ends, and waits until another node has it and this one no longer forwards
    /// what still arrives, which it does for `linger`.
    pub(super) async fn give_up(&self, linger: Duration) {
        if self.order(Order::Stop).await.is_err() {
            return;
        }
        let has_ended = async {
            while matches!(self.ask(HaMessage::MayEnd).await, Ok(false)) {
                tokio::time::sleep(STOP_LOOK).await;
            }
        };
        // A node that does not get rid of its role ends all the same: the others take over by its silence.
        let _ = tokio::time::timeout(STOP_MAX + linger, has_ended).await;
    }

    /// Whether another node that keeps copies of sessions is active.
    pub(super) async fn is_other_active(&self) -> bool {
        let nodes = self.state().await.map(|state| state.view.nodes).unwrap_or_default();
        let is_active = |role: &EnumOrUnknown<Role>| *role == Role::Active;
        nodes.iter().any(|node| node.kind == NodeKind::Fwlb && node.role.as_ref().is_some_and(is_active))
    }

    /// Ends the thread's sleep.
    pub(super) fn wake(&self) {
        self.wake.notify();
    }

    async fn ask<R>(&self, question: impl FnOnce(oneshot::Sender<R>) -> HaMessage) -> Result<R, ApiError> {
        let silent = || ApiError::Unavailable("the thread of the role machine does not answer".to_owned());
        let (answer, answered) = oneshot::channel();
        // A quarter of the queue stays free for devices, which must not be lost.
        let has_room = self.messages.len() < MESSAGES_MAX / 4 * 3;
        if !has_room || self.messages.try_send(question(answer)).is_err() {
            return Err(silent());
        }
        self.wake();
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        answered.map_err(|_| silent())?.map_err(|_| silent())
    }

    /// Gives the thread a message that may be lost, as the next one comes soon. Half of the queue stays free for others.
    fn offer(&self, message: HaMessage) {
        if self.messages.len() < MESSAGES_MAX / 2 && self.messages.try_send(message).is_ok() {
            self.wake();
        }
    }

    fn send(&self, message: HaMessage) {
        // If the thread has ended, nobody needs the message. The queue has room, unless the thread stands still.
        let _ = self.messages.send(message);
        self.wake();
    }
}
