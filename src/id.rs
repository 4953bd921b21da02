//! Numbers for configured things, one type for each kind. They index the lists of one [`crate::config::Config`] and of
//! every [`crate::engine::Snapshot`] built from it. What has to survive a reload is kept by names instead.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u16);

        impl $name {
            /// The position in the list that this number indexes.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl From<usize> for $name {
            /// # Panics
            /// If `index` does not fit 16 bits. The configuration limits every list to far fewer entries.
            fn from(index: usize) -> Self {
                Self(u16::try_from(index).expect("configuration lists are bounded to 65,535 entries"))
            }
        }
    };
}

id!(
    /// A network device that the engine owns. Several links may share one, each with a VLAN of its own (802.1Q).
    DeviceId
);
id!(
    /// A link: a whole device, or one VLAN on it.
    LinkId
);
id!(
    /// A group of firewalls that share load.
    GroupId
);
id!(
    /// A firewall, numbered over all groups of the engine. A path set refers to it by its *slot* within its group.
    FirewallId
);
id!(
    /// A peer engine on a far side of a group, numbered over all groups of the engine.
    PeerId
);
id!(
    /// A set of paths that are judged together, given by group, peer (or every peer) and address family.
    PathSetId
);
id!(
    /// A virtual service.
    ServiceId
);
id!(
    /// A real server, numbered over all services of the engine.
    ServerId
);
