//! The list of all calls of which an engine gives an answer in JSON, and what handles them alike.

use serde::Serialize;

use super::call::{Call, HttpCall};
use super::changes::{Confirm, Ping, Plan, Probe, Reload, Rollback, SetFirewall, SetServer, SetService};
use super::sessions::{Kill, SessionRequest, TalkerRequest};
use super::{
    Checks, Config, Configs, Counters, EventFilter, Explain, ExplainHa, Firewalls, Ha, HaFailover, HaMaintenance,
    HaResync, Health, Links, Metrics, Neighbors, Peers, Services, Status, Upgrade,
};

/// A call of the list.
pub trait Listed: Call + Into<Request> {
    /// The answer to this call; `None` if it is the answer to another one.
    fn unpack(answer: Answer) -> Option<Self::Answer>;
}

/// Makes the enums of the requests and of their answers.
macro_rules! calls {
    ($($name:ident($call:ty)),* $(,)?) => {
        /// A request of any kind, for what handles all of them alike.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Request {
            $(#[doc = concat!("See [`", stringify!($call), "`].")] $name($call)),*
        }

        /// The answer to a [`Request`] of the same name.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Answer {
            $(#[doc = concat!("Answers [`", stringify!($call), "`].")] $name(<$call as Call>::Answer)),*
        }

        $(impl From<$call> for Request {
            fn from(call: $call) -> Self {
                Self::$name(call)
            }
        })*

        $(impl Listed for $call {
            fn unpack(answer: Answer) -> Option<Self::Answer> {
                match answer {
                    Answer::$name(answer) => Some(answer),
                    _ => None,
                }
            }
        })*

        impl Request {
            /// The request as an HTTP call.
            pub fn http(&self) -> HttpCall {
                match self {
                    $(Self::$name(call) => call.http()),*
                }
            }

            /// Whether the answer needs a look at every session.
            pub const fn walks_over_sessions(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$call as Call>::WALKS_OVER_SESSIONS),*
                }
            }
        }

        impl Answer {
            /// Parses the JSON answer to `request`.
            pub fn from_json(request: &Request, json: serde_json::Value) -> Result<Self, serde_json::Error> {
                match request {
                    $(Request::$name(_) => serde_json::from_value(json).map(Self::$name)),*
                }
            }
        }
    };
}

calls! {
    Status(Status),
    Health(Health),
    Links(Links),
    Neighbors(Neighbors),
    Firewalls(Firewalls),
    Peers(Peers),
    Services(Services),
    Ha(Ha),
    ExplainHa(ExplainHa),
    HaFailover(HaFailover),
    HaMaintenance(HaMaintenance),
    HaResync(HaResync),
    Checks(Checks),
    Sessions(SessionRequest),
    Talkers(TalkerRequest),
    Kill(Kill),
    Counters(Counters),
    Events(EventFilter),
    Config(Config),
    Metrics(Metrics),
    Explain(Explain),
    SetFirewall(SetFirewall),
    SetServer(SetServer),
    SetService(SetService),
    Reload(Reload),
    Confirm(Confirm),
    Rollback(Rollback),
    Upgrade(Upgrade),
    Configs(Configs),
    Plan(Plan),
    Probe(Probe),
    Ping(Ping),
}
