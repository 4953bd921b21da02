//! Collects everything that is measured of a running engine, at about one instant.

use super::backend::EngineBackend;
use super::control::Control;
use super::counters;
use crate::api::ApiError;
use crate::config::is_removed;
use crate::engine::Counters;
use crate::engine::view::{MeasuresView, RingView, TableView, WorkerView};
use crate::id::DeviceId;

impl EngineBackend {
    /// Collects all measurements with one request to the control thread, and without delaying the workers.
    pub(super) async fn metrics(&self) -> Result<Box<MeasuresView>, ApiError> {
        let shared = &self.shared;
        let by_worker: Vec<_> = shared.cells.iter().map(|cell| cell.read()).collect();
        let total = counters::sum(by_worker.iter().cloned());
        let traffic = total.clone();
        let ask = move |control: &mut Control| {
            let (now, lag) = (control.now(), control.timer_lag.view());
            let controller = &control.controller;
            let firewalls = controller.firewalls(&traffic, now);
            let services = controller.services(&traffic, now);
            let state = (controller.alarms(now), controller.overrides(), controller.peers(now));
            (firewalls, services, state, controller.counters(), controller.probe_times(), controller.tables(), lag)
        };
        let (firewalls, services, (alarms, overrides, peers), counted, probes, mut tables, control_lag) =
            self.on_control(ask).await?;
        let cluster = self.cluster().await;
        let ha = cluster.view().cloned();
        let status = self.status_view(alarms, overrides, &cluster);
        let (punts, punts_max) = self.punts.read();
        for (name, used, capacity) in [("punts", punts, punts_max), ("sessions", status.sessions, status.capacity)] {
            tables.push(TableView { name: name.to_owned(), used: used as u64, capacity: capacity as u64 });
        }
        let workers = by_worker.iter().enumerate().map(|(number, counters)| self.worker(number, counters));
        Ok(Box::new(MeasuresView {
            counters: self.flat_counters(&total, counted),
            links: self.link_views(&total),
            workers: workers.collect(),
            status,
            firewalls,
            peers,
            services,
            probes,
            tables,
            control_lag,
            ha,
        }))
    }

    fn worker(&self, number: usize, counters: &Counters) -> WorkerView {
        let config = self.shared.config();
        let present = config.devices.iter().enumerate().filter(|(_, device)| !is_removed(device));
        let rings = present.map(|(index, device)| RingView {
            device: device.clone(),
            dropped: self.shared.socket_counters.ring_dropped_of(number, DeviceId::from(index)),
        });
        WorkerView { received: counters.received, batches: counters.batch_sizes(), rings: rings.collect() }
    }
}
