//! Providers that need no description.

use super::{Secrets, parse_url};
use crate::backends::llm::{Credentials, InvalidSettings, LlmSettings, Primary, Provider, ProviderKind};
use crate::host_api::Name;

impl LlmSettings {
    /// Adds the well-known providers that targets name and nobody described, with the secrets of their names.
    ///
    /// # Errors
    /// A target names a provider that is neither described nor well known.
    pub fn add_well_known(&mut self, secrets: &Secrets) -> Result<(), InvalidSettings> {
        let primary = match &self.primary {
            Primary::Target(target) => Some(target),
            Primary::Auto => None,
        };
        let targets = primary.into_iter().chain(self.fallback.iter().flatten());
        let targets = targets.chain(self.tiers.values()).chain(&self.embedding);
        let mut missing: Vec<Name> = targets.map(|target| target.provider.clone()).collect();
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|name| self.providers.iter().all(|provider| provider.name != *name));
        for name in missing {
            let (kind, url) = match well_known(name.as_str()) {
                Some((_, "")) => {
                    let what = format!("the provider `{name}` needs a table of its own in runtime.toml");
                    return Err(InvalidSettings::new(what));
                }
                Some((kind, url)) => (kind, parse_url(url).map_err(InvalidSettings::new)?),
                None => {
                    let known = WELL_KNOWN.map(|(name, ..)| name).join(", ");
                    let what = format!("there is no provider `{name}`: none is described, and well known are {known}");
                    return Err(InvalidSettings::new(what));
                }
            };
            let credentials = match secrets.get(name.as_str()) {
                Some(credentials) => credentials,
                // Nobody out there answers without one.
                None if url.scheme() == "https" => {
                    let what = format!(
                        "there is no key for `{name}`: put `{name} = \"…\"` into the file of secrets, or name a variable \
                         with `--key-from-env {name}=NAME`"
                    );
                    return Err(InvalidSettings::new(what));
                }
                None => Credentials::None,
            };
            self.providers.push(Provider { credentials, kind, url, ..Provider::named(name) });
        }
        if self.providers.is_empty() {
            self.providers.push(Provider::offline());
        }
        Ok(())
    }
}

/// Providers that need no description: their kind, and where they are.
pub(super) const WELL_KNOWN: [(&str, &str, &str); 15] = [
    ("openai", "openai", "https://api.openai.com/v1"),
    ("anthropic", "anthropic", "https://api.anthropic.com/v1"),
    ("gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta"),
    ("azure", "azure", ""),
    ("bedrock", "bedrock", ""),
    ("friendli", "friendli", "https://api.friendli.ai/serverless/v1"),
    ("ollama", "ollama", "http://127.0.0.1:11434/v1"),
    ("offline", "offline", "offline:"),
    ("groq", "openai", "https://api.groq.com/openai/v1"),
    ("together", "openai", "https://api.together.xyz/v1"),
    ("openrouter", "openai", "https://openrouter.ai/api/v1"),
    ("deepseek", "openai", "https://api.deepseek.com/v1"),
    ("mistral", "openai", "https://api.mistral.ai/v1"),
    ("xai", "openai", "https://api.x.ai/v1"),
    ("lmstudio", "openai", "http://127.0.0.1:1234/v1"),
];

/// Whether a provider of this name needs no description.
pub(crate) fn is_well_known(name: &str) -> bool {
    well_known(name).is_some()
}

/// The kind of a well-known provider, to be completed, and its address; empty if it has none for all.
pub(super) fn well_known(name: &str) -> Option<(ProviderKind, &'static str)> {
    let (_, kind, url) = WELL_KNOWN.iter().find(|(known, ..)| *known == name)?;
    let kind = match *kind {
        "anthropic" => ProviderKind::Anthropic,
        "gemini" => ProviderKind::Gemini,
        "azure" => ProviderKind::Azure { api_version: String::new(), deployment: None },
        "bedrock" => ProviderKind::Bedrock { region: String::new() },
        "friendli" => ProviderKind::Friendli { team: None },
        "ollama" => ProviderKind::Ollama,
        "offline" => ProviderKind::Offline,
        _ => ProviderKind::OpenAi,
    };
    Some((kind, url))
}
