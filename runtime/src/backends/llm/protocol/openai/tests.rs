use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Broken, Piece, Tokens};
use super::*;
use crate::host_api::llm::{Blob, FinishReason, Message, Part, Request, Role, Tool, ToolCall, ToolResult};

const SCHEMA: &str =
    r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#;

fn call(id: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: "add".to_owned(), arguments: arguments.to_owned() }
}

fn result(id: &str, content: &str, is_error: bool) -> Part {
    Part::ToolResult(ToolResult { call_id: id.to_owned(), content: content.to_owned(), is_error })
}

fn everything() -> Request {
    let blob = |media_type: &str| Blob { media_type: media_type.to_owned(), data: b"abc".to_vec() };
    Request {
        messages: vec![
            Message { role: Role::System, parts: vec![Part::Text("Be brief.".into()), Part::Text("Be kind.".into())] },
            Message {
                role: Role::User,
                parts: vec![
                    Part::Text("Look:".into()),
                    Part::Image(blob("image/png")),
                    Part::ImageUrl("https://example.com/a.png".into()),
                    Part::Document(blob("application/pdf")),
                    Part::Document(blob("application/vnd.oasis.opendocument.text")),
                ],
            },
            Message {
                role: Role::Assistant,
                parts: vec![
                    Part::Text("I see.".into()),
                    Part::ToolCall(call("c1", "{ \"a\": 1 }")),
                    Part::ToolCall(call("c2", "not json")),
                ],
            },
            Message { role: Role::Tool, parts: vec![result("c1", "2", false), result("c2", "no JSON", true)] },
            Message { role: Role::Assistant, parts: vec![Part::ToolCall(call("c3", "{}"))] },
            Message { role: Role::User, parts: vec![Part::Text("And?".into()), result("c3", "3", false)] },
            Message::text(Role::User, "Answer."),
        ],
        max_tokens: Some(100),
        temperature: Some(0.2),
        stop: vec!["END".into()],
        tools: vec![Tool {
            name: "add".into(),
            description: "Adds.".into(),
            parameters_schema: r#"{"type": "object", "z": 1.0, "a": 1e400}"#.into(),
        }],
        response_schema: Some(SCHEMA.into()),
        ..Request::default()
    }
}

fn encode(flavour: Flavour, request: &Request, stream: bool) -> Result<(Outgoing, Value), Unsupported> {
    let outgoing = OpenAi::new(flavour).encode(&Ask { request, model: "gpt-4o", stream })?;
    // Numbers of schemas are as the guest wrote them, even where no number type holds them.
    let body = String::from_utf8(outgoing.body.clone()).unwrap();
    let body = serde_json::from_str(&body.replace("1e400", "7")).unwrap();
    Ok((outgoing, body))
}

fn azure(deployment: Option<&str>) -> Flavour {
    Flavour::Azure { api_version: "2024-10-21 &x".to_owned(), deployment: deployment.map(str::to_owned) }
}

#[test]
fn models_that_think_are_sent_no_temperature() {
    let request =
        Request { messages: vec![Message::text(Role::User, "Hi")], temperature: Some(0.2), ..Request::default() };
    let sent = |flavour: Flavour, model: &str| {
        let body = OpenAi::new(flavour).encode(&Ask { request: &request, model, stream: false }).unwrap().body;
        serde_json::from_slice::<Value>(&body).unwrap().get("temperature").is_some()
    };
    assert!(sent(Flavour::OpenAi, "gpt-4o") && sent(Flavour::Compatible, "o3"));
    assert!(!sent(Flavour::OpenAi, "o3-mini") && !sent(azure(None), "gpt-5"));
}

#[test]
fn a_request_with_everything() {
    let (outgoing, body) = encode(Flavour::OpenAi, &everything(), true).unwrap();
    assert_eq!((outgoing.path.as_str(), outgoing.framing), ("/chat/completions", Framing::ServerSentEvents));
    assert!(String::from_utf8_lossy(&outgoing.body).contains(r#""temperature":0.2,"#));
    let function = |id: &str, arguments: &str| {
        let function = json!({"name": "add", "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    };
    let expected = json!({
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be brief.\nBe kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,YWJj"}},
                {"type": "file", "file": {"filename": "document",
                    "file_data": "data:application/vnd.oasis.opendocument.text;base64,YWJj"}},
            ]},
            {"role": "assistant", "content": "I see.",
                "tool_calls": [function("c1", "{ \"a\": 1 }"), function("c2", "not json")]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "tool", "tool_call_id": "c2", "content": "error: no JSON"},
            {"role": "assistant", "content": null, "tool_calls": [function("c3", "{}")]},
            {"role": "tool", "tool_call_id": "c3", "content": "3"},
            {"role": "user", "content": [{"type": "text", "text": "And?"}]},
            {"role": "user", "content": "Answer."},
        ],
        "max_completion_tokens": 100,
        "temperature": body["temperature"],
        "stop": ["END"],
        "tools": [{"type": "function", "function": {"name": "add", "description": "Adds.",
            "parameters": {"type": "object", "z": 1.0, "a": 7}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true,
            "schema": serde_json::from_str::<Value>(SCHEMA).unwrap()}},
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(body, expected);
}

#[test]
fn a_plain_request_says_no_more_than_it_must() {
    let mut request = Request { messages: vec![Message::text(Role::User, "Hi")], ..Request::default() };
    let (outgoing, body) = encode(Flavour::Compatible, &request, false).unwrap();
    assert_eq!(body, json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}));
    assert_eq!(outgoing.framing, Framing::Whole);
    request.max_tokens = Some(5);
    request.response_schema = Some(r#"{"type":"object"}"#.into());
    let (_, body) = encode(Flavour::Compatible, &request, false).unwrap();
    assert_eq!((&body["max_tokens"], body.get("max_completion_tokens")), (&json!(5), None));
    assert_eq!(body["response_format"]["json_schema"]["strict"], false);
}

#[test]
fn azure_has_deployments() {
    let request =
        Request { messages: vec![Message::text(Role::User, "Hi")], max_tokens: Some(5), ..Request::default() };
    let (outgoing, body) = encode(azure(Some("my gpt/../4")), &request, false).unwrap();
    assert_eq!(outgoing.path, "/openai/deployments/my%20gpt%2F..%2F4/chat/completions?api-version=2024-10-21%20%26x");
    assert_eq!(body["max_completion_tokens"], 5);
    let (outgoing, _) = encode(azure(None), &request, false).unwrap();
    assert!(outgoing.path.starts_with("/openai/deployments/gpt-4o/chat"));
    assert!(encode(azure(Some("..")), &request, false).is_err());
    let embedding = OpenAi::new(azure(None)).encode_embedding("ada", &["a".to_owned()]).unwrap();
    assert_eq!(embedding[0].path, "/openai/deployments/ada/embeddings?api-version=2024-10-21%20%26x");
}

#[test]
fn what_has_no_words_is_unsupported() {
    let image = || Part::ImageUrl("https://example.com/a.png".into());
    for message in [
        Message { role: Role::System, parts: vec![image()] },
        Message { role: Role::Assistant, parts: vec![image()] },
        Message { role: Role::User, parts: vec![Part::ToolCall(call("c", "{}"))] },
    ] {
        let request = Request { messages: vec![message], ..Request::default() };
        assert!(encode(Flavour::OpenAi, &request, false).is_err());
    }
    let messages = vec![Message::text(Role::User, "Hi")];
    let request = Request { messages, response_schema: Some("{".into()), ..Request::default() };
    assert!(encode(Flavour::OpenAi, &request, false).is_err());
}

fn decode(body: &str) -> Result<Answer, Malformed> {
    OpenAi::new(Flavour::OpenAi).decode(body.as_bytes()).map_err(|broken| match broken {
        Broken::Malformed(malformed) => malformed,
        Broken::Refused(refusal) => panic!("{refusal:?}"),
    })
}

fn said(text: &str) -> Part {
    Part::Text(text.to_owned())
}

#[test]
fn a_recorded_answer() {
    let answer = decode(
        r#"{"id":"chatcmpl-B9MB","object":"chat.completion","created":1741569952,"model":"gpt-4o-2024-08-06","choices":[
        {"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_a","type":"function","function":
        {"name":"add","arguments":"{\n\"a\": 1\n}"}},{"id":"call_b","type":"function","function":{"name":"add","arguments":
        { "b" : 1.50}}}],"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":
        {"prompt_tokens":82,"completion_tokens":17,"total_tokens":99,"prompt_tokens_details":{"cached_tokens":0}},
        "service_tier":"default","system_fingerprint":"fp_1"}"#,
    )
    .unwrap();
    let calls = vec![call("call_a", "{\n\"a\": 1\n}"), call("call_b", "{ \"b\" : 1.50}")];
    assert_eq!(answer.parts, calls.into_iter().map(Part::ToolCall).collect::<Vec<_>>());
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    assert_eq!(answer.tokens, Tokens { input: Some(82), output: Some(17) });
}

#[test]
fn answers_of_other_forms() {
    let text = |content: &str| decode(&format!(r#"{{"choices":[{{"message":{{"content":{content}}}}},7]}}"#));
    assert_eq!(text(r#""a\nb""#).unwrap().parts, [said("a\nb")]);
    assert_eq!(text("null").unwrap().parts, []);
    let chunks =
        r#"[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"},{"text":"b"}]"#;
    assert_eq!(text(chunks).unwrap().parts, [said("ab")]);
    assert!(text("7").is_err());
    let refused = r#"{"choices":[{"message":{"content":null,"refusal":"I can't."},"finish_reason":"stop"}]}"#;
    let refused = decode(refused).unwrap();
    assert_eq!((refused.parts, refused.finish_reason), (vec![said("I can't.")], FinishReason::ContentFilter));
    for (word, reason) in [
        ("stop", FinishReason::Stop),
        ("length", FinishReason::Length),
        ("function_call", FinishReason::ToolCalls),
        ("content_filter", FinishReason::ContentFilter),
        ("eos", FinishReason::Other),
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"a"}},"finish_reason":"{word}"}}]}}"#);
        assert_eq!(decode(&body).unwrap().finish_reason, reason);
    }
}

#[test]
fn a_wrong_bill_is_no_wrong_answer() {
    for usage in [
        "null",
        "7",
        "\"many\"",
        "[[]]",
        r#"{"prompt_tokens":-5,"completion_tokens":18446744073709551615}"#,
        r#"{"prompt_tokens":"12","completion_tokens":[1]}"#,
        r#"{"prompt_tokens":1,"prompt_tokens":2}"#,
    ] {
        let body = format!(r#"{{"choices":[{{"message":{{"content":"a"}}}}],"usage":{usage}}}"#);
        assert_eq!(decode(&body).unwrap().tokens, Tokens::default(), "{usage}");
    }
}

#[test]
fn hostile_answers_are_malformed() {
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let calls = |many| {
        let calls = vec![r#"{"function":{"name":"x","arguments":"{}"}}"#; many].join(",");
        format!(r#"{{"choices":[{{"message":{{"tool_calls":[{calls}]}}}}]}}"#)
    };
    assert!(decode(&calls(100)).is_ok());
    for body in [
        String::new(),
        "null".to_owned(),
        "{}".to_owned(),
        r#"{"choices":null}"#.to_owned(),
        r#"{"choices":[]}"#.to_owned(),
        r#"{"choices":[{}]}"#.to_owned(),
        r#"{"choices":{"message":{}}}"#.to_owned(),
        r#"{"choices":[{"message":{"content":"\ud800"}}]}"#.to_owned(),
        r#"{"choices":[{"message":{"tool_calls":[{"id":"c","function":{"arguments":"{}"}}]}}]}"#.to_owned(),
        r#"{"choices":[{"message":{"tool_calls":[{"id":"c"}]}}]}"#.to_owned(),
        format!(r#"{{"choices":[{{"message":{{"content":{}}}}}]}}"#, deep(100_000)),
        calls(129),
        calls(100_000),
    ] {
        assert!(decode(&body).is_err(), "{}", body.get(..200).unwrap_or(&body));
    }
    let refused = OpenAi::new(Flavour::Compatible).decode(br#"{"error":{"message":"no","code":429}}"#);
    assert!(
        matches!(refused, Err(Broken::Refused(refusal)) if refusal.why == Why::RateLimited),
        "a status in the answer"
    );
    // What is not read may be as deep as it likes.
    let body = format!(r#"{{"x":{},"choices":[{{"message":{{"content":"a"}}}}]}}"#, deep(100_000));
    assert!(decode(&body).is_ok());
}

fn stream(events: &[&str]) -> (Vec<Piece>, Result<Answer, Broken>) {
    let mut decoder = OpenAi::new(Flavour::Compatible).decoder();
    let mut pieces = Vec::new();
    for event in events {
        if let Err(broken) = decoder.event("", event.as_bytes(), &mut pieces) {
            return (pieces, Err(broken));
        }
    }
    (pieces, decoder.finish().map_err(Broken::from))
}

#[test]
fn a_recorded_stream() {
    let (pieces, answer) = stream(&[
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-4o","service_tier":"default","choices":
            [{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],
            "usage":null,"obfuscation":"x"}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"usage":null}"#,
        "",
        r#"{"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
        "[DONE]",
    ]);
    assert_eq!(pieces, [Piece::Text("Hel".into()), Piece::Text("lo".into())]);
    let tokens = Tokens { input: Some(9), output: Some(2) };
    assert_eq!(answer.unwrap(), Answer { parts: vec![said("Hello")], finish_reason: FinishReason::Stop, tokens });
}

#[test]
fn tools_in_a_stream() {
    let mut decoder = OpenAi::new(Flavour::OpenAi).decoder();
    let mut pieces = Vec::new();
    let mut event = |data: &str| {
        decoder.event("", data.as_bytes(), &mut pieces).unwrap();
        std::mem::take(&mut pieces)
    };
    let begins = r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[{"index":4294967295,"id":"c1",
        "type":"function","function":{"name":"add","arguments":""}}]},"finish_reason":null}]}"#;
    let goes_on = |json: &str| {
        format!(
            r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":4294967295,"function":{{"arguments":"{json}"}}}}]}}}}]}}"#
        )
    };
    assert_eq!(event(begins), []);
    assert_eq!(event(&goes_on(r#"{\"a\""#)), []);
    assert_eq!(event(&goes_on(":1}")), []);
    let next = r#"{"choices":[{"delta":{"tool_calls":[{"id":"c2","function":{"name":"add","arguments":{"b":2}}}]}}]}"#;
    assert_eq!(event(next), [Piece::ToolCall(call("c1", r#"{"a":1}"#))]);
    // Not numbered, but of another id: another call.
    let third = r#"{"choices":[{"delta":{"tool_calls":[{"id":"c3","function":{"name":"add"}}]}}]}"#;
    assert_eq!(event(third), [Piece::ToolCall(call("c2", r#"{"b":2}"#))]);
    let end = r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    assert_eq!(event(end), [Piece::ToolCall(call("c3", "{}"))]);
    let answer = decoder.finish().unwrap();
    assert_eq!((answer.parts.len(), answer.finish_reason), (3, FinishReason::ToolCalls));
    assert_eq!(answer.tokens, Tokens { input: Some(1), output: Some(2) });
}

#[test]
fn the_end_of_a_stream() {
    let text = r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let end = r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#;
    let bill = r#"{"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":"x"}}"#;
    let broke_off = Broken::Malformed(Malformed("the answer broke off".into()));
    assert_eq!(stream(&[text]).1, Err(Broken::Malformed(Malformed("the answer broke off".into()))));
    assert_eq!(stream(&[]).1, Err(broke_off));
    assert_eq!(stream(&[text, end]).1.unwrap().finish_reason, FinishReason::Length);
    assert_eq!(stream(&[text, "[DONE]", "garbage"]).1.unwrap().finish_reason, FinishReason::Other);
    assert_eq!(stream(&[text, end, bill]).1.unwrap().tokens, Tokens { input: Some(3), output: Some(1) });
}

#[test]
fn failures_midway() {
    for (event, why) in [
        (r#"{"error":{"message":"The server had an error","type":"server_error","code":null}}"#, Why::Server),
        (r#"{"error":{"message":"Too many requests","code":429},"choices":[{"delta":{}}]}"#, Why::RateLimited),
        (r#"{"error":{"message":"maximum context length is 8192 tokens","code":400}}"#, Why::ContextLength),
        (r#"{"error":"overloaded"}"#, Why::Server),
    ] {
        let (_, answer) = stream(&[event]);
        assert!(matches!(&answer, Err(Broken::Refused(refusal)) if refusal.why == why), "{answer:?}");
    }
    for event in [
        "{",
        "7",
        r#"{"choices":[{"delta":{"tool_calls":[{"index":-1,"function":{"name":"x"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":"0","function":{"name":"x"}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]},"finish_reason":"stop"}]}"#,
    ] {
        assert!(matches!(stream(&[event]).1, Err(Broken::Malformed(_))), "{event}");
    }
    let endless: Vec<String> = (0..1_000)
        .map(|n| format!(r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{n},"function":{{"name":"x"}}}}]}}}}]}}"#))
        .collect();
    let endless: Vec<&str> = endless.iter().map(String::as_str).collect();
    let (pieces, answer) = stream(&endless);
    assert!(pieces.len() < 200 && answer.is_err());
}

#[test]
fn embeddings() {
    let openai = OpenAi::new(Flavour::OpenAi);
    let texts: Vec<String> = (0..INPUTS_MAX + 1).map(|n| n.to_string()).collect();
    let requests = openai.encode_embedding("m", &texts).unwrap();
    assert_eq!((requests.len(), requests[1].path.as_str()), (2, "/embeddings"));
    let body: Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!(body, json!({"model": "m", "input": ["256"], "encoding_format": "float"}));
    assert!(openai.encode_embedding("m", &[]).unwrap().is_empty());

    let answer = openai.decode_embedding(
        br#"{"object":"list","data":[{"object":"embedding","index":1,"embedding":[0.5,-1]},{"object":"embedding","index":0,
            "embedding":[1e-3]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":5,"total_tokens":5}}"#,
    );
    assert_eq!(answer.unwrap(), Vectors { vectors: vec![vec![0.001], vec![0.5, -1.0]], input_tokens: Some(5) });
    for body in [
        r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]}"#,
        r#"{"data":[{"index":18446744073709551615,"embedding":[1]}]}"#,
        r#"{"data":[{"embedding":[1]}]}"#,
        r#"{"data":[{"index":0,"embedding":[1e300]}]}"#,
        r#"{"data":[{"index":0,"embedding":[-1e300]}]}"#,
        r#"{"data":[{"index":0,"embedding":["1"]}]}"#,
        r#"{"data":[{"index":0,"embedding":"AAAA"}]}"#,
        "{}",
    ] {
        assert!(openai.decode_embedding(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn refusals() {
    let openai = OpenAi::new(Flavour::OpenAi);
    for (status, body, why) in [
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,
            "code":"insufficient_quota"}}"#,
            Why::RateLimited,
        ),
        (429, r#"{"error":{"message":"Too many tokens a minute"}}"#, Why::RateLimited),
        (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, Why::ContextLength),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","code":400}"#,
            Why::ContextLength,
        ),
        (400, r#"{"error":{"message":"x","code":"content_policy_violation"}}"#, Why::Content),
        (400, r#"{"error":{"message":"x","code":"content_filter","status":400,"innererror":{}}}"#, Why::Content),
        (400, r#"{"error":{"message":"x","code":"model_not_found"}}"#, Why::NotFound),
        (404, r#"{"error":"model 'x' not found"}"#, Why::NotFound),
        (401, r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#, Why::Key),
        (400, r#"{"error":{"message":"x","type":"invalid_request_error"}}"#, Why::Request),
        (400, r#"{"error":{"message":"This response_format type is unavailable now"}}"#, Why::Unsupported),
        (400, r#"{"error":{"message":"No connected db.","type":"no_db_connection","code":"400"}}"#, Why::Key),
        (
            400,
            r#"{"error":{"message":"/chat/completions: Invalid model name passed in model=x. Call `/v1/models`",
            "type":"invalid_request_error","code":"400"}}"#,
            Why::NotFound,
        ),
        (502, "<html><body>Bad gateway</body></html>", Why::Server),
        (503, "", Why::Server),
    ] {
        assert_eq!(openai.refusal(status, body.as_bytes()).why, why, "{body}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), status: u16) {
        anything(&bytes, status);
    }

    #[test]
    fn nothing_panics_that_is_almost_an_answer(at: prop::sample::Index, with in "[\\[\\]{}\",:a0-]{0,4}", cut: usize) {
        let event = r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"}],"tool_calls":[{"index":0,"id":"c",
            "function":{"name":"x","arguments":{}}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;
        let mut event = event.replace("delta", if cut % 2 == 0 { "delta" } else { "message" });
        let from = at.index(event.len());
        let to = (from + cut % 5).min(event.len());
        event.replace_range(from..to, &with);
        anything(event.as_bytes(), 400);
    }
}

fn anything(bytes: &[u8], status: u16) {
    let openai = OpenAi::new(Flavour::OpenAi);
    let _ = openai.decode(bytes);
    let _ = openai.decode_embedding(bytes);
    let _ = openai.refusal(status, bytes);
    let mut decoder = openai.decoder();
    for _ in 0..2 {
        let _ = decoder.event("", bytes, &mut Vec::new());
    }
    let _ = decoder.finish();
}
