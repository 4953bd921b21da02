//! Building TCP segments: resets for the ends of a dead firewall's sessions, and the segments of TCP probes.
