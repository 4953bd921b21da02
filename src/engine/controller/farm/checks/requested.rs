//! Checks that an operator requests: the whole exchange is reported, however it ends.

use std::net::SocketAddr;

use super::{CheckKey, CheckNotStarted, Requester, RunningCheck};
use crate::engine::controller::farm::Farm;
use crate::engine::controller::links::Links;
use crate::engine::controller::outbox::Outbox;
use crate::engine::controller::paths;
use crate::engine::controller::paths::Paths;
use crate::engine::view::ExchangeStep;
use crate::health::service_prober::CheckVerdict;
use crate::id::ServerId;
use crate::time::Instant;
use crate::wire::Family;

/// The largest number of requested checks at once.
const REQUESTS_MAX: usize = 256;

/// A check that an operator requested, with its frames so far.
#[derive(Debug)]
pub(super) struct Request {
    number: u64,
    subject: String,
    started: Instant,
    steps: Vec<ExchangeStep>,
    pub(super) verdict: Option<CheckVerdict>,
}

impl Farm {
    /// Checks a server for `fwlb probe SERVICE/SERVER`, in every family. Returns the numbers of the requests.
    pub(in crate::engine::controller) fn start_checks(
        &mut self,
        server: ServerId,
        links: &mut Links,
        paths: &Paths,
        now: Instant,
        out: &mut Outbox,
    ) -> Vec<u64> {
        let families: Vec<Family> = self.checks_of(server).map(|check| check.family).collect();
        families.into_iter().map(|family| self.start_requested_check(server, family, links, paths, now, out)).collect()
    }

    fn start_requested_check(
        &mut self,
        server: ServerId,
        family: Family,
        links: &mut Links,
        paths: &Paths,
        now: Instant,
        out: &mut Outbox,
    ) -> u64 {
        let number = out.new_request();
        let subject = format!("{} {}", self.config.server_name(server), family);
        let request = Request { number, subject: subject.clone(), started: now, steps: Vec::new(), verdict: None };
        let asked =
            self.checks.running.values().filter(|running| matches!(running.requester, Requester::Request(_))).count();
        let refused = if asked >= REQUESTS_MAX {
            Some("too many checks at once: try again in a second".to_owned())
        } else {
            let outcome =
                self.launch_check((server, family), Requester::Request(Box::new(request)), links, paths, now, out);
            outcome.err().map(|why| match why {
                CheckNotStarted::Busy => "too many checks of its port at once: try again in a second".to_owned(),
                CheckNotStarted::LinkDown(why) | CheckNotStarted::NoRoute(why) => why,
            })
        };
        if let Some(why) = refused {
            let steps = Vec::new();
            self.answer_request(
                Request { number, subject, started: now, steps, verdict: Some(CheckVerdict::Unhealthy(why)) },
                out,
            );
        }
        number
    }

    /// Reports to the operator how the check ended.
    pub(super) fn answer_request(&mut self, request: Request, out: &mut Outbox) {
        let outcome = match request.verdict {
            Some(CheckVerdict::Healthy(rtt)) => (true, None, Some(rtt)),
            Some(CheckVerdict::Unhealthy(why) | CheckVerdict::TimedOut(why)) => (false, Some(why), None),
            None => (false, Some("no verdict".to_owned()), None),
        };
        let engine = &self.config.engine.name;
        let view = paths::exchange_view(engine, request.subject, request.steps, outcome);
        out.answer(request.number, view);
    }

    /// Notes a received frame that belongs to a check. `what` is called only if an operator requested the check.
    pub(super) fn note_received(&mut self, key: CheckKey, what: impl FnOnce() -> String, now: Instant) {
        if let Some(RunningCheck { requester: Requester::Request(request), .. }) = self.checks.running.get_mut(&key) {
            let what = format!("{} from {}", what(), SocketAddr::new(key.remote, key.remote_port));
            request.note("received", what, now);
        }
    }
}

impl Request {
    /// Notes a step of the exchange: its direction, `sent` or `received`, and the frame in words.
    pub(super) fn note(&mut self, direction: &str, what: String, now: Instant) {
        let at_us = u64::try_from(now.since(self.started).as_micros()).unwrap_or(u64::MAX);
        self.steps.push(ExchangeStep { at_us, direction: direction.to_owned(), what });
    }
}
