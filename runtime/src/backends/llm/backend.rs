//! Makes the router of each execution.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::runtime::Handle;

use super::cache::Caches;
use super::router::ExecutionRouter;
use super::wire::{Limits, Wire};
use super::{CacheMode, RouterConfig};
use crate::host_api::llm::{LlmBackend, LlmError, OfflineProvider, Router};
use crate::host_api::{HostError, Name, Scope};

/// Cores for each thread that speaks with providers: they wait more than they work.
const CORES_PER_THREAD: usize = 4;

/// Where the configuration of an execution's router comes from. It is asked once, when the execution begins.
pub trait RouterConfigs: Send + Sync + 'static {
    /// The configuration as of now.
    ///
    /// # Errors
    /// It cannot be read, or there is none; the message is for the user.
    fn of(&self, scope: &Scope) -> Result<Arc<RouterConfig>, LlmError>;
}

/// One configuration for everybody.
impl RouterConfigs for Arc<RouterConfig> {
    fn of(&self, _: &Scope) -> Result<Arc<RouterConfig>, LlmError> {
        Ok(Arc::clone(self))
    }
}

/// Configurations by user, in memory.
#[derive(Debug)]
pub struct ConfigsByUser {
    default: Arc<RouterConfig>,
    users: RwLock<HashMap<Name, Arc<RouterConfig>>>,
}

impl ConfigsByUser {
    /// Everybody has this one, until [`ConfigsByUser::set`] gives them their own.
    pub fn new(default: RouterConfig) -> Self {
        ConfigsByUser { default: Arc::new(default), users: RwLock::default() }
    }

    /// From here on this user's executions have this one. Those under way keep what they have.
    pub fn set(&self, user: Name, config: RouterConfig) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).insert(user, Arc::new(config));
    }
}

impl RouterConfigs for Arc<ConfigsByUser> {
    fn of(&self, scope: &Scope) -> Result<Arc<RouterConfig>, LlmError> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(users.get(&scope.user).unwrap_or(&self.default)))
    }
}

/// Routers to real providers.
///
/// What executions share is what has no owner: threads for the network, and connections, on which nothing but the headers
/// of each request says whose it is.
pub struct Providers {
    configs: Box<dyn RouterConfigs>,
    offline: OfflineProvider,
    caches: Caches,
    shared: Arc<Shared>,
}

/// What all routers share.
pub(super) struct Shared {
    pub(super) wire: Wire,
    pub(super) io: Handle,
    threads: Option<tokio::runtime::Runtime>,
}

impl Providers {
    /// Routers that are built from these configurations.
    ///
    /// # Errors
    /// The threads for the network cannot be started.
    pub fn new(configs: impl RouterConfigs) -> Result<Self, HostError> {
        Self::with_offline(configs, OfflineProvider::default())
    }

    /// The same; providers of the kind `offline` are this one.
    ///
    /// # Errors
    /// As [`Providers::new`].
    pub fn with_offline(configs: impl RouterConfigs, offline: OfflineProvider) -> Result<Self, HostError> {
        let wire =
            Wire::new(Limits::default(), b"").map_err(|why| HostError::new("TLS cannot be set up").because(why))?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.div_ceil(CORES_PER_THREAD).max(2))
            .thread_name("holm-llm")
            .enable_all()
            .build()
            .map_err(|error| HostError::new("the router's threads cannot be started").because(error))?;
        let shared = Shared { wire, io: threads.handle().clone(), threads: Some(threads) };
        let (configs, caches) = (Box::new(configs), Caches::default());
        Ok(Providers { configs, offline, caches, shared: Arc::new(shared) })
    }
}

impl LlmBackend for Providers {
    fn open(&self, scope: &Arc<Scope>) -> Result<Arc<dyn Router>, LlmError> {
        let config = self.configs.of(scope)?;
        Ok(Arc::new(ExecutionRouter {
            // An empty one takes room, too.
            cache: (config.settings().cache != CacheMode::Off).then(|| self.caches.of(&scope.user)),
            config,
            deadline: scope.deadline,
            offline: self.offline.open(scope)?,
            shared: Arc::clone(&self.shared),
            untold: Mutex::default(),
        }))
    }
}

impl Drop for Shared {
    /// It may be dropped where nothing may block.
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
