//! A script: what the offline provider answers to which requests.

mod locate;

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::Name;
use crate::llm::backend::{Attempt, LlmError, Part, Request, Tier, Usage};

/// Longest `delay_ms`: an hour. What should take longer is meant to be `{"never": true}`.
const DELAY_MS_MAX: u64 = 3_600_000;

/// Rules that say what the offline provider answers. The first whose conditions all hold answers; where
/// none does, the provider answers by itself.
///
/// A script is a JSON file:
///
/// ```json
/// {"rules": [
///   {"when": {"tool_result_contains": ""}, "reply": {"text": "Sunny."}, "usage": {"cost_microusd": 1500}},
///   {"when": {"contains": "weather"}, "reply": {"tool_calls": [{"name": "weather", "arguments": {"city": "Bern"}}]}},
///   {"when": {"user": "alice", "tier": "fast"}, "reply": {"json": {"score": 7}}, "delay_ms": 50},
///   {"when": {"system_contains": "You doubt"}, "reply": {"error": {"kind": "refused", "message": "no"}}},
///   {"when": {"model": "slow-model"}, "reply": {"never": true}}
/// ]}
/// ```
///
/// Conditions: `contains` (in the user's last text), `system_contains`, `tool_result_contains` (in a
/// result that the request ends with), `model` (as answers name it), `tier`, `user`. Texts are compared
/// case by case; an empty one is contained in every text that is there. A reply is one of `text`,
/// `json`, `tool_calls`, `error` (`kind` being `refused`, `unavailable`, `no_provider`,
/// `schema_mismatch` or `all_failed`) and `never`. A text or JSON is checked against the request's
/// schema, if it has one, like any answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    rules: Vec<Rule>,
}

/// A script was not understood: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model script is wrong at line {line}, column {column} ({path}): {message}")]
pub struct InvalidScript {
    line: usize,
    column: usize,
    path: String,
    message: String,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// The text is not JSON, or has a key or a value that no script has.
    pub fn from_json(text: &str) -> Result<Self, InvalidScript> {
        serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let message = error.to_string();
            let position = format!(" at line {line} column {column}");
            InvalidScript {
                line,
                column,
                path: locate::path_at(text, line, column),
                message: message.strip_suffix(&position).unwrap_or(&message).to_owned(),
            }
        })
    }

    pub(super) fn rule_for(&self, asked: &Asked<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.when.holds(asked))
    }
}

/// When something is answered so, what, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    #[serde(default)]
    when: When,
    reply: Reply,
    #[serde(default, deserialize_with = "delay")]
    delay_ms: u64,
    #[serde(default)]
    usage: ScriptedUsage,
}

impl Rule {
    pub(super) fn reply(&self) -> &Reply {
        &self.reply
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    /// The usage, what is not scripted being estimated.
    pub(super) fn usage(&self, estimate: Usage) -> Usage {
        Usage {
            input_tokens: self.usage.input_tokens.unwrap_or(estimate.input_tokens),
            output_tokens: self.usage.output_tokens.unwrap_or(estimate.output_tokens),
            cost_microusd: self.usage.cost_microusd.or(estimate.cost_microusd),
        }
    }
}

/// The conditions of a rule. What is not said holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct When {
    contains: Option<String>,
    system_contains: Option<String>,
    tool_result_contains: Option<String>,
    model: Option<String>,
    tier: Option<Tier>,
    user: Option<Name>,
}

impl When {
    fn holds(&self, asked: &Asked<'_>) -> bool {
        let in_results = |part: &String| asked.tool_results.iter().any(|result| result.contains(part.as_str()));
        self.contains.as_ref().is_none_or(|part| asked.said.contains(part.as_str()))
            && self.system_contains.as_ref().is_none_or(|part| asked.system.contains(part.as_str()))
            && self.tool_result_contains.as_ref().is_none_or(in_results)
            && self.model.as_ref().is_none_or(|model| model == asked.model)
            && self.tier.is_none_or(|tier| asked.tier == Some(tier))
            && self.user.as_ref().is_none_or(|user| user == asked.user)
    }
}

/// What conditions look at.
pub(super) struct Asked<'r> {
    said: String,
    system: String,
    tool_results: Vec<&'r str>,
    model: &'r str,
    tier: Option<Tier>,
    user: &'r Name,
}

impl<'r> Asked<'r> {
    pub(super) fn new(request: &'r Request, user: &'r Name, model: &'r str) -> Self {
        let results = request.messages.iter().rev().map_while(|message| {
            let result = |part: &'r Part| match part {
                Part::ToolResult(result) => Some(result.content.as_str()),
                _ => None,
            };
            let results: Vec<&str> = message.parts.iter().filter_map(result).collect();
            (!results.is_empty()).then_some(results)
        });
        Asked {
            said: request.last_user_text(),
            system: request.system_text(),
            tool_results: results.flatten().collect(),
            model,
            tier: request.tier,
            user,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Text(String),
    Json(Value),
    ToolCalls(Vec<ScriptedCall>),
    Error(ScriptedError),
    Never(#[serde(deserialize_with = "only_true")] ()),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptedCall {
    pub(super) name: String,
    #[serde(default, deserialize_with = "arguments")]
    pub(super) arguments: ScriptedArguments,
}

/// The arguments of a call, as the guest gets them: JSON text.
#[derive(Clone, Debug)]
pub(super) struct ScriptedArguments(Value);

impl Default for ScriptedArguments {
    fn default() -> Self {
        ScriptedArguments(Value::Object(Map::new()))
    }
}

impl std::fmt::Display for ScriptedArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptedError {
    kind: ErrorKind,
    message: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ErrorKind {
    Refused,
    Unavailable,
    NoProvider,
    SchemaMismatch,
    AllFailed,
}

impl ScriptedError {
    /// The error that the guest sees.
    pub(super) fn error(&self, attempt: &Attempt) -> LlmError {
        let message = self.message.clone();
        match self.kind {
            ErrorKind::Refused => LlmError::Refused(message),
            ErrorKind::Unavailable => LlmError::Unavailable(message),
            ErrorKind::NoProvider => LlmError::NoProvider(message),
            ErrorKind::SchemaMismatch => LlmError::SchemaMismatch(message),
            ErrorKind::AllFailed => LlmError::AllFailed(vec![Attempt { failure: Some(message), ..attempt.clone() }]),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ScriptedUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cost_microusd: Option<u64>,
}

fn delay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        delay if delay <= DELAY_MS_MAX => Ok(delay),
        delay => Err(D::Error::custom(format!("`delay_ms` is {delay}; at most {DELAY_MS_MAX} is allowed"))),
    }
}

fn arguments<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ScriptedArguments, D::Error> {
    Map::deserialize(deserializer).map(|arguments| ScriptedArguments(Value::Object(arguments)))
}

fn only_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match bool::deserialize(deserializer)? {
        true => Ok(()),
        false => Err(D::Error::custom("`never` must be true; leave the rule out otherwise")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, expected) in [
            ("", "line 1, column 0 (the top): EOF while parsing"),
            ("[]", "(the top): "),
            (r#"{"rule": []}"#, "line 1, column 7 (rule): unknown field `rule`, expected `rules`"),
            (
                "{\"rules\": [\n  {\"when\": {\"contain\": \"x\"}}]}",
                "line 2, column 21 (rules[0].when.contain): unknown field",
            ),
            (r#"{"rules": [{"reply": {"text": 5}}]}"#, "(rules[0].reply.text): invalid type: integer `5`"),
            (r#"{"rules": [{"reply": {"never": true}}, {"when": {}}]}"#, "(rules[1]): missing field `reply`"),
            (
                r#"{"rules": [{"reply": {"txt": "x"}}]}"#,
                "(rules[0].reply.txt): unknown variant `txt`, expected one of `text`",
            ),
            (r#"{"rules": [{"reply": {"text": "x", "json": 1}}]}"#, "rules[0].reply"),
            (r#"{"rules": [{"reply": {"never": false}}]}"#, "(rules[0].reply): `never` must be true"),
            (
                r#"{"rules": [{"reply": {"text": ""}, "delay_ms": 99999999}]}"#,
                "(rules[0]): `delay_ms` is 99999999; at most",
            ),
            (
                r#"{"rules": [{"reply": {"text": ""}, "when": {"user": "../x"}}]}"#,
                "(rules[0].when): \"../x\" is no name",
            ),
            (r#"{"rules": [{"reply": {"tool_calls": [{"name": "a", "arguments": 1}]}}]}"#, "tool_calls[0].arguments"),
            (
                r#"{"rules": [{"reply": {"error": {"kind": "sad", "message": ""}}}]}"#,
                "error.kind): unknown variant `sad`",
            ),
        ] {
            let error = Script::from_json(text).unwrap_err().to_string();
            assert!(
                error.starts_with("the model script is wrong at line ") && error.contains(expected),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn the_example_in_the_documentation_is_a_script() {
        let source = include_str!("script.rs");
        let example: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("/// ")).collect();
        let from = example.iter().position(|line| *line == "```json").unwrap();
        let length = example.iter().skip(from + 1).position(|line| *line == "```").unwrap();
        let script = Script::from_json(&example.get(from + 1..from + 1 + length).unwrap().join("\n")).unwrap();
        assert_eq!(script.rules.len(), 5);
    }
}
