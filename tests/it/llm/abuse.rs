//! Guests that mean ill: names that should lead elsewhere, money that should count for nothing, waits that should not end.

use std::time::Duration;

use holm_host_api::llm::RouterLimits;
use holm_host_api::{Budget, BudgetName, Outcome};
use holm_runtime::backends::llm::{CacheMode, ModelPattern, PriceTable};
use serde_json::{Value, json};

use super::raw::{Raw, ok};
use super::*;
use crate::support::output;

const KINDS: [fn() -> ProviderKind; 5] = [
    || ProviderKind::OpenAi,
    || ProviderKind::Anthropic,
    || ProviderKind::Gemini,
    || ProviderKind::Azure { api_version: "2024-10-21".to_owned(), deployment: None },
    || ProviderKind::Ollama,
];

fn prices(table: &str) -> Arc<PriceTable> {
    Arc::new(PriceTable::from_toml(table).unwrap())
}

/// Names of models that try to be something else: another path, another provider, another header or line.
fn names() -> Vec<String> {
    [
        "..",
        ".",
        "../..",
        "%2e%2e",
        "a/../../other",
        "/../other",
        "%2e%2e/other",
        "a%2F..%2Fother",
        "..\\other",
        "a?key=1",
        "a#b",
        "a:b@127.0.0.1",
        "//127.0.0.1/x",
        "http://127.0.0.1/x",
        "a b",
        "ä\u{202e}\u{200b}𝕏",
        "/",
        "other/",
        "Other/x",
        "other /x",
        " other/x",
        "other%2Fx",
        "other\u{2215}x",
        "оther/x",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect()
}

#[tokio::test]
async fn no_name_of_a_model_leads_elsewhere() {
    let server = Server::start();
    for kind in KINDS {
        let host = host(settings(vec![
            server.provider("one", kind(), "sk-one"),
            server.provider("other", ProviderKind::OpenAi, "sk-other"),
        ]));
        for model in names().into_iter().flat_map(|name| [format!("one/{name}"), name]) {
            let mut action = ask("echo");
            action["model"] = json!(model);
            let execution = host.act(action).await;
            let error = execution.record.error.unwrap_or_default();
            assert!(!error.contains('\n'), "{error}");
            for seen in server.take() {
                assert!(seen.path.starts_with("/one/") && seen.key == "sk-one", "{model:?}: {seen:?}");
                let lower = seen.path.to_ascii_lowercase().replace("%2e", ".");
                assert!(lower.split('/').all(|part| part != ".." && part != "."), "{model:?}: {seen:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_name_of_a_model_is_refused_before_anybody_is_asked() {
    let server = Server::start();
    let host = host(settings(vec![server.provider("one", ProviderKind::OpenAi, "")]));
    let long = "m".repeat(1 << 20);
    for model in [long.as_str(), "", "a\nb", "a\0", "a\u{1b}[31m", "a\r\nx: y"] {
        for action in [
            json!({ "do": "llm", "prompt": "echo", "model": model }),
            json!({ "do": "llm_stream", "prompt": "echo", "model": model }),
            json!({ "do": "llm_many", "prompt": "echo", "model": model, "count": 2 }),
            json!({ "do": "embed", "inputs": ["a"], "model": model }),
        ] {
            let execution = host.act(action).await;
            assert!(execution.record.error.as_ref().unwrap().contains("`model`"), "{:?}", execution.record.error);
            assert!(serde_json::to_string(&execution.record).unwrap().len() < 10_000);
            assert_eq!((server.take(), execution.record.usage.get("llm_tokens")), (Vec::new(), Some(0)));
        }
    }
}

#[tokio::test]
async fn only_what_is_allowed_is_asked_however_it_is_written() {
    let server = Server::start();
    let host = host(LlmSettings {
        models_allowed: vec![ModelPattern::new("one/cheap"), ModelPattern::new("one/cheap-2*")],
        primary: Primary::Target(target("one/cheap")),
        ..settings(vec![
            server.provider("one", ProviderKind::Gemini, ""),
            server.provider("two", ProviderKind::Gemini, ""),
        ])
    });
    for model in [
        "dear",
        "Cheap",
        "CHEAP",
        "cheap ",
        " cheap",
        "cheap/",
        "cheap-dear",
        "cheap/../dear",
        "cheap:dear",
        "cheap*",
        "*",
        "one/*",
        "one/one/cheap",
        "two/cheap",
        "models/cheap",
        "one/models/dear",
        "сheap",
        "cheap\u{200b}",
        "cheap%2F..%2Fdear",
        "cheap?x",
        "cheap-1",
    ] {
        let execution = host.act(json!({ "do": "llm", "prompt": "echo", "model": model })).await;
        assert!(execution.record.error.unwrap().contains("is not allowed"), "{model:?}");
        assert_eq!(server.take(), [], "{model:?}");
    }
    // The pattern allows these, and they are names in the path and nothing else.
    for model in ["cheap-2/../../dear", "cheap-2%2F..%2Fdear", "cheap-2?x=dear#"] {
        host.act(json!({ "do": "llm", "prompt": "echo", "model": model })).await;
        assert!(server.take().iter().all(|seen| seen.path.starts_with("/one/models/cheap-2%")), "{model:?}");
    }
}

#[tokio::test]
async fn sixty_four_requests_at_the_last_cent_spend_no_more_than_that() {
    // Each answer costs 7 + 10, which is less than the shortest that can be asked for.
    let answer = json!({
        "choices": [{ "message": { "content": "x" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 1 },
    });
    let server = Raw::answering(ok(answer.to_string()));
    let host = host(LlmSettings {
        prices: prices("\"hostile/m\" = { input = 1, output = 10 }"),
        ..settings(vec![server.provider(ProviderKind::OpenAi)])
    });
    for limit in [0, 10, 60, 200] {
        let before = server.asked();
        let action = json!({ "do": "sequence", "steps": [
            { "do": "catch", "step": { "do": "llm_many", "prompt": "x", "count": 64, "max_tokens": 3 } },
            { "do": "catch", "step": { "do": "llm_many", "prompt": "x", "count": 64 } },
            { "do": "catch", "step": { "do": "llm", "prompt": "x" } },
        ]});
        let execution = host.act_within(action, Budget::default().with(BudgetName::LlmCostMicrousd, limit)).await;
        let cost = execution.record.usage.get("llm_cost_microusd").unwrap();
        let asked = server.asked() - before;
        assert!(cost <= limit && asked as u64 <= limit / 17, "{cost} of {limit} in {asked} requests");
    }
}

#[tokio::test]
async fn a_model_of_unknown_price_is_not_free_where_cost_is_limited() {
    let server = Server::start();
    let limited = |cost_microusd| LlmSettings {
        limits: RouterLimits { cost_microusd, ..RouterLimits::default() },
        prices: prices("\"one/one-model\" = { input = 1, output = 1 }"),
        embedding: Some(target("one/one-model")),
        ..settings(vec![server.provider("one", ProviderKind::OpenAi, "sk-1")])
    };
    let host = host(limited(1_000_000));
    for action in [
        json!({ "do": "llm", "prompt": "echo", "model": "dear" }),
        json!({ "do": "llm_stream", "prompt": "echo", "model": "one/dear" }),
        json!({ "do": "embed", "inputs": ["a"], "model": "one/dear" }),
    ] {
        let execution = host.act(action).await;
        assert!(execution.record.error.as_ref().unwrap().contains("price"), "{:?}", execution.record.error);
    }
    assert_eq!(server.take(), []);
    assert_eq!(output(&host.act(ask("echo")).await)["model"], "one-model");
    let unknown = LlmSettings { primary: Primary::Target(target("one/dear")), ..limited(5) };
    assert!(RouterConfig::new(unknown).unwrap_err().to_string().contains("\"one/dear\" is not known"));
}

/// Whatever a guest names first, money for the dearest that may answer is taken before.
#[tokio::test]
async fn the_dearest_of_the_chain_is_what_is_taken() {
    let server = Server::start();
    let host = host(LlmSettings {
        prices: prices("\"one/cheap\" = { input = 0, output = 0 }\n\"one/dear\" = { input = 100000, output = 100000 }"),
        primary: Primary::Target(target("one/cheap")),
        fallback: Some(vec![target("one/dear")]),
        ..settings(vec![server.provider("one", ProviderKind::OpenAi, "")])
    });
    let poor = Budget::default().with(BudgetName::LlmCostMicrousd, 5_000_000);
    // The prompt fails at both; a request at a time could be paid, two could not.
    let execution = host.act_within(ask("status 500 x"), poor.clone()).await;
    assert!(execution.record.usage.get("llm_cost_microusd").unwrap() <= 5_000_000);
    server.take();
    let broke = Budget::default().with(BudgetName::LlmCostMicrousd, 10);
    let execution = host.act_within(ask("status 500 x"), broke).await;
    assert!(execution.record.error.unwrap().contains("llm_cost_microusd"));
    assert_eq!(server.take(), [], "the dear one could not be paid");
}

#[tokio::test]
async fn a_record_does_not_grow_with_the_models_that_are_named() {
    let server = Server::start();
    let host = host(settings(vec![server.provider("one", ProviderKind::OpenAi, "")]));
    let steps: Vec<Value> = (0..200)
        .map(|n| json!({ "do": "llm", "prompt": "echo", "model": format!("{n:03}{}", "m".repeat(500)) }))
        .collect();
    let execution = host.act(json!({ "do": "sequence", "steps": steps })).await;
    assert_eq!(execution.record.outcome, Outcome::Completed, "{:?}", execution.record.error);
    let usage = execution.record.usage.capability("llm").unwrap();
    assert_eq!((&usage["requests"], usage["models"].as_array().unwrap().len()), (&json!(200), 33));
    assert!(usage.to_string().len() < 50_000);
}

#[tokio::test]
async fn a_provider_does_not_say_how_long_it_is_waited_for() {
    for (header, asked) in [
        ("retry-after: 86400", 1),
        ("retry-after: 1e300", 1),
        ("retry-after: 18446744073709551616", 1),
        ("retry-after-ms: 60", 1),
        ("retry-after: -5", 3),
        ("retry-after: NaN", 3),
        ("retry-after: 0", 3),
        ("retry-after: soon", 3),
    ] {
        for status in [429, 503] {
            let server = Raw::answering(format!("HTTP/1.1 {status} No\r\n{header}\r\ncontent-length: 0\r\n\r\n"));
            let host = host(settings(vec![server.provider(ProviderKind::OpenAi)]));
            let execution = host.act(ask("x")).await;
            assert_eq!(execution.record.outcome, Outcome::GuestError, "{header}: {:?}", execution.record.error);
            assert_eq!(server.asked(), asked, "{status} {header}");
        }
    }
    let many = LlmSettings { retries: Retries { max: u32::MAX, base_ms: 0, wait_ms_max: 0 }, ..LlmSettings::default() };
    assert!(RouterConfig::new(many).unwrap_err().to_string().contains("retries"));
}

/// In the wait before another try, and in the middle of an answer.
#[tokio::test]
async fn a_cancelled_execution_leaves_its_requests_wherever_they_are() {
    let busy = Raw::answering("HTTP/1.1 503 No\r\nretry-after: 50\r\ncontent-length: 0\r\n\r\n");
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let stalled = Raw::repeating(head, "", 20);
    for (server, verb) in [(&busy, "llm"), (&busy, "llm_stream"), (&stalled, "llm"), (&stalled, "llm_stream")] {
        let before = server.asked();
        let host = host(LlmSettings {
            retries: Retries { max: 5, base_ms: 1, wait_ms_max: 60_000 },
            cache: CacheMode::On { ttl_ms: 1_000 },
            ..settings(vec![server.provider(ProviderKind::OpenAi)])
        });
        let request = host.request(json!({ "do": verb, "prompt": "x" }));
        let cancellation = request.cancellation.clone();
        let cancelled = async {
            while server.asked() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            cancellation.cancel();
        };
        let (ended, ()) = tokio::join!(host.beside_a_neighbour(request), cancelled);
        assert_eq!(ended.record.outcome, Outcome::Cancelled, "{verb}: {:?}", ended.record.error);
        assert_eq!(server.asked(), before + 1);
    }
}
