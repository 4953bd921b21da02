//! Multicast listener reports for the solicited-node groups (RFC 2710, RFC 3810).
