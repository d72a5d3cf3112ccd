//! What a router is built from: settled before the execution begins, and never changed after.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::pricing::{Model, PriceTable};
use super::{Credentials, ModelPattern, Provider, ProviderKind};
use crate::host_api::Name;
use crate::host_api::llm::{LlmError, Price, RouterLimits, Tier};

/// What a user's requests to language models go through, to be checked by [`RouterConfig::new`].
#[derive(Clone, Debug)]
pub struct LlmSettings {
    /// The providers, in the order in which [`Primary::Auto`] takes them.
    pub providers: Vec<Provider>,
    /// Who is asked first.
    pub primary: Primary,
    /// Who is asked if that fails, in order. Left out it is nobody, or with [`Primary::Auto`] all others.
    pub fallback: Option<Vec<Target>>,
    /// What the tiers stand for. A tier that stands for nothing is the primary.
    pub tiers: HashMap<Tier, Target>,
    /// The tier of requests that name neither a tier nor a model.
    pub tier: Option<Tier>,
    /// What makes vectors where the guest does not name a model.
    pub embedding: Option<Target>,
    /// Models that may be asked, as `openai/gpt-4o*`; empty for all.
    pub models_allowed: Vec<ModelPattern>,
    /// Whether equal requests are asked once.
    pub cache: CacheMode,
    /// How often a provider is tried again.
    pub retries: Retries,
    /// How long it is waited for.
    pub timeouts: Timeouts,
    /// How often a model is asked again whose answer does not match the response schema.
    pub repairs_max: u32,
    /// What one execution may spend. The execution's own budget holds besides.
    pub limits: RouterLimits,
    /// What models cost.
    pub prices: Arc<PriceTable>,
}

impl Default for LlmSettings {
    /// The offline provider and nothing else.
    fn default() -> Self {
        LlmSettings {
            providers: vec![Provider::offline()],
            primary: Primary::Auto,
            fallback: None,
            tiers: HashMap::new(),
            tier: None,
            embedding: None,
            models_allowed: Vec::new(),
            cache: CacheMode::Off,
            retries: Retries::default(),
            timeouts: Timeouts::default(),
            repairs_max: 2,
            limits: RouterLimits::default(),
            prices: PriceTable::bundled(),
        }
    }
}

/// Who is asked first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Primary {
    /// The first provider.
    Auto,
    /// This one.
    Target(Target),
}

/// A provider, and one of its models: `openai/gpt-4o`. Without a model it is the provider's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The provider.
    pub provider: Name,
    /// The model.
    pub model: Option<String>,
}

impl FromStr for Target {
    type Err = InvalidSettings;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (provider, model) = match text.split_once('/') {
            Some((provider, model)) => (provider, Some(model.to_owned())),
            None => (text, None),
        };
        match provider.parse() {
            Ok(provider) if model.as_deref() != Some("") => Ok(Target { provider, model }),
            _ => Err(InvalidSettings(format!("write PROVIDER or PROVIDER/MODEL instead of {text:?}"))),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => write!(f, "{}/{model}", self.provider),
            None => write!(f, "{}", self.provider),
        }
    }
}

/// Whether equal requests of one user are asked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Every request is asked.
    Off,
    /// An answer is kept, and given again to an equal request under an equal configuration.
    On {
        /// How long, in milliseconds.
        ttl_ms: u64,
    },
    /// Answers that are kept are given, and none is added.
    ReadOnly,
}

/// How often a provider is tried again that may answer the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first, of each provider in the chain.
    pub max: u32,
    /// The wait before the first of them, in milliseconds; it doubles, and varies by chance.
    pub base_ms: u64,
    /// The longest wait. A provider that wants to be left alone for longer is left alone.
    pub wait_ms_max: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { max: 2, base_ms: 250, wait_ms_max: 20_000 }
    }
}

/// How long to wait for a provider, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect_ms: u64,
    /// From the beginning to the first event of an answer that is streamed.
    pub first_token_ms: u64,
    /// For the whole answer, from the beginning.
    pub answer_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect_ms: 5_000, first_token_ms: 30_000, answer_ms: 120_000 }
    }
}

/// Each try is told to the guest and kept in the record.
const RETRIES_MAX: u32 = 100;

/// The settings make no sense together. One sentence, for whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSettings(pub(super) String);

impl InvalidSettings {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        InvalidSettings(what.into())
    }
}

/// What one router is built from. It never changes: a user who changes the settings gets another one, for executions that
/// begin after that.
#[derive(Debug)]
pub struct RouterConfig {
    settings: LlmSettings,
    providers: HashMap<Name, Arc<Provider>>,
    digest: blake3::Hash,
}

/// Where a request can go.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) provider: Arc<Provider>,
    pub(super) model: String,
    /// What is known of the model.
    pub(super) known: Option<Model>,
}

impl Route {
    pub(super) fn price(&self) -> Option<Price> {
        self.known.map(|model| model.price)
    }
}

impl RouterConfig {
    /// Checks settings.
    ///
    /// # Errors
    /// They name a provider that is not there, or a model that is not allowed.
    pub fn new(settings: LlmSettings) -> Result<Self, InvalidSettings> {
        let mut providers = HashMap::new();
        for provider in &settings.providers {
            if !provider.url.username().is_empty() || provider.url.password().is_some() {
                let why =
                    format!("the address of `{}` has a user or a password in it, which would show", provider.name);
                return Err(InvalidSettings(why));
            }
            if providers.insert(provider.name.clone(), Arc::new(provider.clone())).is_some() {
                return Err(InvalidSettings(format!("two providers are called `{}`", provider.name)));
            }
        }
        if settings.providers.is_empty() {
            return Err(InvalidSettings("there is no provider".to_owned()));
        }
        if settings.retries.max > RETRIES_MAX {
            return Err(InvalidSettings(format!("retries: a provider is tried again {RETRIES_MAX} times at most")));
        }
        let digest = digest(&settings);
        let config = RouterConfig { settings, providers, digest };
        let settings = &config.settings;
        let named = |what: &str, target: &Target| {
            config.route(target).map(drop).map_err(|error| InvalidSettings(format!("{what}: {error}")))
        };
        if let Primary::Target(target) = &settings.primary {
            named("provider", target)?;
        }
        settings.fallback.iter().flatten().try_for_each(|target| named("fallback", target))?;
        settings.tiers.values().try_for_each(|target| named("tiers", target))?;
        settings.embedding.iter().try_for_each(|target| named("embedding", target))?;
        Ok(config)
    }

    pub(super) fn settings(&self) -> &LlmSettings {
        &self.settings
    }

    /// Stands for all of it, keys included.
    pub(super) fn digest(&self) -> &blake3::Hash {
        &self.digest
    }

    /// Where a request goes, and where it goes if that fails.
    pub(super) fn routes(&self, model: Option<&str>, tier: Option<Tier>) -> Result<Vec<Route>, LlmError> {
        let first = match (model, tier.or(self.settings.tier)) {
            (Some(model), _) => self.route_of_model(model),
            (None, Some(tier)) => match self.settings.tiers.get(&tier) {
                Some(target) => self.route(target),
                None => self.primary(tier_name(tier)),
            },
            (None, None) => self.primary(""),
        };
        let mut routes = vec![first.map_err(|error| LlmError::NoProvider(error.0))?];
        for route in self.fallback() {
            let same = |known: &Route| known.provider.name == route.provider.name && known.model == route.model;
            if !routes.iter().any(same) {
                routes.push(route);
            }
        }
        Ok(routes)
    }

    /// Where texts are embedded. There is no other way if that fails: vectors of another model mean something else.
    pub(super) fn embedding_route(&self, model: Option<&str>) -> Result<Route, LlmError> {
        let route = match (model, &self.settings.embedding) {
            (Some(model), _) => self.route_of_model(model),
            (None, Some(target)) => self.route(target),
            (None, None) => self.primary("").and_then(|route| match route.provider.kind {
                ProviderKind::Offline => Ok(route),
                _ => Err(InvalidSettings("no embedding model is set; name one, or set `embedding`".to_owned())),
            }),
        };
        route.map_err(|error| LlmError::NoProvider(error.0))
    }

    /// A model that a guest names: with its provider, or as one that a provider lists, or of the primary provider.
    fn route_of_model(&self, model: &str) -> Result<Route, InvalidSettings> {
        if let Some((provider, rest)) = model.split_once('/')
            && let Some(provider) = self.find(provider)
            && !rest.is_empty()
        {
            return self.checked(Arc::clone(provider), rest.to_owned());
        }
        let primary = self.primary_provider()?;
        let lists = |provider: &&Provider| provider.models.iter().any(|pattern| pattern.matches(model));
        let listing = std::iter::once(primary.as_ref()).chain(&self.settings.providers).find(lists);
        let provider = match listing.and_then(|provider| self.providers.get(&provider.name)) {
            Some(provider) => provider,
            None if primary.models.is_empty() => primary,
            None => return Err(InvalidSettings(format!("no provider has the model {model:?}"))),
        };
        self.checked(Arc::clone(provider), model.to_owned())
    }

    fn find(&self, provider: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|(name, _)| name.as_str() == provider).map(|(_, provider)| provider)
    }

    fn primary_provider(&self) -> Result<&Arc<Provider>, InvalidSettings> {
        let provider = match &self.settings.primary {
            Primary::Auto => self.settings.providers.first().map(|provider| &provider.name),
            Primary::Target(target) => Some(&target.provider),
        };
        provider.and_then(|name| self.providers.get(name)).ok_or_else(|| InvalidSettings("there is no provider".into()))
    }

    fn primary(&self, tier: &str) -> Result<Route, InvalidSettings> {
        let target = match &self.settings.primary {
            Primary::Target(target) => target.clone(),
            Primary::Auto => Target { provider: self.primary_provider()?.name.clone(), model: None },
        };
        self.route(&target).map_err(|error| match tier {
            "" => error,
            tier => InvalidSettings(format!("the tier `{tier}` stands for nothing, and {error}")),
        })
    }

    fn fallback(&self) -> Vec<Route> {
        match (&self.settings.fallback, &self.settings.primary) {
            (Some(targets), _) => targets.iter().filter_map(|target| self.route(target).ok()).collect(),
            (None, Primary::Target(_)) => Vec::new(),
            (None, Primary::Auto) => {
                let targets = self.settings.providers.iter().map(|p| Target { provider: p.name.clone(), model: None });
                // Those without a model of their own are for requests that name one.
                targets.filter_map(|target| self.route(&target).ok()).collect()
            }
        }
    }

    fn route(&self, target: &Target) -> Result<Route, InvalidSettings> {
        let Some(provider) = self.providers.get(&target.provider) else {
            let mut known: Vec<_> = self.providers.keys().map(Name::as_str).collect();
            known.sort_unstable();
            return Err(InvalidSettings(format!(
                "there is no provider `{}`; there are {}",
                target.provider,
                known.join(", ")
            )));
        };
        let model = match (target.model.as_ref().or(provider.model.as_ref()), &provider.kind) {
            (Some(model), _) => model.clone(),
            // It has one for each tier.
            (None, ProviderKind::Offline) => String::new(),
            (None, ProviderKind::Azure { deployment: Some(deployment), .. }) => deployment.clone(),
            (None, _) => {
                let name = &provider.name;
                return Err(InvalidSettings(format!(
                    "no model of the provider `{name}` is named; write `{name}/MODEL`"
                )));
            }
        };
        self.checked(Arc::clone(provider), model)
    }

    fn checked(&self, provider: Arc<Provider>, model: String) -> Result<Route, InvalidSettings> {
        let full = match model.as_str() {
            "" => provider.name.to_string(),
            model => format!("{}/{model}", provider.name),
        };
        let allowed = &self.settings.models_allowed;
        if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.matches(&full)) {
            return Err(InvalidSettings(format!("the model {full:?} is not allowed")));
        }
        if !provider.models.is_empty() && !provider.models.iter().any(|pattern| pattern.matches(&model)) {
            return Err(InvalidSettings(format!("the provider `{}` has no model {model:?}", provider.name)));
        }
        let known = self.settings.prices.find(&provider, &model);
        // Who does not know whom a request is from bills nobody.
        let may_bill = !matches!(provider.credentials, Credentials::None);
        if known.is_none() && may_bill && self.settings.limits.cost_microusd < u64::MAX {
            let why = format!("the price of {full:?} is not known, and cost is limited; put it into the price table");
            return Err(InvalidSettings(why));
        }
        Ok(Route { provider, model, known })
    }
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Fast => "fast",
        Tier::Balanced => "balanced",
        Tier::Quality => "quality",
    }
}

/// Keys do not show in it, and yet two settings with different keys differ.
fn digest(settings: &LlmSettings) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let LlmSettings { providers, primary, fallback, tiers, tier, embedding, models_allowed, repairs_max, .. } =
        settings;
    let mut tiers: Vec<_> = tiers.iter().map(|(tier, target)| (tier_name(*tier), target)).collect();
    tiers.sort_unstable_by_key(|(name, _)| *name);
    let shown = format!("{:?}", (providers, primary, fallback, tiers, tier, embedding, models_allowed, repairs_max));
    hasher.update(shown.as_bytes());
    for secret in providers.iter().flat_map(|provider| provider.credentials.secrets()) {
        hasher.update(blake3::hash(secret.expose().as_bytes()).as_bytes());
    }
    hasher.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop there")]
mod tests;
