//! What the router adds to a request: against the bare HTTP client, and against the LiteLLM proxy where it is installed.
//! The server answers at once, so all that is measured is on the way.

#![allow(clippy::unwrap_used, reason = "a bench that fails should stop there")]

mod common;
#[path = "router/litellm.rs"]
mod litellm;
#[path = "router/server.rs"]
mod server;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holm_runtime::backends::llm::{
    Addresses, Credentials, LlmSettings, Primary, Provider, ProviderKind, Providers, RouterConfig, Secret,
};
use holm_runtime::host_api::llm::{LlmBackend as _, Message, Request, Role, Router};
use holm_runtime::host_api::{Grants, Scope};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use common::{Samples, Table, measures, ms};
use server::Server;

/// Requests a second, while times are taken.
const RATE: u32 = 500;

/// What the router may add at p99.
const ADDED_MAX: Duration = Duration::from_millis(1);

/// Requests under way at once, while throughput is taken.
const AT_ONCE: usize = 16;

/// The router gets so many times more through than the proxy.
const RATIO_MIN: f64 = 10.0;

const MODEL: &str = "small";

fn main() {
    // Where the requests come from; the router has threads of its own.
    let threads = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Server::start();
    threads.block_on(added(&server));
    threads.block_on(throughput(&server));
}

/// A router to this server, as an execution has it.
fn router(url: &str, key: &str) -> Arc<dyn Router> {
    let provider = Provider {
        kind: ProviderKind::OpenAi,
        url: url.parse().unwrap(),
        credentials: Credentials::Key(Secret::new(key)),
        model: Some(MODEL.to_owned()),
        addresses: Addresses::Any,
        ..Provider::named("local".parse().unwrap())
    };
    let settings = LlmSettings { providers: vec![provider], primary: Primary::Auto, ..LlmSettings::default() };
    let backend = Providers::new(Arc::new(RouterConfig::new(settings).unwrap())).unwrap();
    let now = Instant::now();
    let scope = Scope {
        execution: uuid::Uuid::now_v7(),
        user: "alice".parse().unwrap(),
        session: None,
        program: None,
        profile: None,
        workload: "sha256:0".into(),
        input_bytes: 0,
        grants: Arc::new(Grants::all()),
        config: Arc::default(),
        started: now,
        deadline: now + Duration::from_secs(3_600),
        cancellation: Default::default(),
    };
    backend.open(&Arc::new(scope)).unwrap()
}

fn request() -> Request {
    let messages =
        vec![Message::text(Role::System, "Be brief."), Message::text(Role::User, "What is a bridge? ".repeat(20))];
    Request { messages, max_tokens: Some(100), ..Request::default() }
}

async fn ask(router: &Arc<dyn Router>) {
    let response = Arc::clone(router).complete(request()).await.unwrap();
    assert_eq!(response.usage.input_tokens, 7);
}

async fn post(client: &reqwest::Client, url: &str, key: &str, body: &'static str) {
    let sent =
        client.post(url).header("authorization", format!("Bearer {key}")).header("content-type", "application/json");
    let answer = sent.body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert!(answer.pointer("/choices/0/message/content").is_some(), "{answer}");
}

fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().tcp_nodelay(true).build().unwrap()
}

/// The body that the router sends for `request`, as one text.
fn body() -> &'static str {
    let messages = [("system", "Be brief.".to_owned()), ("user", "What is a bridge? ".repeat(20))];
    let messages: Vec<_> =
        messages.iter().map(|(role, content)| serde_json::json!({ "role": role, "content": content })).collect();
    let body = serde_json::json!({ "model": MODEL, "stream": false, "messages": messages, "max_tokens": 100 });
    body.to_string().leak()
}

/// Sends at a fixed rate, whether or not the last one was answered, and takes the time from when each was due.
async fn at_rate<F: Future<Output = ()> + Send + 'static>(seconds: f64, send: impl Fn() -> F) -> Samples {
    let mut running = JoinSet::new();
    let begun = tokio::time::Instant::now();
    let count = (f64::from(RATE) * seconds) as u32;
    for number in 0..count {
        let due = begun + Duration::from_secs(1) * number / RATE;
        tokio::time::sleep_until(due).await;
        let asking = send();
        running.spawn(async move {
            asking.await;
            due.elapsed()
        });
    }
    let mut samples = Samples::default();
    while let Some(took) = running.join_next().await {
        samples.push(took.unwrap());
    }
    samples
}

async fn added(server: &Server) {
    let (router, client, body) = (router(&server.url(), "sk-test"), client(), body());
    let url = format!("{}/chat/completions", server.url());
    let (mut bare, mut routed) = (Samples::default(), Samples::default());
    let (rounds, seconds) = if measures() { (10, 2.0) } else { (1, 0.1) };
    for _ in 0..rounds {
        let (client, url) = (client.clone(), url.clone());
        bare.extend(
            at_rate(seconds, move || {
                let (client, url) = (client.clone(), url.clone());
                async move { post(&client, &url, "sk-test", body).await }
            })
            .await,
        );
        let router = Arc::clone(&router);
        routed.extend(
            at_rate(seconds, move || {
                let router = Arc::clone(&router);
                async move { ask(&router).await }
            })
            .await,
        );
    }
    let mut table = Table::new(["a request that is not streamed", "median ms", "p99 ms"]);
    table.row(["bare HTTP client", &ms(bare.median()), &ms(bare.percentile(99))]);
    table.row(["router", &ms(routed.median()), &ms(routed.percentile(99))]);
    table.print(&format!("{RATE} requests a second to a local server, {rounds} times {seconds} s each, interleaved"));
    let added = routed.percentile(99).saturating_sub(bare.percentile(99));
    let verdict = if added <= ADDED_MAX { "held" } else { "MISSED" };
    println!("  the router adds {} ms at p99, at most {} ms: {verdict}", ms(added), ms(ADDED_MAX));
}

/// Requests a second with so many under way at once.
async fn through<F: Future<Output = ()> + Send + 'static>(
    seconds: f64,
    send: impl Fn() -> F + Clone + Send + 'static,
) -> f64 {
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(seconds);
    let mut running = JoinSet::new();
    for _ in 0..AT_ONCE {
        let send = send.clone();
        running.spawn(async move {
            let mut count = 0_u32;
            while Instant::now() < until {
                send().await;
                count += 1;
            }
            count
        });
    }
    let mut count = 0;
    while let Some(done) = running.join_next().await {
        count += done.unwrap();
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

async fn throughput(server: &Server) {
    let seconds = if measures() { 5.0 } else { 0.2 };
    let body = body();
    let posting = |url: String, key: &'static str| {
        let client = client();
        move || {
            let (client, url) = (client.clone(), url.clone());
            async move { post(&client, &format!("{url}/chat/completions"), key, body).await }
        }
    };
    let bare = through(seconds, posting(server.url(), "sk-test")).await;
    let router = router(&server.url(), "sk-test");
    let routed = through(seconds, move || {
        let router = Arc::clone(&router);
        async move { ask(&router).await }
    })
    .await;
    let mut table = Table::new(["the way", "requests/s"]);
    table.row(["bare HTTP client", &format!("{bare:.0}")]);
    table.row(["router", &format!("{routed:.0}")]);
    let proxy = litellm::Proxy::start(&server.url(), MODEL);
    let proxied = match &proxy {
        Some(proxy) => {
            // Its first requests are slow.
            through(seconds / 2.0, posting(proxy.url(), litellm::KEY)).await;
            Some(through(seconds, posting(proxy.url(), litellm::KEY)).await)
        }
        None => None,
    };
    if let Some(proxied) = proxied {
        table.row(["LiteLLM proxy", &format!("{proxied:.0}")]);
    }
    table.print(&format!("{AT_ONCE} requests under way at once, to the same local server, {seconds} s each"));
    match proxied {
        Some(proxied) => {
            let ratio = routed / proxied;
            let verdict = if ratio >= RATIO_MIN { "held" } else { "MISSED" };
            println!("  {ratio:.1} times the proxy's throughput, at least {RATIO_MIN}: {verdict}");
        }
        None => println!("  the LiteLLM proxy is not installed (tests/peers/install.sh): not compared"),
    }
}
