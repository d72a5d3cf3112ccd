//! Who is asked, in what words, and who next.

use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::backends::llm::{CacheMode, ModelPattern, PriceTable, Timeouts};
use serde_json::json;

use super::server::TOKENS;
use super::*;
use crate::support::output;

/// A name, a kind, and the path that is asked.
type Kind = (&'static str, fn() -> ProviderKind, &'static str);

const KINDS: [Kind; 6] = [
    ("openai", || ProviderKind::OpenAi, "/openai/chat/completions"),
    ("azure", azure, "/azure/openai/deployments/azure-model/chat/completions"),
    ("anthropic", || ProviderKind::Anthropic, "/anthropic/messages"),
    ("gemini", || ProviderKind::Gemini, "/gemini/models/gemini-model:"),
    ("friendli", || ProviderKind::Friendli { team: None }, "/friendli/chat/completions"),
    ("ollama", || ProviderKind::Ollama, "/ollama/chat/completions"),
];

fn azure() -> ProviderKind {
    ProviderKind::Azure { api_version: "2024-10-21".to_owned(), deployment: None }
}

#[tokio::test]
async fn every_provider_is_asked_in_its_own_words() {
    let server = Server::start();
    for (called, kind, path) in KINDS {
        let host = host(settings(vec![server.provider(called, kind(), "sk-of-alice")]));
        let answer = output(&host.act(ask("echo one two")).await);
        assert_eq!((&answer["text"], &answer["provider"]), (&json!("you said echo one two"), &json!(called)));
        assert_eq!((&answer["input_tokens"], &answer["output_tokens"]), (&json!(TOKENS.0), &json!(TOKENS.1)));
        let streamed = output(&host.act(json!({ "do": "llm_stream", "prompt": "echo one two" })).await);
        assert_eq!(streamed["deltas"], json!(["you ", "said ", "echo ", "one ", "two"]), "{called}");
        assert_eq!(streamed["response"]["output_tokens"], TOKENS.1, "{called}");
        for seen in server.take() {
            assert!(seen.path.starts_with(path) && seen.key == "sk-of-alice", "{seen:?}");
        }
    }
}

#[tokio::test]
async fn who_fails_is_tried_again_and_then_the_next() {
    let server = Server::start();
    let two = || {
        let one = server.provider("one", ProviderKind::OpenAi, "sk-one");
        LlmSettings {
            fallback: Some(vec![target("two")]),
            ..settings(vec![one, server.provider("two", ProviderKind::Anthropic, "sk-two")])
        }
    };
    let (chain, alone) = (host(two()), host(LlmSettings { fallback: None, ..two() }));
    let asked = |server: &Server| {
        server.take().iter().map(|seen| seen.path.split('/').nth(1).unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };

    let answer = output(&chain.act(ask("flaky a")).await);
    assert_eq!((&answer["provider"], &answer["attempts"]), (&json!("one"), &json!(3)));
    assert_eq!(asked(&server), "one one one");
    for (prompt, says) in [("status 429 x", "too many requests"), ("status 500 x", "the server failed")] {
        let execution = chain.act(ask(prompt)).await;
        assert!(execution.record.error.as_ref().unwrap().contains(says), "{:?}", execution.record.error);
        assert_eq!(asked(&server), "one one one two two two", "{prompt}");
    }
    for (prompt, says) in [("status 401 x", "the key is not accepted"), ("nonsense", "not of the expected form")] {
        let execution = chain.act(ask(prompt)).await;
        assert!(execution.record.error.as_ref().unwrap().contains(says), "{:?}", execution.record.error);
        assert_eq!(asked(&server), "one two", "{prompt}: the same again would fail the same way");
    }
    for prompt in ["status 400 x", "status 422 x"] {
        let execution = chain.act(ask(prompt)).await;
        assert!(
            execution.record.error.as_ref().unwrap().contains("refused: one: the request is not accepted"),
            "{:?}",
            execution.record.error
        );
        assert_eq!(asked(&server), "one", "{prompt}: all would refuse it alike");
    }
    alone.act(ask("status 500 x")).await;
    assert_eq!(asked(&server), "one one one");
}

#[tokio::test]
async fn a_request_that_is_too_long_goes_to_a_model_that_reads_more() {
    let server = Server::start();
    let prices = "\"one/small\" = { input = 1, output = 1, context_tokens = 10 }
        \"one/same\" = { input = 1, output = 1, context_tokens = 10 }
        \"one/large\" = { input = 1, output = 1, context_tokens = 20 }";
    let host = host(LlmSettings {
        primary: Primary::Target(target("one/small")),
        fallback: Some(vec![target("one/same"), target("one/large")]),
        prices: Arc::new(PriceTable::from_toml(prices).unwrap()),
        ..settings(vec![server.provider("one", ProviderKind::OpenAi, "")])
    });
    host.act(ask("status 400 context_length_exceeded")).await;
    let models: Vec<_> = server.take().into_iter().map(|seen| seen.model).collect();
    assert_eq!(models, ["small", "large"]);
}

#[tokio::test]
async fn tiers_and_models_go_where_they_stand_for() {
    let server = Server::start();
    let host = host(LlmSettings {
        tiers: HashMap::from([(holm_host_api::llm::Tier::Fast, target("two/quick"))]),
        models_allowed: vec![ModelPattern::new("one/one-*"), ModelPattern::new("two/*")],
        ..settings(vec![
            server.provider("one", ProviderKind::OpenAi, ""),
            server.provider("two", ProviderKind::OpenAi, ""),
        ])
    });
    for (how, went) in [
        (json!({}), Some("one-model")),
        (json!({ "tier": "fast" }), Some("quick")),
        (json!({ "tier": "quality" }), Some("one-model")),
        (json!({ "model": "one-other" }), Some("one-other")),
        (json!({ "model": "two/any/thing" }), Some("any/thing")),
        (json!({ "model": "secret" }), None),
        (json!({ "model": "three/x" }), None),
    ] {
        let mut action = ask("echo");
        action.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        let execution = host.act(action).await;
        let models: Vec<_> = server.take().into_iter().map(|seen| seen.model).collect();
        assert_eq!(models, went.into_iter().collect::<Vec<_>>(), "{how}");
        if went.is_none() {
            assert!(execution.record.error.as_ref().unwrap().contains("no provider"), "{:?}", execution.record.error);
        }
    }
}

#[tokio::test]
async fn requests_sent_at_once_are_under_way_at_once_and_end_with_the_execution() {
    let server = Server::start();
    let host = host(settings(vec![server.provider("one", ProviderKind::OpenAi, "")]));
    let many = output(&host.act(json!({ "do": "llm_many", "prompt": "slow {i}", "count": 40 })).await);
    assert_eq!(many["answers"].as_array().unwrap().len(), 40);
    assert!(server.under_way_max() >= 40, "{}", server.under_way_max());

    let mut request = host.request(json!({ "do": "llm_many", "prompt": "never {i}", "count": 10 }));
    request.cancellation = tokio_util::sync::CancellationToken::new();
    let cancellation = request.cancellation.clone();
    let running = tokio::spawn({
        let runtime = host.runtime.clone();
        async move { runtime.execute(request).await }
    });
    wait_until(|| server.under_way() == 10).await;
    cancellation.cancel();
    assert_eq!(running.await.unwrap().record.outcome, Outcome::Cancelled);
    wait_until(|| server.under_way() == 0).await;
    host.assert_nothing_held().await;
}

async fn wait_until(holds: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came to hold");
}

#[tokio::test]
async fn equal_requests_are_asked_once_and_only_of_one_user() {
    let server = Server::start();
    let host = host(LlmSettings {
        cache: CacheMode::On { ttl_ms: 60_000 },
        ..settings(vec![server.provider("one", ProviderKind::OpenAi, "")])
    });
    let many = output(&host.act(json!({ "do": "llm_many", "prompt": "slow same", "count": 20 })).await);
    assert_eq!(server.take().len(), 1);
    let answers = many["answers"].as_array().unwrap();
    let fresh = answers.iter().filter(|answer| answer["cached"] == false).count();
    assert_eq!((fresh, answers.len()), (1, 20));
    let again = host.act(ask("slow same")).await;
    let usage = &again.record.usage;
    assert_eq!((usage.get("llm_tokens"), server.take().len()), (Some(0), 0));
    assert_eq!(usage.capability("llm").unwrap()["cached"], 1);
    let mut of_bob = host.request(ask("slow same"));
    of_bob.user = crate::support::name("bob");
    assert_eq!(output(&host.runtime.execute(of_bob).await)["cached"], false);
    assert_eq!(server.take().len(), 1);
    // Streamed answers are kept too.
    let streamed = output(&host.act(json!({ "do": "llm_stream", "prompt": "slow same" })).await);
    assert_eq!((&streamed["response"]["cached"], server.take().len()), (&json!(true), 0));
}

#[tokio::test]
async fn what_a_user_may_spend_is_less_than_the_budget() {
    let server = Server::start();
    let host = host(LlmSettings {
        limits: holm_host_api::llm::RouterLimits { tokens: 30, cost_microusd: u64::MAX },
        ..settings(vec![server.provider("one", ProviderKind::OpenAi, "")])
    });
    let action = json!({ "do": "llm_many", "prompt": "echo", "count": 64, "max_tokens": 3 });
    let execution = host.act_within(action, Budget::default().with(BudgetName::LlmTokens, 1_000)).await;
    assert!(execution.record.error.as_ref().unwrap().contains("llm_tokens, limit 30"), "{:?}", execution.record.error);
    assert!(server.take().len() <= 2);
}

#[tokio::test]
async fn usage_is_told_by_provider_and_model() {
    let server = Server::start();
    let prices = "\"one/one-model\" = { input = 1, output = 10 }";
    let host = host(LlmSettings {
        prices: Arc::new(PriceTable::from_toml(prices).unwrap()),
        ..settings(vec![
            server.provider("one", ProviderKind::OpenAi, ""),
            server.provider("two", ProviderKind::Anthropic, ""),
        ])
    });
    let steps = json!({ "do": "sequence", "steps": [ask("echo a"), ask("flaky usage"),
        { "do": "llm", "prompt": "echo b", "model": "two/m" }] });
    let execution = host.act(steps).await;
    let usage = execution.record.usage.capability("llm").unwrap().clone();
    assert_eq!((&usage["requests"], &usage["attempts"], &usage["input_tokens"]), (&json!(3), &json!(5), &json!(21)));
    // 7 tokens at 1 and 3 at 10, twice.
    assert_eq!((&usage["cost_microusd"], execution.record.usage.get("llm_cost_microusd")), (&json!(74), Some(74)));
    let models: Vec<_> = usage["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| {
            json!([model["provider"], model["model"], model["requests"], model["attempts"], model["failed_attempts"]])
        })
        .collect();
    assert_eq!(json!(models), json!([["one", "one-model", 2, 4, 2], ["two", "m", 1, 1, 0]]));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_not_begun_anew() {
    let server = Server::start();
    let one = server.provider("one", ProviderKind::OpenAi, "");
    let host = host(LlmSettings {
        fallback: Some(vec![target("two")]),
        ..settings(vec![one, server.provider("two", ProviderKind::OpenAi, "")])
    });
    let execution = host.act(json!({ "do": "llm_stream", "prompt": "stream-stops here" })).await;
    assert!(execution.record.error.as_ref().unwrap().contains("broke off"), "{:?}", execution.record.error);
    assert_eq!(server.take().len(), 1);
    assert!(execution.record.usage.get("llm_tokens") > Some(0), "what was given is paid for");
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_not_waited_for() {
    let server = Server::start();
    let one = server.provider("one", ProviderKind::OpenAi, "");
    let host = host(LlmSettings {
        fallback: Some(vec![target("offline")]),
        timeouts: Timeouts { answer_ms: 50, ..Timeouts::default() },
        ..settings(vec![one, Provider::offline()])
    });
    let answer = output(&host.act(ask("never")).await);
    assert_eq!(
        (&answer["provider"], &answer["model"], &answer["attempts"]),
        (&json!("offline"), &json!("offline-1"), &json!(2))
    );
}

#[tokio::test]
async fn a_key_in_an_error_is_not_shown() {
    let server = Server::start();
    let key = "sk-proj-Zx81Qq7Lm20Pp55Rr";
    let host = host(settings(vec![server.provider("one", ProviderKind::OpenAi, key)]));
    let request = host.request(ask("leak"));
    let id = request.execution;
    let execution = host.runtime.execute(request).await;
    let shown = format!(
        "{} {:?} {:?} {}",
        serde_json::to_string(&execution.record).unwrap(),
        execution.cause,
        execution.journal,
        serde_json::to_string(&host.trace.tree(id).unwrap()).unwrap()
    );
    assert!(shown.contains("[key]"), "{shown}");
    assert!((0..key.len() - 5).all(|at| !shown.contains(&key[at..at + 6])), "{shown}");
    assert_eq!(server.take()[0].key, key);
}

#[tokio::test]
async fn answers_match_their_schema_or_are_asked_for_again() {
    let server = Server::start();
    let host = host(settings(vec![server.provider("one", ProviderKind::OpenAi, "")]));
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let good = output(&host.act(json!({ "do": "llm_json", "prompt": "json {\"n\": 4}", "schema": schema })).await);
    assert_eq!(good, json!({ "n": 4 }));
    server.take();
    let bad = host.act(json!({ "do": "llm_json", "prompt": "json {\"n\": \"four\"}", "schema": schema })).await;
    assert!(bad.record.error.as_ref().unwrap().contains("schema"), "{:?}", bad.record.error);
    let prompts: Vec<_> = server.take().into_iter().map(|seen| seen.prompt).collect();
    assert_eq!(prompts.len(), 3);
    assert!(prompts[1].contains("is not of type \"integer\""), "{prompts:?}");
}

#[tokio::test]
async fn texts_become_vectors() {
    let server = Server::start();
    let host = host(LlmSettings {
        embedding: Some(target("one/vectors")),
        ..settings(vec![server.provider("one", ProviderKind::OpenAi, "sk-1")])
    });
    let vectors = output(&host.act(json!({ "do": "embed", "inputs": ["a", "b"] })).await);
    assert_eq!(vectors, json!([[0.0, 0.5], [1.0, 0.5]]));
    let seen = server.take();
    assert_eq!((seen[0].model.as_str(), seen[0].path.as_str()), ("vectors", "/one/embeddings"));
}

/// With nothing said about time: a provider has half of the execution's when others can be asked after it.
#[tokio::test]
async fn who_hangs_leaves_time_for_the_next() {
    let server = Server::start();
    let one = server.provider("one", ProviderKind::OpenAi, "");
    let host =
        host(LlmSettings { fallback: Some(vec![target("offline")]), ..settings(vec![one, Provider::offline()]) });
    for action in [ask("never"), json!({ "do": "llm_stream", "prompt": "never" })] {
        let execution = host.act_within(action, Budget::default().with(BudgetName::WallMs, 3_000)).await;
        assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    }
}

#[tokio::test]
async fn who_is_not_reached_or_refuses_is_owed_nothing() {
    let server = Server::start();
    let mut gone = server.provider("gone", ProviderKind::OpenAi, "");
    gone.url = "http://127.0.0.1:1/v1".parse().unwrap();
    let host = host(LlmSettings {
        fallback: Some(vec![target("one")]),
        ..settings(vec![gone, server.provider("one", ProviderKind::OpenAi, "")])
    });
    for (prompt, attempts) in [("status 401 x", 4), ("status 429 x", 6)] {
        let record = host.act(ask(prompt)).await.record;
        assert_eq!((record.outcome, record.usage.get("llm_tokens")), (Outcome::GuestError, Some(0)), "{prompt}");
        assert_eq!(record.usage.capability("llm").unwrap()["attempts"], attempts);
    }
    // A server that failed may have begun.
    assert!(host.act(ask("status 500 x")).await.record.usage.get("llm_tokens") > Some(0));
    // What everybody would refuse is told in a word, and counted all the same.
    let record = host.act(ask("status 400 x")).await.record;
    assert_eq!(record.usage.capability("llm").unwrap()["attempts"], 4);
    let error = record.error.unwrap();
    assert!(
        error.contains("not accepted (400)") && error.contains("before that gone/gone-model: the connection"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_is_of_no_use_is_not_kept() {
    let server = Server::start();
    let host = host(LlmSettings {
        cache: CacheMode::On { ttl_ms: 60_000 },
        repairs_max: 0,
        ..settings(vec![server.provider("one", ProviderKind::OpenAi, "")])
    });
    let schema = json!({ "type": "object" });
    for _ in 0..2 {
        host.act(json!({ "do": "llm_json", "prompt": "json 5", "schema": schema })).await;
        // It is forgotten in the background.
        let good = json!({ "do": "llm_json", "prompt": "json {}", "schema": schema });
        output(&host.act(good).await);
    }
    let prompts: Vec<_> = server.take().into_iter().map(|seen| seen.prompt).collect();
    assert_eq!(prompts, ["json 5", "json {}", "json 5"]);
}
