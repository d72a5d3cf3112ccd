//! Providers that fail, lie and mean ill, from a guest's side: one clear error, or the answer where it was sound; a
//! sensible bill; and nobody else notices.

use holm_runtime::backends::llm::{Credentials, Secret, Timeouts};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::raw::{HASTY, Raw, act_at, assert_one_error, ok};
use super::*;
use crate::support::output;

const PATIENT: Timeouts = Timeouts { connect_ms: 10_000, first_token_ms: 20_000, answer_ms: 20_000 };

const KINDS: [ProviderKind; 3] = [ProviderKind::OpenAi, ProviderKind::Anthropic, ProviderKind::Gemini];

fn streamed(prompt: &str) -> Value {
    json!({ "do": "llm_stream", "prompt": prompt })
}

/// A sound answer of each kind, with this bill.
fn sound(kind: &ProviderKind, usage: &Value) -> String {
    match kind {
        ProviderKind::Anthropic => json!({
            "type": "message", "content": [{ "type": "text", "text": "fine" }], "stop_reason": "end_turn",
            "usage": { "input_tokens": usage, "output_tokens": usage },
        }),
        ProviderKind::Gemini => json!({
            "candidates": [{ "content": { "parts": [{ "text": "fine" }] }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": usage, "candidatesTokenCount": usage },
        }),
        _ => json!({
            "choices": [{ "message": { "content": "fine" }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": usage, "completion_tokens": usage },
        }),
    }
    .to_string()
}

/// One event of an answer's text.
fn event(kind: &ProviderKind, text: &str) -> String {
    let event = match kind {
        ProviderKind::Anthropic => {
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } })
        }
        ProviderKind::Gemini => json!({ "candidates": [{ "content": { "parts": [{ "text": text }] } }] }),
        _ => json!({ "choices": [{ "delta": { "content": text } }] }),
    };
    format!("data: {event}\n\n")
}

#[tokio::test]
async fn who_hangs_or_drips_is_left() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    for kind in KINDS {
        for (head, drop, first) in [
            ("", "", "timed out (first token)"),
            ("HTTP/1.1 200 OK\r\nx: ", "y", "timed out (first token)"),
            (HEAD, "{", "timed out (first token)"),
            (HEAD, ":\n", "timed out (first token)"),
            (HEAD, &event(&kind, "x"), "the answer broke off: timed out (answer)"),
        ] {
            let server = Raw::repeating(head, drop, 20);
            assert_one_error(&act_at(server.provider(kind.clone()), HASTY, ask("x")).await, "timed out (answer)");
            assert_one_error(&act_at(server.provider(kind.clone()), HASTY, streamed("x")).await, first);
            assert_eq!(server.asked(), 2, "who had its time gets no more");
        }
    }
}

#[tokio::test]
async fn who_breaks_off_is_asked_again_and_then_left() {
    for (kind, action) in KINDS.into_iter().flat_map(|kind| [(kind.clone(), ask("x")), (kind, streamed("x"))]) {
        let server = Raw::answering("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\":");
        assert_one_error(&act_at(server.provider(kind.clone()), PATIENT, action.clone()).await, "closed before");
        assert_eq!(server.asked(), 3);

        let server = Raw::start(|stream| async move { stream.set_zero_linger().unwrap() });
        let ended = act_at(server.provider(kind), PATIENT, action).await;
        assert_one_error(&ended, "hostile/m: the connection was reset");
        assert_eq!(server.asked(), 3);
    }
}

#[tokio::test]
async fn an_answer_without_end_has_one() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    for kind in KINDS {
        // One line, comments, and blank lines: a gigabyte of each.
        for again in ["x".repeat(1 << 16), format!(":{}\n", "x".repeat(1 << 16)), "\n".repeat(1 << 16)] {
            let server = Raw::repeating(HEAD, again, 0);
            let (whole, stream) = (server.provider(kind.clone()), server.provider(kind.clone()));
            assert_one_error(&act_at(whole, PATIENT, ask("x")).await, "the answer is larger than");
            assert_one_error(&act_at(stream, PATIENT, streamed("x")).await, "the answer is larger than");
            assert_eq!(server.asked(), 2, "it would be as large again");
        }
    }
    // What the guest was given of such an answer it pays for.
    let server = Raw::repeating(HEAD, event(&ProviderKind::OpenAi, &"x".repeat(1 << 18)), 0);
    let ended = act_at(server.provider(ProviderKind::OpenAi), PATIENT, streamed("x")).await;
    assert!(
        ended.record.error.as_ref().unwrap().contains("broke off: the answer is larger"),
        "{:?}",
        ended.record.error
    );
    let tokens = ended.record.usage.get("llm_tokens").unwrap();
    assert!((1 << 18..4 << 20).contains(&tokens), "{tokens}");
}

#[tokio::test]
async fn words_that_make_no_sense_are_one_error() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for kind in KINDS {
        for body in [
            String::new(),
            "null".to_owned(),
            "5".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            "{\"choices\":5,\"content\":5,\"candidates\":5}".to_owned(),
            "{\"choices\":[],\"content\":null,\"candidates\":[]}".to_owned(),
            "<html>hello</html>".to_owned(),
            "\u{feff}{}".to_owned(),
            deep("[", "]"),
            deep("{\"a\":", "1"),
            format!("{{\"choices\":{0},\"content\":{0},\"candidates\":{0}}}", deep("[", "]")),
            sound(&kind, &json!(1)).replace("\"fine\"", &deep("[", "]")),
        ] {
            let server = Raw::answering(ok(&body));
            assert_one_error(&act_at(server.provider(kind.clone()), PATIENT, ask("x")).await, "the answer");
            assert_eq!(server.asked(), 1, "it would be no better: {body:.80}");
            let server = Raw::answering(ok(format!("data: {body}\n\n")));
            assert_one_error(&act_at(server.provider(kind.clone()), PATIENT, streamed("x")).await, "the answer");
        }
    }
}

#[tokio::test]
async fn a_wrong_bill_does_not_spoil_the_answer() {
    let wrong =
        [json!(-5), json!(u64::MAX), json!(i64::MIN), json!("12"), json!(1.5), json!(1e300), json!([1]), json!({})];
    for (kind, usage) in KINDS.into_iter().flat_map(|kind| wrong.iter().map(move |usage| (kind.clone(), usage))) {
        let server = Raw::answering(ok(sound(&kind, usage)));
        let ended = act_at(server.provider(kind.clone()), PATIENT, ask("x")).await;
        assert_eq!(output(&ended)["text"], "fine", "{kind:?} {usage}");
        let tokens = ended.record.usage.get("llm_tokens").unwrap();
        assert!((1..100).contains(&tokens), "{kind:?} {usage}: {tokens}");
    }
}

/// More than the model reads is a lie, too.
#[tokio::test]
async fn a_bill_beyond_the_model_is_not_believed() {
    let server = Raw::answering(ok(sound(&ProviderKind::OpenAi, &json!(9_000_000))));
    let prices = "\"hostile/m\" = { input = 1, output = 1, context_tokens = 8000000 }";
    let host = host(LlmSettings {
        prices: Arc::new(holm_runtime::backends::llm::PriceTable::from_toml(prices).unwrap()),
        ..settings(vec![server.provider(ProviderKind::OpenAi)])
    });
    let ended = host.act(ask("x")).await;
    assert_eq!(output(&ended)["text"], "fine");
    assert!(ended.record.usage.get("llm_tokens").unwrap() < 100);
    assert!(ended.record.usage.get("llm_cost_microusd").unwrap() < 100);
}

/// Some servers leave the connection open after the last event.
#[tokio::test]
async fn an_answer_is_whole_when_its_provider_says_so() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let [openai, anthropic] = [
        format!("{}data: [DONE]\n\n", event(&ProviderKind::OpenAi, "x")),
        format!("{}data: {{\"type\":\"message_stop\"}}\n\n", event(&ProviderKind::Anthropic, "x")),
    ];
    for (kind, events) in [(ProviderKind::OpenAi, openai), (ProviderKind::Anthropic, anthropic)] {
        // Then it is silent, or says it for ever.
        let silent = Raw::start({
            let answer = format!("{head}{events}");
            move |mut stream| {
                let answer = answer.clone();
                async move {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let _ = stream.read(&mut [0; 8]).await;
                }
            }
        });
        for server in [silent, Raw::repeating(head, events, 0)] {
            let ended = act_at(server.provider(kind.clone()), PATIENT, streamed("x")).await;
            assert_eq!(output(&ended)["deltas"], json!(["x"]));
        }
    }
}

#[tokio::test]
async fn absurd_calls_of_tools_are_bounded() {
    let call = |index: u64| json!({ "index": index, "id": format!("c{index}"), "function": { "name": "f", "arguments": "{}" } });
    let delta = |calls: Vec<Value>| {
        let delta = json!({ "choices": [{ "delta": { "tool_calls": calls }, "finish_reason": "tool_calls" }] });
        ok(format!("data: {delta}\n\ndata: [DONE]\n\n"))
    };
    // A large number is one call, and no reason to make room for so many.
    for index in [u64::from(u32::MAX), u64::MAX] {
        let server = Raw::answering(delta(vec![call(index)]));
        let ended = act_at(server.provider(ProviderKind::OpenAi), PATIENT, streamed("x")).await;
        assert_eq!(output(&ended)["deltas"], json!([{ "tool": "f" }]));
    }
    let server = Raw::answering(delta((0..5_000).map(call).collect()));
    let ended = act_at(server.provider(ProviderKind::OpenAi), PATIENT, streamed("x")).await;
    assert_one_error(&ended, "the answer");

    let many = |one: Value| vec![one; 5_000];
    for (kind, body) in [
        (ProviderKind::OpenAi, json!({ "choices": [{ "message": { "tool_calls": many(call(0)) } }] })),
        (
            ProviderKind::Anthropic,
            json!({ "content": many(json!({ "type": "tool_use", "id": "c", "name": "f", "input": {} })) }),
        ),
        (
            ProviderKind::Gemini,
            json!({ "candidates": [{ "content": { "parts": many(json!({ "functionCall": { "name": "f" } })) } }] }),
        ),
    ] {
        let server = Raw::answering(ok(body.to_string()));
        assert_one_error(&act_at(server.provider(kind), PATIENT, ask("x")).await, "the answer");
        assert_eq!(server.asked(), 1);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_next_provider_is_asked() {
    let elsewhere = Raw::answering(ok(sound(&ProviderKind::OpenAi, &json!(1))));
    for (status, kind) in
        ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"].into_iter().zip(KINDS.iter().cycle())
    {
        let answer = format!(
            "HTTP/1.1 {status}\r\nlocation: http://{}/v1/sk-in-location\r\ncontent-length: 0\r\n\r\n",
            elsewhere.address
        );
        let server = Raw::answering(answer);
        let ended = act_at(server.provider(kind.clone()), PATIENT, ask("x")).await;
        assert_one_error(&ended, &status[..3]);
        assert!(!ended.record.error.unwrap().contains("sk-in"));
        let chain = host(LlmSettings {
            fallback: Some(vec![target("offline")]),
            ..settings(vec![server.provider(kind.clone()), Provider::offline()])
        });
        assert_eq!(output(&chain.act(ask("x")).await)["provider"], "offline", "{status}");
        assert_eq!((server.asked(), elsewhere.asked()), (2, 0));
    }
}

#[tokio::test]
async fn errors_are_short_and_have_no_key() {
    const KEY: &str = "sk-proj-Zx81Qq7Lm20Pp55Rr";
    let long = format!("{{\"error\":{{\"message\":\"{} {KEY}\"}}}}", "no ".repeat(1_000_000));
    let within = format!("{{\"error\":{{\"message\":\"wrong key {KEY}\",\"code\":\"{KEY}\",\"type\":\"{KEY}\"}}}}");
    let many_headers: String = (0..5_000).map(|n| format!("x-{n}: {KEY}\r\n")).collect();
    for kind in KINDS {
        for (answer, action, says) in [
            // With a status that is a success.
            (ok(&within), ask("x"), "hostile/m: "),
            (ok(format!("data: {within}\n\n")), streamed("x"), "hostile/m: "),
            (ok(&long), ask("x"), "hostile/m: "),
            // With one that is none.
            (format!("HTTP/1.1 401 {KEY}\r\n\r\n{within}").into(), ask("x"), "(401)"),
            (format!("HTTP/1.1 401 No\r\n\r\n{KEY}").into(), streamed("x"), "(401)"),
            (format!("HTTP/1.1 500 No\r\n\r\n{long}").into(), ask("x"), "(500)"),
            (format!("HTTP/1.1 200 OK\r\n{many_headers}\r\n").into(), ask("x"), "the answer"),
        ] {
            let server = Raw::answering(answer);
            let credentials = Credentials::Key(Secret::new(KEY));
            let provider = Provider { credentials, ..server.provider(kind.clone()) };
            let ended = act_at(provider, PATIENT, action).await;
            assert_one_error(&ended, says);
            let shown = format!("{:?} {:?} {:?}", ended.record, ended.cause, ended.journal);
            assert!((0..KEY.len() - 5).all(|at| !shown.contains(&KEY[at..at + 6])), "{kind:?}: {shown}");
        }
    }
}
