//! Stops the threads of one engine.

use std::sync::atomic::Ordering;

use super::RunningEngine;
use crate::engine::change::{StateChange, Subject};
use crate::engine::view::EventKind;
use crate::runtime::upgrade::HandedOver;
use crate::time::Duration;

impl RunningEngine {
    /// Ends all threads, and leaves devices, sockets and files to the program that has taken over.
    pub(in crate::runtime) async fn leave(self, over: HandedOver) {
        let Self { shared, workers, probes, ha: _, control, stop_control, served, backend: _ } = self;
        served.leave();
        shared.stop.store(true, Ordering::Relaxed);
        workers.iter().for_each(|(worker, _)| worker.wake());
        probes.0.wake();
        let _ = stop_control.send(());
        let subject = Subject::Engine(shared.engine.clone());
        let change = StateChange::to(EventKind::Engine, subject, "stopped").from("started");
        shared.event(change.because(format!("handed over to {}", over.successor())));
        let closed = tokio::task::spawn_blocking(move || {
            shared.session_log.leave();
            if let Some(archive) = shared.events().close() {
                archive.close();
            }
            over.gone();
            for (_, thread) in workers {
                let _ = thread.join();
            }
            let _ = probes.1.join();
            let _ = control.join();
        });
        let _ = closed.await;
    }

    /// Ends all threads and gives the devices back to the kernel.
    pub(in crate::runtime) async fn stop(self) {
        let Self { shared, workers, probes, ha, control, stop_control, served, backend: _ } = self;
        served.stop();
        if let Some((handle, _)) = &ha {
            let linger = shared.config().ha.as_ref().map_or(Duration::ZERO, |ha| ha.linger);
            handle.give_up(linger).await;
        }
        let goes_on_elsewhere = match &ha {
            Some((handle, _)) if !shared.config().copying_nodes().is_empty() => handle.is_other_active().await,
            Some(_) | None => false,
        };
        shared.stop.store(true, Ordering::Relaxed);
        workers.iter().for_each(|(worker, _)| worker.wake());
        probes.0.wake();
        ha.iter().for_each(|(handle, _)| handle.wake());
        let _ = stop_control.send(());
        // They end within one turn of their loops; a panic was reported when it happened.
        let ending = shared.clone();
        let joined = tokio::task::spawn_blocking(move || {
            for (_, thread) in workers {
                let _ = thread.join();
            }
            let _ = probes.1.join();
            if let Some((_, thread)) = ha {
                let _ = thread.join();
            }
            let _ = control.join();
            let sessions = (!goes_on_elsewhere).then_some(&*ending.sessions);
            ending.session_log.close(sessions, &ending.snapshot.load_full(), ending.clock);
        });
        let _ = joined.await;
        let subject = Subject::Engine(shared.engine.clone());
        shared.event(StateChange::to(EventKind::Engine, subject, "stopped").from("started"));
        let archive = shared.events().close();
        if let Some(archive) = archive {
            let _ = tokio::task::spawn_blocking(|| archive.close()).await;
        }
    }
}
