//! Counts what the nodes of a cluster sent each other.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ha::Advertised;
use crate::ha::association::Unopened;

macro_rules! counted {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::runtime) enum Counted {
            $($(#[$doc])* $variant,)*
        }

        /// The names in `show counters`, in the order of the enum.
        pub const NAMES: [&str; [$($name),*].len()] = [$($name),*];
    };
}

counted! {
    /// An advertisement was sent.
    AdvertSent => "ha_advert_sent",
    /// One of another node came that is judged by its hellos.
    AdvertNode => "ha_advert_node",
    /// One of another node came that is judged by it.
    AdvertRouter => "ha_advert_router",
    /// As before, but it lists other addresses than this node has.
    AdvertOtherAddresses => "ha_advert_other_addresses",
    /// One of this node came back.
    AdvertOwn => "ha_advert_own",
    /// One of another virtual router came.
    AdvertOtherVrid => "ha_advert_other_vrid",
    /// One of a station outside the cluster with its VRID came.
    AdvertStranger => "ha_advert_stranger",
    /// One came that is not valid (RFC 9568 section 7.1).
    AdvertInvalid => "ha_advert_invalid",
    /// A hello, or the beginning of an association, was sent.
    HelloSent => "ha_hello_sent",
    /// A hello of another node was opened.
    HelloReceived => "ha_hello_received",
    /// A hello was opened whose content has no meaning.
    HelloInvalid => "ha_hello_invalid",
    /// A datagram about copies of sessions was sent.
    CopiesSent => "ha_copies_sent",
    /// A datagram about copies of sessions was opened.
    CopiesReceived => "ha_copies_received",
    /// A datagram is none of a cluster.
    UnopenedForeign => "ha_unopened_foreign",
    /// A datagram has an unknown format.
    UnopenedFormat => "ha_unopened_format",
    /// A datagram is from no other node.
    UnopenedSender => "ha_unopened_sender",
    /// A datagram was sealed with another key.
    UnopenedKey => "ha_unopened_key",
    /// A datagram is of another association.
    UnopenedAssociation => "ha_unopened_association",
    /// The seal of a datagram is broken.
    UnopenedSeal => "ha_unopened_seal",
    /// A datagram was seen before.
    UnopenedReplay => "ha_unopened_replay",
    /// The socket for synchronisation did not take a datagram.
    SyncUnsent => "ha_sync_unsent",
    /// The thread found no room for a frame of the cluster.
    RingFull => "ha_ring_full",
}

/// The counters of one engine.
#[derive(Debug)]
pub(in crate::runtime) struct HaCounters([AtomicU64; NAMES.len()]);

impl Default for HaCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl HaCounters {
    pub(in crate::runtime) fn count(&self, counted: Counted) {
        self.0[counted as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counters for `show counters`.
    pub(in crate::runtime) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl From<Advertised> for Counted {
    fn from(advertised: Advertised) -> Self {
        match advertised {
            Advertised::Node => Self::AdvertNode,
            Advertised::Router => Self::AdvertRouter,
            Advertised::OtherAddresses => Self::AdvertOtherAddresses,
            Advertised::Own => Self::AdvertOwn,
            Advertised::OtherVrid => Self::AdvertOtherVrid,
            Advertised::Stranger => Self::AdvertStranger,
        }
    }
}

impl From<Unopened> for Counted {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Foreign => Self::UnopenedForeign,
            Unopened::Format => Self::UnopenedFormat,
            Unopened::Sender => Self::UnopenedSender,
            Unopened::Key => Self::UnopenedKey,
            Unopened::Association => Self::UnopenedAssociation,
            Unopened::Seal => Self::UnopenedSeal,
            Unopened::Replay => Self::UnopenedReplay,
        }
    }
}
