//! The table that hashes flows to servers: Maglev (Eisenbud et al., NSDI 2016), weighted, 65,537 slots.
