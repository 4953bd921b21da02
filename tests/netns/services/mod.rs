//! Server load balancing on real packets: virtual services, real servers that fail and recover, and the paths between
//! them.
//!
//! [`sandwich`] has the services behind strict firewalls; the other tests have one engine between clients and a farm
//! ([`farm`]), whose hosts are sockets of the test itself ([`host`]) or ordinary programs. Important properties are
//! tested in both families.

mod capture;
pub mod farm;
pub mod host;

mod bulk;
mod checks;
mod exchange;
mod failure;
mod fair;
mod modes;
mod observe;
mod orders;
pub mod sandwich;
mod scale;
mod schedulers;
mod sticky;
