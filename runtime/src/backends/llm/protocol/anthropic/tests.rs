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

fn blob(media_type: &str) -> Blob {
    Blob { media_type: media_type.to_owned(), data: b"abc".to_vec() }
}

fn hi() -> Request {
    Request { messages: vec![Message::text(Role::User, "Hi")], ..Request::default() }
}

fn encode(model: &str, request: &Request, stream: bool) -> Result<(Outgoing, Value), Unsupported> {
    let outgoing = Anthropic.encode(&Ask { request, model, stream })?;
    let body = serde_json::from_slice(&outgoing.body).unwrap();
    Ok((outgoing, body))
}

#[test]
fn a_request_with_everything() {
    let request = Request {
        messages: vec![
            Message { role: Role::System, parts: vec![Part::Text("Be brief.".into()), Part::Text(String::new())] },
            Message::text(Role::User, "Look:"),
            Message {
                role: Role::User,
                parts: vec![
                    Part::Image(blob("image/png")),
                    Part::ImageUrl("https://example.com/a.png".into()),
                    Part::ImageUrl("data:image/gif;base64,AAAA".into()),
                    Part::Document(blob("application/pdf")),
                    Part::Document(blob("text/markdown; charset=utf-8")),
                ],
            },
            Message::text(Role::System, "Be kind."),
            Message {
                role: Role::Assistant,
                parts: vec![Part::Text("I see.".into()), Part::ToolCall(call("functions.add:0", "{ \"a\": 1.50 }"))],
            },
            Message { role: Role::Assistant, parts: vec![Part::ToolCall(call("c2", "not json"))] },
            Message::text(Role::User, "Well?"),
            Message { role: Role::Tool, parts: vec![result("functions.add:0", "2", false), result("c2", "no", true)] },
        ],
        max_tokens: Some(100),
        temperature: Some(1.5),
        stop: vec!["END".into()],
        tools: vec![Tool {
            name: "add".into(),
            description: "Adds.".into(),
            parameters_schema: r#"{"type": "object"}"#.into(),
        }],
        response_schema: Some(SCHEMA.into()),
        ..Request::default()
    };
    let (outgoing, body) = encode("claude-sonnet-4-5-20250929", &request, true).unwrap();
    assert_eq!((outgoing.path.as_str(), outgoing.framing), ("/messages", Framing::ServerSentEvents));
    assert_eq!(outgoing.headers, [("anthropic-version", "2023-06-01")]);
    assert!(String::from_utf8_lossy(&outgoing.body).contains(r#""input":{ "a": 1.50 }"#));
    let expected = json!({
        "model": "claude-sonnet-4-5-20250929",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "YWJj"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "AAAA"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "YWJj"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I see."},
                {"type": "tool_use", "id": "call_functions_add_0", "name": "add", "input": {"a": 1.5}},
                {"type": "tool_use", "id": "c2", "name": "add", "input": {"arguments": "not json"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_functions_add_0", "content": "2"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": true},
                {"type": "text", "text": "Well?"},
            ]},
        ],
        "temperature": 1.0,
        "stop_sequences": ["END"],
        "tools": [{"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}],
        "output_config": {"format": {"type": "json_schema", "schema": serde_json::from_str::<Value>(SCHEMA).unwrap()}},
        "stream": true,
    });
    assert_eq!(body, expected);
}

#[test]
fn a_plain_request_says_no_more_than_it_must() {
    let (outgoing, body) = encode("claude-opus-5", &hi(), false).unwrap();
    let messages = json!([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]);
    assert_eq!(body, json!({"model": "claude-opus-5", "max_tokens": 4096, "messages": messages}));
    assert_eq!(outgoing.framing, Framing::Whole);
}

#[test]
fn generations_take_different_things() {
    let mut request = Request { temperature: Some(0.2), response_schema: Some(SCHEMA.into()), ..hi() };
    for (model, has_temperature, is_enforced) in [
        ("claude-3-5-haiku-latest", true, false),
        ("claude-opus-4-1-20250805", true, false),
        ("claude-opus-4-6", true, true),
        ("claude-opus-4-8", false, true),
        ("claude-sonnet-5", false, true),
        ("house-model", true, false),
    ] {
        let (outgoing, body) = encode(model, &request, false).unwrap();
        let body_text = String::from_utf8(outgoing.body).unwrap();
        assert_eq!(body_text.contains(r#""temperature":0.2"#), has_temperature, "{model}");
        assert_eq!(body.get("output_config").is_some(), is_enforced, "{model}");
        assert_eq!(body.get("system").is_none(), is_enforced, "{model}");
    }
    // A schema that would be refused is an instruction.
    request.response_schema = Some(r#"{"type":"integer","minimum":1}"#.into());
    let (_, body) = encode("claude-opus-4-6", &request, false).unwrap();
    assert_eq!(body.get("output_config"), None);
    assert!(body["system"][0]["text"].as_str().unwrap().ends_with("\n{\"type\":\"integer\",\"minimum\":1}"));
}

#[test]
fn what_has_no_words_is_unsupported() {
    let image = || Part::ImageUrl("https://example.com/a.png".into());
    let document =
        |media_type: &str, data: &[u8]| Part::Document(Blob { media_type: media_type.to_owned(), data: data.to_vec() });
    for (role, part) in [
        (Role::System, image()),
        (Role::System, Part::Text("alone".into())),
        (Role::Assistant, image()),
        (Role::Assistant, result("c", "x", false)),
        (Role::User, Part::ToolCall(call("c", "{}"))),
        (Role::User, Part::Text(String::new())),
        (Role::User, document("application/msword", b"abc")),
        (Role::User, document("text/plain", b"\xff")),
    ] {
        let request = Request { messages: vec![Message { role, parts: vec![part] }], ..Request::default() };
        assert!(encode("claude-opus-5", &request, false).is_err(), "{request:?}");
    }
    let request = Request { response_schema: Some("{".into()), ..hi() };
    assert!(encode("claude-opus-5", &request, false).is_err());
    let unsupported = Anthropic.encode_embedding("m", &[]).unwrap_err();
    assert_eq!(unsupported, Unsupported("Anthropic has no models for embeddings".into()));
    assert!(Anthropic.decode_embedding(b"{}").is_err());
}

fn decode(body: &str) -> Result<Answer, Malformed> {
    Anthropic.decode(body.as_bytes()).map_err(|broken| match broken {
        Broken::Malformed(malformed) => malformed,
        Broken::Refused(refusal) => panic!("{refusal:?}"),
    })
}

#[test]
fn a_recorded_answer() {
    let answer = decode(
        r#"{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[
        {"type":"thinking","thinking":"Hm.","signature":"Eq"},{"type":"text","text":"I'll add.","citations":null},
        {"type":"server_tool_use","id":"srv","name":"web_search","input":{}},{"type":"odd","text":7,"name":[]},
        {"type":"tool_use","id":"toolu_1","name":"add","input":{ "a":1.50 }}],"stop_reason":"tool_use",
        "stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":200,"cache_read_input_tokens":3000,
        "cache_creation":{"ephemeral_5m_input_tokens":200},"output_tokens":65,"service_tier":"standard"}}"#,
    )
    .unwrap();
    let parts = vec![Part::Text("I'll add.".into()), Part::ToolCall(call("toolu_1", r#"{ "a":1.50 }"#))];
    let tokens = Tokens { input: Some(3210), output: Some(65) };
    assert_eq!(answer, Answer { parts, finish_reason: FinishReason::ToolCalls, tokens });
}

#[test]
fn reasons_to_stop() {
    for (word, reason) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("tool_use", FinishReason::ToolCalls),
        ("refusal", FinishReason::ContentFilter),
        ("pause_turn", FinishReason::Other),
    ] {
        let answer = decode(&format!(r#"{{"content":[],"stop_reason":"{word}"}}"#)).unwrap();
        assert_eq!(answer.finish_reason, reason);
    }
}

#[test]
fn a_wrong_bill_is_no_wrong_answer() {
    for usage in [
        "null",
        "7",
        "[[]]",
        r#"{"input_tokens":-5,"output_tokens":18446744073709551615}"#,
        r#"{"input_tokens":"12","output_tokens":{}}"#,
    ] {
        let body = format!(r#"{{"content":[],"stop_reason":"end_turn","usage":{usage}}}"#);
        assert_eq!(decode(&body).unwrap().tokens, Tokens::default(), "{usage}");
    }
}

#[test]
fn hostile_answers_are_malformed() {
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let calls = |many| {
        let calls = vec![r#"{"type":"tool_use","id":"c","name":"x","input":{}}"#; many].join(",");
        format!(r#"{{"content":[{calls}]}}"#)
    };
    assert!(decode(&calls(100)).is_ok());
    for body in [
        String::new(),
        "{}".to_owned(),
        r#"{"content":null}"#.to_owned(),
        r#"{"content":"text"}"#.to_owned(),
        r#"{"content":[{"text":"a"}]}"#.to_owned(),
        r#"{"content":[{"type":"tool_use","id":"c","input":{}}]}"#.to_owned(),
        r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#.to_owned(),
        format!(r#"{{"content":{}}}"#, deep(100_000)),
        calls(129),
        calls(100_000),
    ] {
        assert!(decode(&body).is_err(), "{}", body.get(..200).unwrap_or(&body));
    }
    let body = format!(r#"{{"x":{},"content":[]}}"#, deep(100_000));
    assert!(decode(&body).is_ok());
}

fn stream(events: &[&str]) -> (Vec<Piece>, Result<Answer, Broken>) {
    let mut decoder = Anthropic.decoder();
    let mut pieces = Vec::new();
    for event in events {
        if let Err(broken) = decoder.event("", event.as_bytes(), &mut pieces) {
            return (pieces, Err(broken));
        }
    }
    (pieces, decoder.finish().map_err(Broken::from))
}

const RECORDED: [&str; 19] = [
    r#"{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-opus-4-6",
        "content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":5,
        "cache_read_input_tokens":0,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eq"}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
    r#"{"type": "ping"}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"I'll "}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"add."}}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t1","name":"add","input":{}}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}"#,
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" 1}"}}"#,
    r#"{"type":"content_block_stop","index":2}"#,
    r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t2","name":"add","input":{"b":2}}}"#,
    r#"{"type":"content_block_stop","index":3}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}"#,
    r#"{"type":"message_stop"}"#,
];

#[test]
fn a_recorded_stream() {
    let (pieces, answer) = stream(&RECORDED);
    let calls = [call("t1", r#"{"a": 1}"#), call("t2", r#"{"b":2}"#)];
    let mut expected = vec![Piece::Text("I'll ".into()), Piece::Text("add.".into())];
    expected.extend(calls.clone().map(Piece::ToolCall));
    assert_eq!(pieces, expected);
    let mut parts = vec![Part::Text("I'll add.".into())];
    parts.extend(calls.map(Part::ToolCall));
    let tokens = Tokens { input: Some(30), output: Some(89) };
    assert_eq!(answer.unwrap(), Answer { parts, finish_reason: FinishReason::ToolCalls, tokens });
    // The call is given as soon as it is whole.
    assert_eq!(stream(&RECORDED[..15]).0.len(), 3);
    assert_eq!(stream(&RECORDED[..14]).0.len(), 2);
}

#[test]
fn the_end_of_a_stream() {
    for length in 0..RECORDED.len() - 2 {
        let broke_off = Broken::Malformed(Malformed("the answer broke off".into()));
        assert_eq!(stream(&RECORDED[..length]).1, Err(broke_off));
    }
    assert!(stream(&RECORDED[..RECORDED.len() - 1]).1.is_ok());
    assert_eq!(stream(&[RECORDED[18], "garbage"]).1.unwrap().finish_reason, FinishReason::Other);
}

#[test]
fn failures_midway() {
    for (kind, why) in [
        ("overloaded_error", Why::Server),
        ("api_error", Why::Server),
        ("rate_limit_error", Why::RateLimited),
        ("invalid_request_error", Why::Request),
        ("unheard_of_error", Why::Server),
    ] {
        let event = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"Overloaded"}}}}"#);
        let refusal = Refusal { why, message: "Overloaded".into() };
        assert_eq!(stream(&[RECORDED[0], &event]).1, Err(Broken::Refused(refusal)));
    }
    for event in [
        "{",
        "{}",
        "[]",
        r#"{"type":"content_block_start","index":-1,"content_block":{"type":"text","text":"a"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":7}}"#,
    ] {
        assert!(matches!(stream(&[event]).1, Err(Broken::Malformed(_))), "{event}");
    }
    let endless: Vec<String> = (0..1_000)
        .map(|_| {
            r#"{"type":"content_block_start","index":4294967295,"content_block":{"type":"tool_use","name":"x"}}"#
                .to_owned()
        })
        .collect();
    let endless: Vec<&str> = endless.iter().map(String::as_str).collect();
    let (pieces, answer) = stream(&endless);
    assert!(pieces.len() < 200 && answer.is_err());
}

#[test]
fn refusals() {
    for (status, kind, message, why) in [
        (529, "overloaded_error", "Overloaded", Why::Server),
        (429, "rate_limit_error", "would exceed: too many tokens", Why::RateLimited),
        (401, "authentication_error", "invalid x-api-key", Why::Key),
        (403, "permission_error", "x", Why::Key),
        (404, "not_found_error", "model: claude-x", Why::NotFound),
        (413, "request_too_large", "x", Why::ContextLength),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", Why::ContextLength),
        (400, "invalid_request_error", "input length and `max_tokens` exceed context limit", Why::ContextLength),
        (400, "invalid_request_error", "Your credit balance is too low to access the API", Why::RateLimited),
        (400, "invalid_request_error", "Output blocked by content filtering policy", Why::Content),
        (400, "invalid_request_error", "messages: at least one", Why::Request),
        (400, "invalid_request_error", "x: Invalid model name passed in model=x. Call `/v1/models`", Why::NotFound),
        (400, "no_db_connection", "No connected db.", Why::Key),
    ] {
        let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
        let refusal = Anthropic.refusal(status, body.to_string().as_bytes());
        assert_eq!(refusal, Refusal { why, message: message.to_owned() });
    }
    assert_eq!(Anthropic.refusal(502, b"<html>").why, Why::Server);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), status: u16) {
        anything(&[&bytes], status);
    }

    #[test]
    fn nothing_panics_that_is_almost_an_answer(
        which in 0..RECORDED.len(),
        at: prop::sample::Index,
        cut in 0..5_usize,
        with in "[\\[\\]{}\",:a0-]{0,4}",
    ) {
        let mut events = RECORDED.map(str::to_owned);
        let from = at.index(events[which].len());
        let to = (from + cut).min(events[which].len());
        events[which].replace_range(from..to, &with);
        anything(&events.each_ref().map(|event| event.as_bytes()), 400);
    }
}

fn anything(events: &[&[u8]], status: u16) {
    let mut decoder = Anthropic.decoder();
    for event in events {
        let _ = Anthropic.decode(event);
        let _ = Anthropic.refusal(status, event);
        let _ = decoder.event("", event, &mut Vec::new());
    }
    let _ = decoder.finish();
}
