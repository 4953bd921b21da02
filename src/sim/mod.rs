//! The laboratory: both engines in one process under virtual time, with model firewalls, hosts, faults and checkers.
