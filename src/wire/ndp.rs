//! IPv6 neighbour discovery (RFC 4861).
