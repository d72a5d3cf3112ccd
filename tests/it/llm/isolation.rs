//! Many users at once: each request reaches the endpoint, the model and the key of its own user, and nobody else's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use holm_host_api::llm::Tier;
use holm_host_api::{Name, Outcome};
use holm_runtime::backends::llm::{CacheMode, ConfigsByUser};
use serde_json::json;

use super::server::{Seen, TOKENS};
use super::*;
use crate::support::{Host, name};

/// A user, and what a request of theirs must look like at the server.
struct User {
    name: Name,
    /// Path, key and model, by tier.
    own: HashMap<&'static str, (String, String, String)>,
}

const KINDS: [fn() -> ProviderKind; 4] = [
    || ProviderKind::OpenAi,
    || ProviderKind::Anthropic,
    || ProviderKind::Gemini,
    || ProviderKind::Azure { api_version: "2024-10-21".to_owned(), deployment: None },
];

/// Where a provider of this kind and name is asked, whose base is the server.
fn path(kind: usize, called: &str, model: &str) -> String {
    match kind {
        0 => format!("/{called}/chat/completions"),
        1 => format!("/{called}/messages"),
        2 => format!("/{called}/models/{model}:generateContent"),
        _ => format!("/{called}/openai/deployments/{model}/chat/completions"),
    }
}

/// The settings of a user: a provider of the own for the usual tier, another for the quick one, cache on or off.
fn user(server: &Server, number: usize, generation: usize) -> (User, LlmSettings) {
    let called = |which: &str| format!("{which}-{number}");
    let key = |which: &str| format!("sk-{which}-{number:04}-{generation:04}");
    let (usual, quick) = (number % KINDS.len(), (number + 1) % KINDS.len());
    let providers = vec![
        server.provider(&called("usual"), KINDS[usual](), &key("usual")),
        server.provider(&called("quick"), KINDS[quick](), &key("quick")),
    ];
    let quick_model = format!("quick-{number}-model-{generation}");
    let usual_model = format!("usual-{number}-model");
    let own = HashMap::from([
        ("balanced", (path(usual, &called("usual"), &usual_model), key("usual"), usual_model)),
        ("fast", (path(quick, &called("quick"), &quick_model), key("quick"), quick_model.clone())),
    ]);
    let settings = LlmSettings {
        tiers: HashMap::from([(Tier::Fast, target(&format!("{}/{quick_model}", called("quick"))))]),
        cache: if number.is_multiple_of(3) { CacheMode::On { ttl_ms: 60_000 } } else { CacheMode::Off },
        ..settings(providers)
    };
    (User { name: name(&format!("user-{number}")), own }, settings)
}

/// One execution of a user, whose words are those of all others: a few requests at once, and one after the other, of both tiers. What its usage must be.
fn work(round: usize) -> (serde_json::Value, Vec<(&'static str, String)>) {
    let marked = |tier: &str, n: usize| format!("echo {tier} {round} {n}");
    let many = json!({ "do": "llm_many", "prompt": marked("balanced", 0) + " {i}", "count": 3 });
    let one = json!({ "do": "llm", "prompt": marked("fast", 1), "tier": "fast" });
    let expected = (0..3).map(|i| ("balanced", format!("{} {i}", marked("balanced", 0))));
    let expected = expected.chain([("fast", marked("fast", 1))]).collect();
    (json!({ "do": "sequence", "steps": [many, one] }), expected)
}

/// Runs an execution for each user at once, and checks what reached the server.
async fn round(host: &Host, server: &Server, users: &[User], number: usize) {
    let mut expected = HashMap::<Seen, usize>::new();
    let mut running = Vec::new();
    for user in users {
        let (action, requests) = work(number);
        for (tier, prompt) in requests {
            let (path, key, model) = user.own[tier].clone();
            *expected.entry(Seen { path, key, model, prompt }).or_default() += 1;
        }
        let mut request = host.request(action);
        request.user = user.name.clone();
        let runtime = host.runtime.clone();
        running.push(tokio::spawn(async move { runtime.execute(request).await }));
    }
    for (user, execution) in users.iter().zip(running) {
        let record = execution.await.unwrap().record;
        assert_eq!((record.outcome, &record.user), (Outcome::Completed, &user.name), "{:?}", record.error);
        let usage = record.usage.capability("llm").unwrap();
        let (input, output) = (4 * TOKENS.0, 4 * TOKENS.1);
        assert_eq!(
            (&usage["requests"], &usage["attempts"], &usage["input_tokens"], &usage["output_tokens"]),
            (&json!(4), &json!(4), &json!(input), &json!(output)),
            "{}: {usage}",
            user.name
        );
        assert_eq!(record.usage.get("llm_tokens"), Some(input + output));
    }
    let mut seen = HashMap::<Seen, usize>::new();
    for request in server.take() {
        *seen.entry(request).or_default() += 1;
    }
    for (request, count) in &seen {
        assert_eq!(expected.get(request), Some(count), "somebody's request went astray: {request:?}");
    }
    assert_eq!(seen.len(), expected.len());
}

/// A server, and a runtime whose users each have settings of their own.
struct Crowd {
    server: Server,
    configs: Arc<ConfigsByUser>,
    host: Host,
}

impl Crowd {
    fn new() -> Self {
        let default = RouterConfig::new(LlmSettings::default()).unwrap();
        let configs = Arc::new(ConfigsByUser::new(default));
        let host = Host::with(|builder| builder.llm(Providers::new(Arc::clone(&configs)).unwrap()));
        Crowd { server: Server::start(), configs, host }
    }
}

async fn crowd(Crowd { server, configs, host }: &Crowd, users_count: usize, rounds: std::ops::Range<usize>) {
    for number in rounds {
        // Every round has other keys and models: whatever a router kept of the last one shows.
        let users: Vec<User> = (0..users_count)
            .map(|at| {
                let (user, settings) = user(server, at, number);
                configs.set(user.name.clone(), RouterConfig::new(settings).unwrap());
                user
            })
            .collect();
        round(host, server, &users, number).await;
    }
    host.assert_nothing_held().await;
}

#[tokio::test]
async fn twenty_users_at_once_keep_to_their_own() {
    crowd(&Crowd::new(), 20, 0..3).await;
}

#[tokio::test]
async fn a_hundred_and_twenty_users_at_once_keep_to_their_own() {
    crowd(&Crowd::new(), 120, 0..2).await;
}

/// Settings that change while an execution runs are for the next one.
#[tokio::test]
async fn a_change_does_not_reach_an_execution_under_way() {
    let server = Server::start();
    let configs = Arc::new(ConfigsByUser::new(RouterConfig::new(LlmSettings::default()).unwrap()));
    let host = Host::with(|builder| builder.llm(Providers::new(Arc::clone(&configs)).unwrap()));
    let (alice, one) = user(&server, 1, 1);
    let (_, two) = user(&server, 1, 2);
    configs.set(alice.name.clone(), RouterConfig::new(one).unwrap());
    let slow = json!({ "do": "llm", "prompt": "slow first" });
    let mut request =
        host.request(json!({ "do": "sequence", "steps": [slow, { "do": "llm", "prompt": "echo second" }] }));
    request.user = alice.name.clone();
    let again = holm_runtime::ExecutionRequest { execution: uuid::Uuid::now_v7(), ..request.clone() };
    let runtime = host.runtime.clone();
    let running = tokio::spawn(async move { runtime.execute(request).await });
    while server.under_way() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    configs.set(alice.name.clone(), RouterConfig::new(two).unwrap());
    running.await.unwrap();
    let keys: Vec<_> = server.take().into_iter().map(|seen| seen.key).collect();
    assert_eq!(keys, ["sk-usual-0001-0001", "sk-usual-0001-0001"]);
    host.runtime.execute(again).await;
    assert!(server.take().iter().all(|seen| seen.key == "sk-usual-0001-0002"));
}

/// `cargo test --workspace -- --ignored a_crowd_for_minutes --nocapture`
#[tokio::test]
#[ignore = "takes five minutes"]
async fn a_crowd_for_minutes() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let minutes = std::env::var("MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(5.0);
    let all = Crowd::new();
    let (begun, mut rounds, mut settled) = (Instant::now(), 0, 0);
    while begun.elapsed().as_secs_f64() < minutes * 60.0 {
        crowd(&all, 120, rounds..rounds + 20).await;
        rounds += 20;
        let now = resident();
        println!("{:4} s: {rounds} rounds of 120 users, {now} KiB resident", begun.elapsed().as_secs());
        // By then the pools are as large as they become, and the caches of those who have one are not yet.
        if rounds <= 40 {
            settled = now;
        }
        assert!(now < settled + settled / 5, "{settled} KiB resident after 40 rounds, and now {now}");
    }
}
