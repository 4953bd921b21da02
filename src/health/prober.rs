//! Path probes: ICMP echo, TCP, UDP through one firewall to the peer, as frames to send and answers to match.
