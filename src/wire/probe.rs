//! The payload of path probes: who asks, through which firewall, and what it believes of the group.
