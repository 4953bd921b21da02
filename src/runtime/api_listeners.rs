//! Serves the addresses of `[api] listen`, which belong to the kernel's side of the machine.
//!
//! An address belongs to the process: every engine is served at each of them, and engines that name the same address
//! share it with the tokens of all.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::RunError;
use crate::api::listen::{self, Access, Limits};
use crate::api::{Backend, Engines};
use crate::config::{Api, Token};

/// The addresses at which the engines of this process are served.
#[derive(Default)]
pub(super) struct ApiListeners {
    /// The section `[api]` of each engine's file, by the name of the engine.
    apis: BTreeMap<String, Api>,
    listeners: BTreeMap<SocketAddr, ApiListener>,
    /// Listeners of the program from which this one takes over.
    inherited: BTreeMap<SocketAddr, TcpListener>,
    /// Set once the engines run.
    serve: Option<Serve>,
}

/// Serves the running engines at a bound address, until the task is aborted.
type Serve = Box<dyn Fn(SocketAddr, TcpListener, Arc<ArcSwap<Access>>) -> JoinHandle<()> + Send>;

#[derive(Debug)]
struct ApiListener {
    access: Arc<ArcSwap<Access>>,
    /// The bound listener, until it is served.
    listener: Option<TcpListener>,
    /// One more descriptor of it, to be shared with another process.
    shared: Option<TcpListener>,
    task: Option<JoinHandle<()>>,
}

/// [`ApiListeners`] as the engines share it.
pub(super) type SharedApiListeners = Arc<Mutex<ApiListeners>>;

/// Locks it. To be held briefly, and never across an await.
pub(super) fn lock(web: &SharedApiListeners) -> MutexGuard<'_, ApiListeners> {
    web.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ApiListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiListeners").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl ApiListeners {
    /// Applies the section `[api]` of `engine`: addresses that no file names any more are closed; certificates and
    /// tokens take effect with the next connection or request. A failure changes nothing.
    pub(super) fn apply(&mut self, engine: &str, api: Api) -> Result<(), RunError> {
        let mut apis = self.apis.clone();
        apis.insert(engine.to_owned(), api);
        let mut accesses = BTreeMap::new();
        let mut bound = Vec::new();
        for listen in apis.values().filter_map(|api| api.listen) {
            if accesses.contains_key(&listen) {
                continue;
            }
            let access = access(listen, &apis).map_err(|source| RunError::Tls { engine: engine.to_owned(), source })?;
            accesses.insert(listen, access);
            if !self.listeners.contains_key(&listen) {
                let opened = match self.inherited.remove(&listen) {
                    Some(inherited) => Ok(inherited),
                    None => open(listen),
                };
                let opened = opened.map_err(|source| RunError::Listen {
                    engine: engine.to_owned(),
                    address: listen,
                    what: listen_help(&source),
                    source,
                })?;
                bound.push((listen, opened));
            }
        }
        self.apis = apis;
        self.listeners.retain(|listen, site| {
            let named = accesses.contains_key(listen);
            if !named {
                site.stop();
            }
            named
        });
        for (listen, access) in accesses {
            match self.listeners.get(&listen) {
                Some(site) => site.access.store(Arc::new(access)),
                None => {
                    let access = Arc::new(ArcSwap::from_pointee(access));
                    self.listeners.insert(listen, ApiListener { access, listener: None, shared: None, task: None });
                }
            }
        }
        for (listen, listener) in bound {
            if let Some(site) = self.listeners.get_mut(&listen) {
                site.shared = listener.try_clone().ok();
                site.listener = Some(listener);
            }
        }
        self.serve_listeners();
        Ok(())
    }

    /// One more descriptor of each listener, by its name, which is [`listener_name`] of its address.
    pub(super) fn share(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let shared = self.listeners.iter().filter_map(|(address, site)| Some((address, site.shared.as_ref()?)));
        shared.map(|(address, listener)| Ok((listener_name(*address), listener.try_clone()?.into()))).collect()
    }

    /// Uses a listener of another program where a file names this address.
    pub(super) fn inherit(&mut self, address: SocketAddr, listener: OwnedFd) {
        self.inherited.insert(address, listener.into());
    }

    /// Begins to answer requests, as the engines run. To be called within the runtime that is to serve.
    pub(super) fn serve<B: Backend>(&mut self, engines: Vec<Arc<B>>) {
        let (engines, runtime) = (Arc::new(Engines::new(engines)), Handle::current());
        self.serve = Some(Box::new(move |address, listener, access| {
            let engines = Arc::clone(&engines);
            runtime.spawn(async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listen::serve(listener, engines, access, Limits::default()).await,
                    Err(error) => tracing::error!(%address, %error, "the API is not served"),
                }
            })
        }));
        self.serve_listeners();
    }

    fn serve_listeners(&mut self) {
        let Some(serve) = &self.serve else { return };
        for (listen, site) in &mut self.listeners {
            let Some(listener) = site.listener.take() else { continue };
            site.task = Some(serve(*listen, listener, Arc::clone(&site.access)));
            tracing::info!(address = %listen, "the API is served");
        }
    }

    /// Stops answering, and closes all addresses.
    pub(super) fn stop(&mut self) {
        self.listeners.values_mut().for_each(ApiListener::stop);
        *self = Self::default();
    }
}

impl ApiListener {
    fn stop(&mut self) {
        (self.listener, self.shared) = (None, None);
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Who has access at `listen`, by all files that name it.
fn access(listen: SocketAddr, apis: &BTreeMap<String, Api>) -> Result<Access, crate::api::tls::TlsError> {
    let naming = || apis.values().filter(|api| api.listen == Some(listen));
    let mut tokens: Vec<Token> = Vec::new();
    for token in naming().flat_map(|api| &api.tokens) {
        if !tokens.contains(token) {
            tokens.push(token.clone());
        }
    }
    Access::new(listen, naming().find_map(|api| api.tls.as_ref()), tokens)
}

/// The name of the listener of an address among the descriptors that two programs share.
pub(super) fn listener_name(address: SocketAddr) -> String {
    format!("api {address}")
}

fn open(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listen_help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has the port; stop that, or set another `listen` in [api]",
        io::ErrorKind::AddrNotAvailable => {
            "no device of this machine has the address; `listen` names one of the kernel's"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; set a higher one in [api]",
        _ => "set another `listen` in [api]",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(listen: Option<SocketAddr>) -> Api {
        Api { listen, ..Api::default() }
    }

    /// An address of loopback that is free at present.
    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn an_address_is_taken_once_shared_by_engines_and_left_with_the_last_one() {
        let (one, other) = (free(), free());
        let mut web = ApiListeners::default();
        web.apply("outer", api(Some(one))).unwrap();
        web.apply("inner", api(Some(one))).unwrap();
        assert!(TcpListener::bind(one).is_err());

        web.apply("outer", api(Some(other))).unwrap();
        assert!(TcpListener::bind(one).is_err(), "inner still names it");
        web.apply("inner", api(None)).unwrap();
        TcpListener::bind(one).expect("nobody names it any more");
        assert!(TcpListener::bind(other).is_err());

        web.stop();
        TcpListener::bind(other).expect("stopped");
    }

    #[test]
    fn a_port_in_use_is_said_and_changes_nothing() {
        let before = free();
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut web = ApiListeners::default();
        web.apply("outer", api(Some(before))).unwrap();

        let error = web.apply("outer", api(Some(held.local_addr().unwrap()))).unwrap_err();

        let line = super::super::with_sources(&error);
        let address = held.local_addr().unwrap().to_string();
        assert!(line.contains(&address) && line.contains("another program has the port"), "{line}");
        assert!(TcpListener::bind(before).is_err(), "still held");
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_said() {
        let tls = crate::config::Tls {
            certificate: include_str!("../../tests/data/api.crt").to_owned(),
            key: crate::config::Secret::new(
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(),
            ),
        };
        let mut web = ApiListeners::default();

        let error = web.apply("outer", Api { tls: Some(tls), ..api(Some(free())) }).unwrap_err();

        let line = super::super::with_sources(&error);
        assert!(line.contains("engine outer") && line.contains("`tls`"), "{line}");
    }
}
