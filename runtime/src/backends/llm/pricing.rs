//! What models cost and how much they read: a table that comes with the program, and that an operator can replace.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::{Provider, ProviderKind};
use crate::host_api::llm::Price;

const BUNDLED: &str = include_str!("prices.toml");

/// The largest price that is read, in dollars for a million tokens: above it somebody mistook the unit.
const PRICE_MAX: f64 = 100_000.0;

/// What model names of Bedrock begin with that go to several regions.
const REGIONS: [&str; 6] = ["us.", "eu.", "apac.", "au.", "jp.", "global."];

/// What is known of models. Names are those of a provider and its model, as `openai/gpt-4o`; in place of the provider's
/// name there may be that of its kind.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    models: HashMap<String, Model>,
}

/// What is known of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// What it costs.
    pub price: Price,
    /// How many tokens it can read and write for one request.
    pub context_tokens: Option<u64>,
}

/// The table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPrices {
    /// It is not TOML, or has a key that is not known.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A number makes no sense.
    #[error("`{0}`: a price is in dollars for a million tokens, and not negative")]
    Price(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    input: f64,
    output: f64,
    context_tokens: Option<u64>,
}

impl PriceTable {
    /// The table that comes with the program.
    pub fn bundled() -> Arc<Self> {
        // A test reads it; should it be wrong all the same, no price is known.
        static READ: LazyLock<Arc<PriceTable>> =
            LazyLock::new(|| Arc::new(PriceTable::from_toml(BUNDLED).unwrap_or_default()));
        Arc::clone(&READ)
    }

    /// Reads a table.
    ///
    /// # Errors
    /// The text is no table of prices; the error says where.
    pub fn from_toml(text: &str) -> Result<Self, InvalidPrices> {
        let entries: HashMap<String, Entry> = toml::from_str(text)?;
        let mut models = HashMap::new();
        for (name, Entry { input, output, context_tokens }) in entries {
            let (Some(input), Some(output)) = (microusd(input), microusd(output)) else {
                return Err(InvalidPrices::Price(name));
            };
            models.insert(name, Model { price: Price { input, output }, context_tokens });
        }
        Ok(PriceTable { models })
    }

    /// What is known of a model. One that is a dated or numbered version of a model in the table is that model.
    pub(super) fn find(&self, provider: &Provider, model: &str) -> Option<Model> {
        // What is one model must have one price, however a guest writes its name.
        let model = match &provider.kind {
            // By way of several regions.
            ProviderKind::Bedrock { .. } => REGIONS.iter().find_map(|region| model.strip_prefix(region)),
            // In the collection that Google's lists put before it.
            ProviderKind::Gemini => model.strip_prefix("models/"),
            // All requests go there, whatever they name.
            ProviderKind::Azure { deployment: Some(deployment), .. } => {
                Some(provider.model.as_deref().unwrap_or(deployment))
            }
            _ => None,
        }
        .unwrap_or(model);
        let by_name = self.find_version(&format!("{}/{model}", provider.name));
        let by_kind = || {
            let of_openai = matches!(provider.kind, ProviderKind::Azure { .. }).then_some("openai");
            let kinds = std::iter::once(provider.kind.as_str()).chain(of_openai);
            kinds.into_iter().find_map(|kind| self.find_version(&format!("{kind}/{model}")))
        };
        let free = || match provider.kind {
            ProviderKind::Offline | ProviderKind::Ollama => {
                Some(Model { price: Price { input: 0, output: 0 }, context_tokens: None })
            }
            _ => None,
        };
        by_name.or_else(by_kind).or_else(free)
    }

    fn find_version(&self, name: &str) -> Option<Model> {
        let cuts = name.char_indices().filter(|(_, c)| ['-', '@', ':'].contains(c)).map(|(at, _)| at);
        let cuts: Vec<usize> = cuts.chain([name.len()]).collect();
        cuts.iter().rev().find_map(|&cut| {
            let (known, rest) = name.split_at_checked(cut)?;
            if is_version(rest) { self.models.get(known).copied() } else { None }
        })
    }
}

/// `-2024-08-06`, `-latest`, `-v1:0`, `@20250929`; not `-mini`.
fn is_version(rest: &str) -> bool {
    rest.split(['-', '@', ':']).all(|piece| {
        let digits = piece.strip_prefix('v').unwrap_or(piece);
        piece == "latest" || digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Dollars as millionths, rounded up.
fn microusd(dollars: f64) -> Option<u64> {
    // In the range no digit is lost.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    (0.0..=PRICE_MAX).contains(&dollars).then(|| (dollars * 1e6).ceil() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_table_can_be_read() {
        let table = PriceTable::from_toml(BUNDLED).unwrap();
        assert!(table.models.len() > 20);
        assert!(table.models.values().all(|model| model.price.output >= model.price.input || model.price.output == 0));
    }

    #[test]
    fn versions_of_a_model_are_that_model() {
        let table = PriceTable::from_toml(
            r#"
            "openai/gpt-4o" = { input = 2.5, output = 10 }
            "openai/gpt-4o-mini" = { input = 0.15, output = 0.6 }
            "#,
        )
        .unwrap();
        let input = |name: &str| table.find_version(name).map(|model| model.price.input);
        assert_eq!(input("openai/gpt-4o"), Some(2_500_000));
        assert_eq!(input("openai/gpt-4o-2024-08-06"), Some(2_500_000));
        assert_eq!(input("openai/gpt-4o-mini-2024-07-18"), Some(150_000));
        for unknown in ["openai/gpt-4o-audio", "openai/gpt-4", "openai/gpt-4o-minimal", "openai/", "gpt-4o", ""] {
            assert_eq!(input(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_model_has_one_price_however_it_is_named() {
        let table = PriceTable::from_toml(
            r#"
            "gemini/dear" = { input = 1, output = 9 }
            "azure/dear" = { input = 1, output = 9 }
            "azure/cheap" = { input = 1, output = 2 }
            "#,
        )
        .unwrap();
        let azure = |deployment: &str| ProviderKind::Azure {
            api_version: String::new(),
            deployment: Some(deployment.to_owned()),
        };
        let output = |kind: ProviderKind, own: Option<&str>, named: &str| {
            let provider = Provider { kind, model: own.map(str::to_owned), ..Provider::named("x".parse().unwrap()) };
            table.find(&provider, named).map(|model| model.price.output)
        };
        for named in ["dear", "models/dear", "models/dear-001"] {
            assert_eq!(output(ProviderKind::Gemini, None, named), Some(9_000_000), "{named}");
        }
        for named in ["cheap", "dear", "unknown"] {
            assert_eq!(output(azure("dear"), None, named), Some(9_000_000), "{named}");
            assert_eq!(output(azure("four-o"), Some("dear"), named), Some(9_000_000), "{named}");
        }
    }

    #[test]
    fn prices_that_make_no_sense_are_refused() {
        for wrong in ["-1", "nan", "1e9", "inf"] {
            let table = format!("\"a/b\" = {{ input = {wrong}, output = 1 }}");
            assert!(PriceTable::from_toml(&table).is_err(), "{wrong}");
        }
        assert!(PriceTable::from_toml("\"a/b\" = { input = 1 }").is_err());
        assert!(PriceTable::from_toml("\"a/b\" = { input = 1, output = 2, contxt = 3 }").is_err());
    }
}
