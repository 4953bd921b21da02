//! States as operators see them, where they are fewer or other than those that an engine works with.

use crate::health::monitor::HealthState;

named_enum! {
    /// The operational state of a link, path or health check.
    pub enum OperState {
        /// It works.
        Up = "up",
        /// It does not work, or there is no verdict yet.
        Down = "down",
    }
}

impl From<bool> for OperState {
    fn from(is_up: bool) -> Self {
        if is_up { Self::Up } else { Self::Down }
    }
}

impl From<HealthState> for OperState {
    fn from(state: HealthState) -> Self {
        match state {
            HealthState::Up => Self::Up,
            HealthState::Starting | HealthState::Down => Self::Down,
        }
    }
}

named_enum! {
    /// The state of a firewall that a flow could take.
    pub enum CandidateState {
        /// It takes new flows.
        Up = "up",
        /// There is no verdict yet.
        Starting = "starting",
        /// It takes no flows.
        Down = "down",
        /// It takes no new flows.
        Drain = "drain",
        /// It is out of service.
        Maint = "maint",
    }
}

named_enum! {
    /// Whether a peer has the same group in its configuration.
    #[derive(Default)]
    pub enum DigestState {
        /// Firewalls, weights, spares, hash and seed are the same.
        Same = "same",
        /// At least one of them is not.
        Differs = "differs",
        /// No probe of it was received.
        #[default]
        Unknown = "unknown",
    }
}

named_enum! {
    /// An end of a flow.
    pub enum FlowEnd {
        /// The end that sends.
        Source = "source",
        /// The end that receives.
        Destination = "destination",
    }
}

named_enum! {
    /// What operators set by command, and what sessions are on.
    #[derive(Default)]
    pub enum ObjectKind {
        /// A firewall of a group.
        #[default]
        Firewall = "firewall",
        /// A server of a service.
        Server = "server",
        /// A virtual service.
        Service = "service",
    }
}

named_enum! {
    /// What decides where a flow goes.
    #[derive(Default)]
    pub enum DecidedBy {
        /// The session of the flow.
        Session = "session",
        /// The firewall that its packet came from, which a new session remembers.
        Learned = "learned",
        /// The hash of its addresses and ports.
        Hash = "hash",
        /// The route past a group of which no firewall is up.
        Bypass = "bypass",
        /// The route: no group is on the way, or the route names the firewall.
        #[default]
        Route = "route",
        /// The scheduler of a service.
        Service = "service",
        /// The packet is for the engine itself.
        Local = "local",
        /// The packet is dropped.
        Drop = "drop",
    }
}

named_enum! {
    /// What would happen to a live session if the firewall or server that it takes failed.
    pub enum SessionAfterFailure {
        /// It goes on as it is.
        Stays = "stays",
        /// It goes on through another firewall or at another server.
        Moves = "moves",
        /// It ends, and its ends get a TCP reset.
        Reset = "reset",
        /// Its packets are dropped.
        Dropped = "dropped",
    }
}

named_enum! {
    /// What would happen to sessions that cannot go on as they are.
    pub enum SessionFate {
        /// They go on elsewhere.
        Moves = "moves",
        /// They end, and their ends get a TCP reset.
        IsReset = "is reset",
        /// Their packets are dropped.
        IsDropped = "is dropped",
        /// Their packets are dropped until a path is up.
        WaitsForPath = "waits for a path",
    }
}
