//! A provider: where its servers are, what they speak, and with whose key.

use std::fmt;
use std::sync::LazyLock;

use reqwest::Url;

use super::Secret;
use crate::host_api::Name;

/// A provider of language models, as one user has it. Two users' providers may have one name and nothing else in common.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What routes call it.
    pub name: Name,
    /// What its servers speak.
    pub kind: ProviderKind,
    /// Where they are: what comes before the protocol's own path, as `https://api.openai.com/v1`.
    pub url: Url,
    /// What they know the user by.
    pub credentials: Credentials,
    /// The model that is asked where nobody names one.
    pub model: Option<String>,
    /// The models that it serves, a name or the beginning of one before `*`; empty for any.
    pub models: Vec<ModelPattern>,
    /// What addresses its servers may have.
    pub addresses: Addresses,
}

impl Provider {
    /// The deterministic provider, under its own name.
    pub fn offline() -> Self {
        Provider::named(OFFLINE.clone())
    }

    /// A deterministic provider of this name, to be made another.
    pub fn named(name: Name) -> Self {
        Provider {
            name,
            kind: ProviderKind::Offline,
            url: NOWHERE.clone(),
            credentials: Credentials::None,
            model: None,
            models: Vec::new(),
            addresses: Addresses::Any,
        }
    }
}

#[allow(clippy::unwrap_used, reason = "constants, which a test reads")]
static OFFLINE: LazyLock<Name> = LazyLock::new(|| "offline".parse().unwrap());
#[allow(clippy::unwrap_used, reason = "constants, which a test reads")]
static NOWHERE: LazyLock<Url> = LazyLock::new(|| Url::parse("offline:").unwrap());

/// What the servers of a provider speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI's chat completions, which many others speak too: vLLM, Groq, Together, LM Studio, OpenRouter, LiteLLM.
    OpenAi,
    /// OpenAI's models at Azure. Models are deployments there.
    Azure {
        /// Such as `2024-10-21`.
        api_version: String,
        /// Where all requests go; by default to the deployment that has the model's name.
        deployment: Option<String>,
    },
    /// Anthropic's messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// Amazon's Bedrock, through `Converse`. Requests are signed.
    Bedrock {
        /// Such as `eu-central-1`.
        region: String,
    },
    /// Friendli, which speaks OpenAI's protocol.
    Friendli {
        /// The team that is billed.
        team: Option<String>,
    },
    /// Ollama, through its OpenAI protocol.
    Ollama,
    /// The deterministic provider that needs no network.
    Offline,
}

impl ProviderKind {
    /// Its name in configuration files.
    pub fn as_str(&self) -> &'static str {
        match self {
            ProviderKind::OpenAi => "openai",
            ProviderKind::Azure { .. } => "azure",
            ProviderKind::Anthropic => "anthropic",
            ProviderKind::Gemini => "gemini",
            ProviderKind::Bedrock { .. } => "bedrock",
            ProviderKind::Friendli { .. } => "friendli",
            ProviderKind::Ollama => "ollama",
            ProviderKind::Offline => "offline",
        }
    }
}

/// What a provider knows its user by.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing, as servers of one's own often do.
    None,
    /// A key.
    Key(Secret),
    /// An access key of AWS.
    Aws {
        /// Its id, which is not secret.
        access_key_id: String,
        /// Its secret.
        secret_access_key: Secret,
        /// What temporary keys have besides.
        session_token: Option<Secret>,
    },
}

impl Credentials {
    /// Everything in it that must not show.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (one, other) = match self {
            Credentials::None => (None, None),
            Credentials::Key(key) => (Some(key), None),
            Credentials::Aws { secret_access_key, session_token, .. } => {
                (Some(secret_access_key), session_token.as_ref())
            }
        };
        one.into_iter().chain(other)
    }
}

/// What addresses a provider's servers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// Any. For providers that the operator chose.
    Any,
    /// Only those of the public internet: for providers whose address a user gave. What a name stands for is checked when
    /// it is connected to, so that a name cannot first mean one thing and then another.
    Public,
}

/// A model's name, or the beginning of one and `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPattern(String);

impl ModelPattern {
    /// Reads it.
    pub fn new(text: impl Into<String>) -> Self {
        ModelPattern(text.into())
    }

    /// Whether this model is meant.
    pub fn matches(&self, model: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == self.0,
        }
    }
}

impl fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offline_provider_is_there() {
        assert_eq!(Provider::offline().name.as_str(), ProviderKind::Offline.as_str());
    }

    #[test]
    fn patterns_are_names_or_beginnings() {
        let matches = |pattern: &str, model: &str| ModelPattern::new(pattern).matches(model);
        assert!(matches("gpt-4o", "gpt-4o") && matches("gpt-4o*", "gpt-4o-mini") && matches("*", "any"));
        assert!(!matches("gpt-4o", "gpt-4o-mini") && !matches("gpt*", "GPT-4"));
    }
}
