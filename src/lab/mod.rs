//! The sandwich in network namespaces.
