//! Options that say which language models a workload reaches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};

use super::exec::operator_error;
use super::{Failure, exec, paths};
use crate::backends::llm::{
    CacheMode, Credentials, LlmSettings, Primary, ProviderKind, Providers, RouterConfig, Secret, Target,
};
use crate::config::{RuntimeConfig, Secrets, is_well_known};
use crate::host_api::llm::{LlmBackend, OfflineProvider, Script, Tier};

/// Largest script that is read, in bytes.
const SCRIPT_BYTES_MAX: u64 = 64 << 20;

#[derive(Args)]
#[command(next_help_heading = "Language models")]
pub(super) struct LlmOptions {
    /// Ask this provider first: one of the configuration file, or a well-known one such as `openai`; `auto` is the
    /// first of the file. The file's tiers do not count then [default: what the file says, or else `offline`]
    #[arg(long, value_name = "PROVIDER[/MODEL]")]
    provider: Option<String>,

    /// The model of that provider, or PROVIDER/MODEL
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// Ask these if it fails, in order
    #[arg(long, value_name = "PROVIDER[/MODEL]", value_delimiter = ',')]
    fallback: Vec<String>,

    /// Ask nobody else if it fails
    #[arg(long, conflicts_with = "fallback")]
    no_fallback: bool,

    /// The tier of requests that name neither a tier nor a model
    #[arg(long, value_enum)]
    tier: Option<TierName>,

    /// Ask also where an answer to an equal request is kept
    #[arg(long)]
    no_cache: bool,

    /// Take a provider's key from this environment variable; without PROVIDER it is that of `--provider`
    #[arg(long, value_name = "[PROVIDER=]NAME")]
    key_from_env: Vec<String>,

    /// What the operator set up [default: `holm/runtime.toml` in the user's configuration folder, if it is there]
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,

    /// Keys, as TOML [default: what the configuration file says, or `secrets.toml` beside it]
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,

    /// Answer from this script (JSON) what goes to the provider `offline`, and all where no provider is named
    #[arg(long, value_name = "PATH")]
    llm_script: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum TierName {
    Fast,
    Balanced,
    Quality,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Fast => Tier::Fast,
            TierName::Balanced => Tier::Balanced,
            TierName::Quality => Tier::Quality,
        }
    }
}

impl LlmOptions {
    /// What answers the workload's requests, within a cost that was asked for. It is in the settings too, as a limit needs
    /// to know what models cost.
    pub(super) fn backend(&self, cost_microusd: Option<u64>) -> Result<Arc<dyn LlmBackend>, Failure> {
        let offline = self.offline().map_err(Failure::Usage)?;
        let Some(mut settings) = self.settings().map_err(Failure::Usage)? else {
            return Ok(Arc::new(offline));
        };
        if let Some(limit) = cost_microusd {
            settings.limits.cost_microusd = settings.limits.cost_microusd.min(limit);
        }
        let config = RouterConfig::new(settings).map_err(|error| Failure::Usage(error.into()))?;
        let providers = Providers::with_offline(Arc::new(config), offline);
        Ok(Arc::new(providers.map_err(|error| Failure::Host(operator_error(error.message(), error.cause())))?))
    }

    /// None where nobody said anything about providers.
    fn settings(&self) -> anyhow::Result<Option<LlmSettings>> {
        let named = self.provider.is_some() || !self.fallback.is_empty();
        let nothing_said = self.model.is_none() && self.tier.is_none() && self.key_from_env.is_empty();
        if self.llm_script.is_some() && !named {
            return Ok(None);
        }
        let file = self.config_file.clone().or_else(paths::config_file);
        if file.is_none() && !named && nothing_said {
            return Ok(None);
        }
        let config = file.as_deref().map(RuntimeConfig::read).transpose()?.unwrap_or_default();
        let mut secrets = self.read_secrets(file.as_deref(), &config)?;
        let keys = self.keys_from_env()?;
        for (provider, key) in &keys {
            secrets.set(provider, key.clone());
        }
        let mut settings = config.llm_settings(&secrets)?;
        self.apply(&mut settings)?;
        settings.add_well_known(&secrets)?;
        for (owner, key) in keys {
            // Also where its table names another secret.
            let provider = settings.providers.iter_mut().find(|provider| provider.name.as_str() == owner);
            let Some(provider) = provider else {
                bail!("--key-from-env: there is no provider `{owner}` that is asked")
            };
            provider.credentials = Credentials::Key(key);
        }
        Ok(Some(settings))
    }

    /// Who is asked first.
    fn set_primary(&self, settings: &mut LlmSettings) -> anyhow::Result<()> {
        if self.provider.is_some() {
            settings.tiers.clear();
        }
        match self.provider.as_deref() {
            None => {}
            Some("auto") => settings.primary = Primary::Auto,
            Some(text) => settings.primary = Primary::Target(text.parse().context("--provider")?),
        }
        if let Some(model) = &self.model {
            if model.is_empty() {
                bail!("--model: write the name of a model");
            }
            if self.provider.is_none()
                && let Some((provider, _)) = model.split_once('/')
                && (is_well_known(provider) || settings.providers.iter().any(|known| known.name.as_str() == provider))
            {
                settings.primary = Primary::Target(model.parse().context("--model")?);
                return Ok(());
            }
            let provider = match &settings.primary {
                Primary::Target(target) if target.model.is_some() && self.provider.is_some() => {
                    bail!("--model: --provider names a model already")
                }
                Primary::Target(target) => Some(target.provider.clone()),
                Primary::Auto => settings.providers.first().map(|provider| provider.name.clone()),
            };
            let only_offline = settings.providers.iter().all(|known| known.kind == ProviderKind::Offline);
            let provider = provider.filter(|_| self.provider.is_some() || !only_offline);
            let advice = || anyhow!("--model: name its provider too, as in `--provider openai/{model}`");
            let provider = provider.ok_or_else(advice)?;
            settings.primary = Primary::Target(Target { provider, model: Some(model.clone()) });
        }
        Ok(())
    }

    fn apply(&self, settings: &mut LlmSettings) -> anyhow::Result<()> {
        self.set_primary(settings)?;
        if !self.fallback.is_empty() {
            let targets = self.fallback.iter().map(|text| text.parse::<Target>());
            settings.fallback = Some(targets.collect::<Result<_, _>>().context("--fallback")?);
        }
        if self.no_fallback {
            settings.fallback = Some(Vec::new());
        }
        if let Some(tier) = self.tier {
            settings.tier = Some(tier.into());
        }
        if self.no_cache {
            settings.cache = CacheMode::Off;
        }
        Ok(())
    }

    fn read_secrets(&self, config_file: Option<&Path>, config: &RuntimeConfig) -> anyhow::Result<Secrets> {
        let beside = || config_file?.parent().map(|folder| folder.join("secrets.toml")).filter(|file| file.exists());
        match self.secrets.clone().or_else(|| config.secrets.clone()).or_else(beside) {
            Some(file) => Ok(Secrets::read(&file)?),
            None => Ok(Secrets::default()),
        }
    }

    fn keys_from_env(&self) -> anyhow::Result<Vec<(String, Secret)>> {
        let key = |text: &String| {
            let (provider, variable) = match (text.split_once('='), self.provider.as_deref()) {
                (Some((provider, variable)), _) => (provider, variable),
                (None, Some(primary)) if primary != "auto" => {
                    (primary.split('/').next().unwrap_or(primary), text.as_str())
                }
                (None, _) => bail!("--key-from-env: write PROVIDER={text}, or name a --provider"),
            };
            let value = std::env::var(variable).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    anyhow!("--key-from-env: there is no environment variable {variable:?}")
                }
                std::env::VarError::NotUnicode(_) => {
                    anyhow!("--key-from-env: the environment variable {variable:?} is no text")
                }
            })?;
            let key = Secret::new(value);
            if key.is_empty() {
                bail!("--key-from-env: the environment variable {variable:?} is empty");
            }
            Ok((provider.to_owned(), key))
        };
        self.key_from_env.iter().map(key).collect()
    }

    fn offline(&self) -> anyhow::Result<OfflineProvider> {
        let Some(path) = &self.llm_script else { return Ok(OfflineProvider::default()) };
        let text =
            String::from_utf8(exec::read(path, SCRIPT_BYTES_MAX)?).with_context(|| path.display().to_string())?;
        let script = Script::from_json(&text).with_context(|| path.display().to_string())?;
        Ok(OfflineProvider::with_script(script))
    }
}
