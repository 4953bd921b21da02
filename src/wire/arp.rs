//! ARP: resolve, answer, announce (RFC 826, RFC 5227).
