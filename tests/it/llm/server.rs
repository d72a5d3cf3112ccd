//! A server that speaks as several providers do, and keeps what it was asked and by whom.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use holm_runtime::backends::llm::{Addresses, Credentials, Provider, ProviderKind, Secret};
use serde_json::{Value, json};

use crate::support::name;

/// Tokens of every answer.
pub const TOKENS: (u64, u64) = (7, 3);

/// What the server was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub path: String,
    pub key: String,
    pub model: String,
    /// The last text of the user.
    pub prompt: String,
}

#[derive(Default)]
struct Kept {
    seen: Mutex<Vec<Seen>>,
    /// Requests under way, and the most that there were.
    under_way: Mutex<(usize, usize)>,
    /// How often each prompt that begins with `flaky` came.
    flaky: Mutex<HashMap<String, usize>>,
}

/// The server, on threads of its own.
pub struct Server {
    pub address: SocketAddr,
    kept: Arc<Kept>,
    threads: Option<tokio::runtime::Runtime>,
}

impl Server {
    pub fn start() -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Kept>::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&kept));
        threads.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
        Server { address, kept, threads: Some(threads) }
    }

    /// A provider whose servers are this one, under an address of its own.
    pub fn provider(&self, called: &str, kind: ProviderKind, key: &str) -> Provider {
        let url = format!("http://{}/{called}", self.address).parse().unwrap();
        let credentials = match key {
            "" => Credentials::None,
            key => Credentials::Key(Secret::new(key)),
        };
        Provider {
            kind,
            url,
            credentials,
            model: Some(format!("{called}-model")),
            addresses: Addresses::Any,
            ..Provider::named(name(called))
        }
    }

    /// What it was asked since this was called last.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.kept.seen.lock().unwrap())
    }

    pub fn under_way(&self) -> usize {
        self.kept.under_way.lock().unwrap().0
    }

    pub fn under_way_max(&self) -> usize {
        self.kept.under_way.lock().unwrap().1
    }
}

impl Drop for Server {
    /// In a test nothing may block.
    fn drop(&mut self) {
        self.threads.take().unwrap().shutdown_background();
    }
}

/// Counts a request for as long as its client waits.
struct UnderWay(Arc<Kept>);

impl UnderWay {
    fn enter(kept: &Arc<Kept>) -> Self {
        let mut count = kept.under_way.lock().unwrap();
        count.0 += 1;
        count.1 = count.1.max(count.0);
        UnderWay(Arc::clone(kept))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.lock().unwrap().0 -= 1;
    }
}

/// Prompts say how the server behaves: `echo …`, `slow …`, `never …`, `flaky …` (fails twice), `status 429 …`,
/// `nonsense …`, `leak …` (an error that quotes the key), `stream-stops …`.
async fn answer(State(kept): State<Arc<Kept>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let _under_way = UnderWay::enter(&kept);
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let key = ["x-api-key", "api-key", "x-goog-api-key"].map(header).concat()
        + header("authorization").trim_start_matches("Bearer ");
    let path = uri.path().to_owned();
    let form = Form::of(&path);
    let (model, prompt) = (form.model(&path, &asked), form.prompt(&asked));
    kept.seen.lock().unwrap().push(Seen { path, key: key.clone(), model, prompt: prompt.clone() });
    let words: Vec<&str> = prompt.split(' ').collect();
    match words.first().copied().unwrap_or_default() {
        "slow" => tokio::time::sleep(Duration::from_millis(200)).await,
        "never" => std::future::pending().await,
        "status" => {
            let status = StatusCode::from_u16(words[1].parse().unwrap()).unwrap();
            let body = json!({ "error": { "message": format!("this is {status}"), "code": words.get(2) } });
            return (status, [("retry-after-ms", "1")], body.to_string()).into_response();
        }
        "flaky" => {
            let mut times = kept.flaky.lock().unwrap();
            let times = times.entry(prompt.clone()).or_default();
            *times += 1;
            if *times <= 2 {
                return (StatusCode::SERVICE_UNAVAILABLE, "{}").into_response();
            }
        }
        "nonsense" => return "{\"choices\": 5}".into_response(),
        "leak" => {
            let body = json!({ "error": { "message": format!("Incorrect API key provided: {key}") } });
            return (StatusCode::UNAUTHORIZED, body.to_string()).into_response();
        }
        _ => {}
    }
    let text = match words.first().copied() {
        Some("json") => words[1..].join(" "),
        _ => format!("you said {prompt}"),
    };
    let streams = asked["stream"] == true || uri.path().contains("streamGenerateContent");
    if !streams {
        return ([("content-type", "application/json")], form.whole(&text, &asked).to_string()).into_response();
    }
    let stops = prompt.starts_with("stream-stops");
    let mut events = form.events(&text);
    if stops {
        events.truncate(2);
    }
    let events = events.into_iter().map(|event| Ok::<_, std::io::Error>(event + "\n\n"));
    let body = Body::from_stream(futures::stream::iter(events));
    ([("content-type", "text/event-stream")], body).into_response()
}

#[derive(Clone, Copy)]
enum Form {
    OpenAi,
    Embeddings,
    Anthropic,
    Gemini,
}

impl Form {
    fn of(path: &str) -> Self {
        match path {
            path if path.ends_with("/embeddings") => Form::Embeddings,
            path if path.ends_with("/messages") => Form::Anthropic,
            path if path.contains("enerateContent") => Form::Gemini,
            _ => Form::OpenAi,
        }
    }

    fn model(self, path: &str, asked: &Value) -> String {
        match self {
            Form::Gemini => path.rsplit('/').next().unwrap().split(':').next().unwrap().to_owned(),
            _ => asked["model"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn prompt(self, asked: &Value) -> String {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let found = match self {
            Form::Embeddings => text(&asked["input"][0]),
            Form::Gemini => text(&asked["contents"].as_array().unwrap().last().unwrap()["parts"][0]["text"]),
            _ => {
                let content = &asked["messages"].as_array().unwrap().last().unwrap()["content"];
                text(content).or_else(|| text(&content[0]["text"]))
            }
        };
        found.unwrap_or_default()
    }

    fn whole(self, text: &str, asked: &Value) -> Value {
        let (input, output) = TOKENS;
        match self {
            Form::Embeddings => {
                let inputs = asked["input"].as_array().unwrap().iter().enumerate();
                let data: Vec<_> =
                    inputs.map(|(index, _)| json!({ "index": index, "embedding": [index, 0.5] })).collect();
                json!({ "data": data, "usage": { "prompt_tokens": input } })
            }
            Form::OpenAi => json!({
                "id": "x", "object": "chat.completion",
                "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output },
            }),
            Form::Anthropic => json!({
                "type": "message", "role": "assistant", "content": [{ "type": "text", "text": text }],
                "stop_reason": "end_turn", "usage": { "input_tokens": input, "output_tokens": output },
            }),
            Form::Gemini => json!({
                "candidates": [{ "content": { "role": "model", "parts": [{ "text": text }] }, "finishReason": "STOP" }],
                "usageMetadata": { "promptTokenCount": input, "candidatesTokenCount": output },
            }),
        }
    }

    /// The same in events, a word each.
    fn events(self, text: &str) -> Vec<String> {
        let (input, output) = TOKENS;
        let words = text.split_inclusive(' ');
        let data = |value: Value| format!("data: {value}");
        match self {
            Form::OpenAi | Form::Embeddings => {
                let delta = |delta: Value, reason: Value| {
                    data(json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }] }))
                };
                let mut events: Vec<_> = words.map(|word| delta(json!({ "content": word }), Value::Null)).collect();
                events.push(delta(json!({}), json!("stop")));
                events.push(data(json!({
                    "choices": [], "usage": { "prompt_tokens": input, "completion_tokens": output },
                })));
                events.push("data: [DONE]".to_owned());
                events
            }
            Form::Anthropic => {
                let event =
                    |value: Value| format!("event: {}\n{}", value["type"].as_str().unwrap(), data(value.clone()));
                let usage = json!({ "input_tokens": input, "output_tokens": 1 });
                let mut events = vec![
                    event(json!({ "type": "message_start", "message": { "usage": usage } })),
                    event(json!({
                        "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" },
                    })),
                ];
                events.extend(words.map(|word| {
                    let delta = json!({ "type": "text_delta", "text": word });
                    event(json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
                }));
                events.push(event(json!({ "type": "content_block_stop", "index": 0 })));
                events.push(event(json!({
                    "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": output },
                })));
                events.push(event(json!({ "type": "message_stop" })));
                events
            }
            Form::Gemini => {
                let part = |word: &str| json!({ "content": { "role": "model", "parts": [{ "text": word }] } });
                let mut events: Vec<_> = words.map(|word| data(json!({ "candidates": [part(word)] }))).collect();
                events.push(data(json!({
                    "candidates": [{ "finishReason": "STOP" }],
                    "usageMetadata": { "promptTokenCount": input, "candidatesTokenCount": output },
                })));
                events
            }
        }
    }
}
