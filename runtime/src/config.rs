//! Configuration files: `runtime.toml`, what the operator set up, and the file of secrets beside it. They are read once,
//! at start; nothing here looks at the environment.

mod secrets;
mod well_known;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Url;
use serde::Deserialize;

use crate::backends::llm::{
    Addresses, CacheMode, Credentials, InvalidPrices, LlmSettings, ModelPattern, PriceTable, Primary, Provider,
    ProviderKind, Retries, Target, Timeouts,
};
use crate::host_api::Name;
use crate::host_api::llm::{RouterLimits, Tier};

pub use secrets::Secrets;
pub(crate) use well_known::is_well_known;
use well_known::{WELL_KNOWN, well_known};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How long answers are kept where nobody says it.
const CACHE_TTL_MS: u64 = 60 * 60 * 1000;

/// A configuration file cannot be used. One sentence: which file, where in it, and what to do. It quotes nothing of the
/// file, as that may be a secret in the wrong place.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}", path = path.display())]
pub struct ConfigError {
    path: PathBuf,
    what: String,
}

impl ConfigError {
    fn new(path: &Path, what: impl Into<String>) -> Self {
        ConfigError { path: path.to_owned(), what: what.into() }
    }

    fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        ConfigError::new(path, format!("it cannot be read: {error}"))
    }

    fn toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let message = error.message().trim().replace('\n', "; ");
        // Before that stands the value that was there instead, unless it is about a name.
        let about_name = ["unknown field", "missing field", "duplicate"].iter().any(|what| message.starts_with(what));
        let message = match message.rsplit_once(", expected ") {
            Some((_, expected)) if !about_name => format!("expected {expected}"),
            _ => message,
        };
        ConfigError::new(path, format!("line {line}: {message}"))
    }
}

/// What `runtime.toml` says.
#[derive(Debug, Default)]
pub struct RuntimeConfig {
    llm: LlmTable,
    providers: Vec<ProviderTable>,
    prices: Option<Arc<PriceTable>>,
    /// What the file names with `secrets`; none where it names none.
    pub secrets: Option<PathBuf>,
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileTable {
    /// A file of secrets, relative to this one.
    secrets: Option<PathBuf>,
    llm: LlmTable,
    providers: Vec<ProviderTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LlmTable {
    provider: Option<String>,
    model: Option<String>,
    fallback: Option<Vec<String>>,
    tier: Option<Tier>,
    tiers: TiersTable,
    embedding: Option<String>,
    models_allowed: Option<Vec<String>>,
    cache: Option<CacheTable>,
    cache_ttl_ms: Option<u64>,
    repairs_max: Option<u32>,
    prices: Option<PathBuf>,
    retries: RetriesTable,
    timeouts: TimeoutsTable,
    limits: LimitsTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TiersTable {
    fast: Option<String>,
    balanced: Option<String>,
    quality: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CacheTable {
    Off,
    On,
    ReadOnly,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RetriesTable {
    max: Option<u32>,
    base_ms: Option<u64>,
    wait_ms_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeoutsTable {
    connect_ms: Option<u64>,
    first_token_ms: Option<u64>,
    answer_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsTable {
    llm_tokens: Option<u64>,
    llm_cost_microusd: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderTable {
    name: String,
    kind: Option<String>,
    url: Option<String>,
    /// The name of its secret; its own name where it is left out.
    secret: Option<String>,
    model: Option<String>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    public_only: bool,
    api_version: Option<String>,
    deployment: Option<String>,
    region: Option<String>,
    team: Option<String>,
}

impl RuntimeConfig {
    /// Reads the file, and the price table that it names.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or has a key that is not known.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let file: FileTable = toml::from_str(&text).map_err(|error| ConfigError::toml(path, &text, &error))?;
        let beside = |relative: &PathBuf| path.parent().unwrap_or(Path::new("")).join(relative);
        let prices = file.llm.prices.as_ref().map(|prices| {
            let prices = beside(prices);
            let text = read(&prices)?;
            PriceTable::from_toml(&text).map(Arc::new).map_err(|error| match error {
                InvalidPrices::Toml(error) => ConfigError::toml(&prices, &text, &error),
                error => ConfigError::new(&prices, error.to_string()),
            })
        });
        Ok(RuntimeConfig {
            prices: prices.transpose()?,
            secrets: file.secrets.as_ref().map(beside),
            llm: file.llm,
            providers: file.providers,
            path: path.to_owned(),
        })
    }

    /// The settings for routers. A provider that a target names without a table of its own is the well-known one of that
    /// name, such as `openai`.
    ///
    /// # Errors
    /// A table makes no sense: a name, address or kind that is none.
    pub fn llm_settings(&self, secrets: &Secrets) -> Result<LlmSettings, ConfigError> {
        let wrong = |what: String| ConfigError::new(&self.path, what);
        let defaults = LlmSettings::default();
        let llm = &self.llm;
        let target = |text: &String| text.parse::<Target>().map_err(|error| wrong(error.to_string()));
        let mut primary = match llm.provider.as_deref() {
            None | Some("auto") => Primary::Auto,
            Some(text) => Primary::Target(target(&text.to_owned())?),
        };
        if let Some(model) = &llm.model {
            match &mut primary {
                Primary::Target(target) if target.model.is_none() => target.model = Some(model.clone()),
                _ => return Err(wrong("`model` needs a `provider` that names no model itself".to_owned())),
            }
        }
        let tiers =
            [(Tier::Fast, &llm.tiers.fast), (Tier::Balanced, &llm.tiers.balanced), (Tier::Quality, &llm.tiers.quality)];
        let tiers = tiers.into_iter().filter_map(|(tier, text)| Some((tier, text.as_ref()?)));
        let tiers = tiers.map(|(tier, text)| Ok((tier, target(text)?))).collect::<Result<_, ConfigError>>()?;
        let fallback = llm.fallback.as_ref().map(|list| list.iter().map(target).collect()).transpose()?;
        let ttl_ms = llm.cache_ttl_ms.unwrap_or(CACHE_TTL_MS);
        let providers = self.providers.iter().map(|table| self.provider(table, secrets));
        let mut settings = LlmSettings {
            providers: providers.collect::<Result<_, _>>()?,
            primary,
            fallback,
            tiers,
            tier: llm.tier,
            embedding: llm.embedding.as_ref().map(target).transpose()?,
            models_allowed: self.models_allowed()?,
            cache: match llm.cache {
                None | Some(CacheTable::Off) => CacheMode::Off,
                Some(CacheTable::On) => CacheMode::On { ttl_ms },
                Some(CacheTable::ReadOnly) => CacheMode::ReadOnly,
            },
            retries: Retries {
                max: llm.retries.max.unwrap_or(defaults.retries.max),
                base_ms: llm.retries.base_ms.unwrap_or(defaults.retries.base_ms),
                wait_ms_max: llm.retries.wait_ms_max.unwrap_or(defaults.retries.wait_ms_max),
            },
            timeouts: Timeouts {
                connect_ms: llm.timeouts.connect_ms.unwrap_or(defaults.timeouts.connect_ms),
                first_token_ms: llm.timeouts.first_token_ms.unwrap_or(defaults.timeouts.first_token_ms),
                answer_ms: llm.timeouts.answer_ms.unwrap_or(defaults.timeouts.answer_ms),
            },
            repairs_max: llm.repairs_max.unwrap_or(defaults.repairs_max),
            limits: RouterLimits {
                tokens: llm.limits.llm_tokens.unwrap_or(u64::MAX),
                cost_microusd: llm.limits.llm_cost_microusd.unwrap_or(u64::MAX),
            },
            prices: self.prices.clone().unwrap_or(defaults.prices),
        };
        settings.add_well_known(secrets).map_err(|error| wrong(error.to_string()))?;
        Ok(settings)
    }

    fn models_allowed(&self) -> Result<Vec<ModelPattern>, ConfigError> {
        let Some(patterns) = &self.llm.models_allowed else { return Ok(Vec::new()) };
        if patterns.is_empty() || patterns.iter().any(|pattern| !pattern.contains('/')) {
            let what = "`models_allowed` has patterns such as `openai/gpt-4o*`; leave it out to allow all";
            return Err(ConfigError::new(&self.path, what));
        }
        Ok(patterns.iter().map(ModelPattern::new).collect())
    }

    fn provider(&self, table: &ProviderTable, secrets: &Secrets) -> Result<Provider, ConfigError> {
        let ProviderTable { name, kind, url, secret, model, models, public_only, .. } = table;
        let wrong = |what: String| ConfigError::new(&self.path, format!("providers: `{name}`: {what}"));
        let own_name: Name = name.parse().map_err(|error| wrong(format!("{error}")))?;
        if name == "auto" {
            return Err(wrong("`auto` stands for the first provider, and cannot be the name of one".to_owned()));
        }
        let kind_name = kind.as_deref().unwrap_or(name);
        let Some((kind_known, usual_url)) = well_known(kind_name) else {
            let what = if kind.is_some() { "is none of" } else { "is missing; it is one of" };
            return Err(wrong(format!("`kind` {what} {}", WELL_KNOWN.map(|(name, ..)| name).join(", "))));
        };
        let needs = |what: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| wrong(format!("`{what}` is missing, which the kind `{kind_name}` needs")))
        };
        let kind = match kind_known {
            ProviderKind::Azure { .. } => ProviderKind::Azure {
                api_version: needs("api_version", &table.api_version)?,
                deployment: table.deployment.clone(),
            },
            ProviderKind::Bedrock { .. } => ProviderKind::Bedrock { region: needs("region", &table.region)? },
            ProviderKind::Friendli { .. } => ProviderKind::Friendli { team: table.team.clone() },
            other => other,
        };
        let foreign = [
            ("api_version", table.api_version.is_some(), matches!(kind, ProviderKind::Azure { .. })),
            ("deployment", table.deployment.is_some(), matches!(kind, ProviderKind::Azure { .. })),
            ("region", table.region.is_some(), matches!(kind, ProviderKind::Bedrock { .. })),
            ("team", table.team.is_some(), matches!(kind, ProviderKind::Friendli { .. })),
        ];
        if let Some((key, ..)) = foreign.iter().find(|(_, given, known)| *given && !known) {
            return Err(wrong(format!("`{key}` means nothing to the kind `{kind_name}`")));
        }
        let url = match (url, &kind) {
            (Some(url), _) => url.clone(),
            (None, ProviderKind::Bedrock { region }) => bedrock_url(region),
            // One of another name is somebody's own: its requests must not go to the world's by mistake.
            (None, _) if !usual_url.is_empty() && name == kind_name => usual_url.to_owned(),
            (None, _) => return Err(wrong(format!("`url` is missing, which the kind `{kind_name}` needs"))),
        };
        let url = parse_url(&url).map_err(wrong)?;
        if *public_only && url.scheme() != "https" {
            return Err(wrong("`public_only` needs an address with https".to_owned()));
        }
        let credentials = match secret {
            Some(secret) => Some(secrets.get(secret).ok_or_else(|| wrong(format!("there is no secret `{secret}`")))?),
            None => secrets.get(name),
        };
        Ok(Provider {
            name: own_name,
            url,
            credentials: credentials.unwrap_or(Credentials::None),
            model: model.clone(),
            models: models.iter().map(ModelPattern::new).collect(),
            addresses: if *public_only { Addresses::Public } else { Addresses::Any },
            kind,
        })
    }
}

fn bedrock_url(region: &str) -> String {
    format!("https://bedrock-runtime.{region}.amazonaws.com")
}

fn parse_url(text: &str) -> Result<Url, String> {
    // What comes after it begins with a slash.
    let url = Url::parse(text.trim_end_matches('/')).map_err(|error| format!("`url` is no address: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() && url.query().is_none() && url.fragment().is_none() => Ok(url),
        "offline" => Ok(url),
        _ => Err("`url` must be an address with http or https, and without a query".to_owned()),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| ConfigError::unreadable(path, &error))?;
    read_to_end(path, &file, &mut text)?;
    Ok(text)
}

/// Reads all of a file, or none: half a file says something else.
fn read_to_end(path: &Path, file: &File, text: &mut String) -> Result<(), ConfigError> {
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(text);
    let bytes = read.map_err(|error| ConfigError::unreadable(path, &error))?;
    if bytes as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::new(path, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests;
