//! RFC 1071 sums and RFC 1624 incremental updates.
