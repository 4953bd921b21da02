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
