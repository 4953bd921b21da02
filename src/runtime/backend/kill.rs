//! Carries an operator's order to end sessions (`kill`) to the workers, and waits for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::EngineBackend;
use crate::api::{ApiError, calls};
use crate::engine::change::{StateChange, Subject};
use crate::engine::forwarder::KillOrder;
use crate::engine::view::{EventKind, KillView};
use crate::runtime::sessions;
use crate::runtime::worker::WorkerMessage;
use crate::time::Duration;

/// How often it is checked whether the workers are done.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Limits an engine to one order at a time, because each makes the workers look at every session.
pub(super) fn kill_slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1))
}

impl EngineBackend {
    /// Ends the sessions that `filter` selects. Once begun, it is completed and recorded as an event even if the client
    /// disconnects.
    pub(super) async fn kill(&self, call: calls::Kill) -> Result<Vec<KillView>, ApiError> {
        let calls::Kill { filter, reset, reason, by } = call;
        let selection = sessions::select(&filter, &self.snapshot())?;
        let unavailable = |error: &dyn std::error::Error| ApiError::Unavailable(error.to_string());
        let turn = Arc::clone(&self.kills).acquire_owned().await.map_err(|error| unavailable(&error))?;
        let order = self
            .on_control(move |control| {
                let order = Arc::new(KillOrder::new(selection, reset, control.workers.len(), control.now()));
                control.workers.iter().for_each(|worker| worker.send(WorkerMessage::Kill(Arc::clone(&order))));
                order
            })
            .await?;
        let shared = Arc::clone(&self.shared);
        let work = tokio::spawn(async move {
            let _turn = turn;
            while !order.is_done() && !shared.stop.load(Ordering::Relaxed) {
                sleep(POLL_INTERVAL).await;
            }
            let (killed, resets) = order.counts();
            let subject = Subject::Sessions(filter.to_string());
            let killing = StateChange::to(EventKind::Kill, subject, format!("{killed} ended"));
            shared.event(killing.because(reason).by(by));
            KillView { engine: shared.engine.clone(), killed, resets }
        });
        work.await.map(|done| vec![done]).map_err(|error| unavailable(&error))
    }
}
