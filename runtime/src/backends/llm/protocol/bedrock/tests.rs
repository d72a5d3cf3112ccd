#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a failed test should stop there")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Broken, Piece, Tokens, Why};
use super::*;
use crate::host_api::llm::{FinishReason, ToolCall, ToolResult};

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
}

fn result(call_id: &str, content: &str, is_error: bool) -> Part {
    Part::ToolResult(ToolResult { call_id: call_id.to_owned(), content: content.to_owned(), is_error })
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts }
}

fn tool(name: &str) -> Tool {
    Tool { name: name.to_owned(), description: String::new(), parameters_schema: r#"{"type":"object"}"#.to_owned() }
}

fn ask(request: &Request, stream: bool) -> Result<Outgoing, Unsupported> {
    Bedrock.encode(&Ask { request, model: "eu.amazon.nova-v1:0", stream })
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&ask(request, false).unwrap().body).unwrap()
}

fn blob(media_type: &str) -> Blob {
    Blob { media_type: media_type.to_owned(), data: vec![0, 1, 255] }
}

#[test]
fn a_request_with_everything() {
    let request = Request {
        messages: vec![
            Message::text(Role::System, "Be brief."),
            Message::text(Role::User, "Add"),
            message(
                Role::User,
                vec![
                    Part::Image(blob("image/jpg")),
                    Part::Document(blob("application/pdf")),
                    Part::Document(blob("text/markdown; charset=utf-8")),
                    Part::Text(" \n".to_owned()),
                ],
            ),
            message(
                Role::Assistant,
                vec![Part::ToolCall(call("c1", "add", "{\"a\": 1.0}")), Part::ToolCall(call("c2", "now", ""))],
            ),
            message(Role::Tool, vec![result("c1", "2", false)]),
            message(Role::Tool, vec![result("c2", "", true)]),
        ],
        max_tokens: Some(100),
        temperature: Some(0.2),
        stop: vec!["END".to_owned()],
        tools: vec![Tool { description: "Adds.".to_owned(), ..tool("add") }, tool("now")],
        ..Request::default()
    };
    let outgoing = ask(&request, true).unwrap();
    assert_eq!(outgoing.path, "/model/eu.amazon.nova-v1%3A0/converse-stream");
    assert_eq!(outgoing.framing, Framing::AwsEvents);
    let expected = concat!(
        r#"{"system":[{"text":"Be brief."}],"messages":[{"role":"user","content":[{"text":"Add"},"#,
        r#"{"image":{"format":"jpeg","source":{"bytes":"AAH/"}}},"#,
        r#"{"document":{"format":"pdf","name":"document-1","source":{"bytes":"AAH/"}}},"#,
        r#"{"document":{"format":"md","name":"document-2","source":{"bytes":"AAH/"}}}]},"#,
        r#"{"role":"assistant","content":[{"toolUse":{"toolUseId":"c1","name":"add","input":{"a": 1.0}}},"#,
        r#"{"toolUse":{"toolUseId":"c2","name":"now","input":{}}}]},"#,
        r#"{"role":"user","content":[{"toolResult":{"toolUseId":"c1","content":[{"text":"2"}]}},"#,
        r#"{"toolResult":{"toolUseId":"c2","content":[{"text":"(nothing)"}],"status":"error"}}]}],"#,
        r#""inferenceConfig":{"maxTokens":100,"temperature":0.2,"stopSequences":["END"]},"#,
        r#""toolConfig":{"tools":[{"toolSpec":{"name":"add","description":"Adds.","#,
        r#""inputSchema":{"json":{"type":"object"}}}},"#,
        r#"{"toolSpec":{"name":"now","inputSchema":{"json":{"type":"object"}}}}]}}"#,
    );
    assert_eq!(String::from_utf8(outgoing.body).unwrap(), expected);
}

#[test]
fn a_model_is_one_segment() {
    let request = Request { messages: vec![Message::text(Role::User, "Hi")], ..Request::default() };
    let asked = |model| Bedrock.encode(&Ask { request: &request, model, stream: false });
    let outgoing = asked("arn:aws:bedrock:eu-central-1:1:inference-profile/x.y-v1:0").unwrap();
    let path = "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Fx.y-v1%3A0/converse";
    assert_eq!((outgoing.path.as_str(), outgoing.framing), (path, Framing::Whole));
    assert_eq!(
        String::from_utf8(outgoing.body).unwrap(),
        r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}],"inferenceConfig":{}}"#
    );
    for model in ["", ".", ".."] {
        assert!(asked(model).is_err());
    }
}

#[test]
fn an_answer_to_a_schema_is_a_tool_or_asked_for_in_words() {
    let request = |schema: &str, tools: Vec<Tool>| Request {
        messages: vec![Message::text(Role::User, "Hi")],
        response_schema: Some(schema.to_owned()),
        tools,
        ..Request::default()
    };
    let object = "{\"type\":\"object\",\"required\":[\"a\"]}";
    let forced = body(&request(object, vec![]));
    let expected = json!({
        "tools": [{"toolSpec": {
            "name": "holm_answer",
            "description": "Give the answer with this.",
            "inputSchema": {"json": {"type": "object", "required": ["a"]}},
        }}],
        "toolChoice": {"any": {}},
    });
    assert_eq!(forced["toolConfig"], expected);
    assert!(forced.get("system").is_none());

    let claude = Ask { request: &request(object, vec![]), model: "anthropic.claude-v1:0", stream: false };
    let told: Value = serde_json::from_slice(&Bedrock.encode(&claude).unwrap().body).unwrap();
    assert!(told.get("toolConfig").is_none() && told["system"][0]["text"].as_str().unwrap().ends_with(object));

    let beside = body(&request(object, vec![tool("add")]));
    assert!(beside["system"][0]["text"].as_str().unwrap().ends_with(object));
    assert_eq!(beside["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    assert!(beside["toolConfig"].get("toolChoice").is_none());

    for other in ["{\"type\":\"array\"}", "{\"type\":[\"object\",\"null\"]}", "{}", "true"] {
        let body = body(&request(other, vec![]));
        assert!(body["system"][0]["text"].as_str().unwrap().ends_with(other));
        assert!(body.get("toolConfig").is_none());
    }
    assert!(ask(&request("{", vec![]), false).is_err());
    let reserved = ask(&request(object, vec![tool(ANSWER_TOOL)]), false).unwrap_err();
    assert_eq!(reserved.0, "a tool cannot be called `holm_answer` at bedrock");
}

#[test]
fn temperatures_end_at_one() {
    let messages = vec![Message::text(Role::User, "Hi")];
    let request = Request { messages, temperature: Some(1.5), ..Request::default() };
    assert_eq!(body(&request)["inferenceConfig"], json!({"temperature": 1.0}));
}

#[test]
fn calls_of_before_have_their_tools_declared() {
    let request = Request {
        messages: vec![
            message(Role::Assistant, vec![Part::ToolCall(call("1", "b", "{}")), Part::ToolCall(call("2", "a", "{}"))]),
            message(Role::Assistant, vec![Part::ToolCall(call("3", "b", "{}"))]),
        ],
        ..Request::default()
    };
    let tools = body(&request)["toolConfig"]["tools"].clone();
    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["toolSpec"]["name"].clone()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn what_bedrock_has_no_words_for() {
    let refused = |part: Part, role| {
        ask(&Request { messages: vec![message(role, vec![part])], ..Request::default() }, false).unwrap_err().0
    };
    let url = Part::ImageUrl("https://example.com/a.png".to_owned());
    assert_eq!(refused(url.clone(), Role::User), "bedrock takes images as bytes, not by address");
    assert_eq!(refused(url, Role::System), "bedrock takes only text from the system");
    assert!(refused(Part::Image(blob("image/tiff")), Role::User).contains("WebP"));
    assert!(refused(Part::Document(blob("application/zip")), Role::User).contains("PDF"));
}

const WHOLE: &str = r#"{
  "metrics": {"latencyMs": 1275},
  "output": {"message": {"content": [
    {"reasoningContent": {"reasoningText": {"text": "Hmm", "signature": "x"}}},
    {"text": "Let me see."},
    {"toolUse": {"input": {"a": 1.50,  "b": [1]}, "name": "add", "toolUseId": "tooluse_kZJM"}},
    {"toolUse": {"input": {}, "name": "now", "toolUseId": "tooluse_2"}},
    {"text": "So."}
  ], "role": "assistant"}},
  "stopReason": "tool_use",
  "usage": {"inputTokens": 125, "outputTokens": 60, "totalTokens": 185,
            "cacheReadInputTokens": 1000, "cacheWriteInputTokens": 7, "serverToolUsage": {}}
}"#;

#[test]
fn a_whole_answer() {
    let answer = Bedrock.decode(WHOLE.as_bytes()).unwrap();
    assert_eq!(
        answer.parts,
        [
            Part::Text("Let me see.".to_owned()),
            Part::ToolCall(call("tooluse_kZJM", "add", r#"{"a": 1.50,  "b": [1]}"#)),
            Part::ToolCall(call("tooluse_2", "now", "{}")),
            Part::Text("So.".to_owned()),
        ]
    );
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    assert_eq!(answer.tokens, Tokens { input: Some(1132), output: Some(60) });
}

#[test]
fn the_answer_tool_is_the_answer() {
    let text = r#"{"output":{"message":{"content":[
        {"toolUse":{"toolUseId":"t","name":"holm_answer","input":{"a": 1}}}]}},"stopReason":"tool_use"}"#;
    let answer = Bedrock.decode(text.as_bytes()).unwrap();
    assert_eq!(answer.parts, [Part::Text("{\"a\": 1}".to_owned())]);
    assert_eq!(answer.finish_reason, FinishReason::Stop);
}

#[test]
fn why_it_stopped() {
    for (said, expected) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("guardrail_intervened", FinishReason::ContentFilter),
        ("content_filtered", FinishReason::ContentFilter),
        ("malformed_tool_use", FinishReason::Other),
    ] {
        let text = format!("{{\"output\":{{\"message\":{{\"content\":[]}}}},\"stopReason\":\"{said}\"}}");
        assert_eq!(Bedrock.decode(text.as_bytes()).unwrap().finish_reason, expected, "{said}");
    }
}

/// What came piece by piece, and the answer.
fn stream(events: &[(&str, &str)]) -> (Vec<Piece>, Result<Answer, Malformed>) {
    let mut decoder = Bedrock.decoder();
    let mut pieces = Vec::new();
    for (name, data) in events {
        if let Err(Broken::Malformed(malformed)) = decoder.event(name, data.as_bytes(), &mut pieces) {
            return (pieces, Err(malformed));
        }
    }
    (pieces, decoder.finish())
}

const STREAM: [(&str, &str); 12] = [
    ("messageStart", r#"{"p":"abcdefgh","role":"assistant"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"reasoningContent":{"text":"Hmm"}},"p":"abc"}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":0,"p":"ab"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"Hel"},"p":"abcdefghijk"}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":1,"delta":{"text":"lo"}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":1}"#),
    ("contentBlockStart", r#"{"contentBlockIndex":2,"start":{"toolUse":{"name":"add","toolUseId":"t1"}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":"{\"a\""}}}"#),
    ("contentBlockDelta", r#"{"contentBlockIndex":2,"delta":{"toolUse":{"input":": 1}"}}}"#),
    ("contentBlockStop", r#"{"contentBlockIndex":2}"#),
    ("messageStop", r#"{"p":"abcd","stopReason":"tool_use"}"#),
    ("metadata", r#"{"metrics":{"latencyMs":1},"usage":{"inputTokens":9,"outputTokens":12,"totalTokens":21},"p":"a"}"#),
];

#[test]
fn a_stream_event_by_event() {
    let (pieces, answer) = stream(&STREAM);
    let add = call("t1", "add", "{\"a\": 1}");
    assert_eq!(pieces, [Piece::Text("Hel".to_owned()), Piece::Text("lo".to_owned()), Piece::ToolCall(add.clone())]);
    let expected = Answer {
        parts: vec![Part::Text("Hello".to_owned()), Part::ToolCall(add)],
        finish_reason: FinishReason::ToolCalls,
        tokens: Tokens { input: Some(9), output: Some(12) },
    };
    assert_eq!(answer.unwrap(), expected);
    for end in 0..10 {
        assert_eq!(stream(&STREAM[..end]).1.unwrap_err().0, "the answer broke off");
    }
    assert_eq!(stream(&STREAM[..11]).1.unwrap().tokens, Tokens::default());
}

#[test]
fn the_answer_tool_is_the_answer_in_a_stream() {
    let start = r#"{"contentBlockIndex":4294967295,"start":{"toolUse":{"name":"holm_answer","toolUseId":"t1"}}}"#;
    let stop = ("contentBlockStop", r#"{"contentBlockIndex":4294967295}"#);
    let delta = r#"{"contentBlockIndex":4294967295,"delta":{"toolUse":{"input":"{\"a\":1}"}}}"#;
    let end = ("messageStop", r#"{"stopReason":"tool_use"}"#);
    let (pieces, answer) = stream(&[("contentBlockStart", start), ("contentBlockDelta", delta), stop, end]);
    assert_eq!(pieces, [Piece::Text("{\"a\":1}".to_owned())]);
    let answer = answer.unwrap();
    assert_eq!(answer.parts, [Part::Text("{\"a\":1}".to_owned())]);
    assert_eq!(answer.finish_reason, FinishReason::Stop);

    let (pieces, _) = stream(&[("contentBlockStart", start), stop, end]);
    assert_eq!(pieces, [Piece::Text("{}".to_owned())]);
}

#[test]
fn exceptions_in_the_middle_are_refusals() {
    let refused = |name: &str, data: &str| match Bedrock.decoder().event(name, data.as_bytes(), &mut Vec::new()) {
        Err(Broken::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let message = r#"{"message":"The system encountered an unexpected error.","originalStatusCode":500}"#;
    for (name, why) in [
        ("throttlingException", Why::RateLimited),
        ("ThrottlingException", Why::RateLimited),
        ("modelStreamErrorException", Why::Server),
        ("internalServerException", Why::Server),
        ("serviceUnavailableException", Why::Server),
        ("modelTimeoutException", Why::Server),
        ("validationException", Why::Request),
    ] {
        assert_eq!(refused(name, message).why, why, "{name}");
    }
    assert_eq!(refused("internalServerException", message).message, "The system encountered an unexpected error.");
    let too_long = r#"{"message":"Input is too long for requested model."}"#;
    assert_eq!(refused("validationException", too_long).why, Why::ContextLength);
    assert_eq!(refused("validationException", "").message, "");
    // Of an event that we do not know there is nothing to say.
    assert!(Bedrock.decoder().event("somethingNew", b"?", &mut Vec::new()).is_ok());
}

#[test]
fn hostile_answers_are_malformed() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let whole = |content: &str| format!("{{\"output\":{{\"message\":{{\"content\":{content}}}}}}}");
    let calls = r#"{"toolUse":{"name":"a"}},"#.repeat(100_000);
    for text in [
        String::new(),
        "{}".to_owned(),
        "{\"output\":{}}".to_owned(),
        whole("7"),
        whole("[7]"),
        whole("[{\"text\":{}}]"),
        whole("[{\"toolUse\":{}}]"),
        whole(&deep(100_000)),
        whole(&format!("[{calls}{{}}]")),
        deep(100_000),
    ] {
        assert!(Bedrock.decode(text.as_bytes()).is_err(), "{}", text.chars().take(80).collect::<String>());
    }
    let sparse = whole(&format!("[{}{{\"text\":\"a\",\"x\":{}}}]", "{},".repeat(100_000), deep(100_000)));
    assert_eq!(Bedrock.decode(sparse.as_bytes()).unwrap().parts, [Part::Text("a".to_owned())]);
    for usage in [r#"{"inputTokens":-5,"outputTokens":18446744073709551615}"#, "[[]]", "\"x\"", "{\"inputTokens\":{}}"]
    {
        let text = format!("{{\"output\":{{\"message\":{{}}}},\"usage\":{usage}}}");
        assert_eq!(Bedrock.decode(text.as_bytes()).unwrap().tokens, Tokens::default(), "{usage}");
    }
}

#[test]
fn hostile_streams_are_malformed() {
    let end = ("messageStop", r#"{"stopReason":"tool_use"}"#);
    let failed =
        |event: (&str, &str)| stream(&[event, ("contentBlockStop", "{\"contentBlockIndex\":4294967295}"), end]).1;
    for event in [
        ("contentBlockDelta", r#"{"contentBlockIndex":4294967295,"delta":{"toolUse":{"input":"{}"}}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":3,"delta":{"toolUse":{"input":"{}"}}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":-1,"delta":{"text":"x"}}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":5}}"#),
        ("contentBlockStart", r#"{"contentBlockIndex":0,"start":{"toolUse":{"toolUseId":"x"}}}"#),
        ("contentBlockStart", "[[[["),
        ("messageStop", ""),
    ] {
        assert!(failed(event).is_err(), "{event:?}");
    }
    let mut decoder = Bedrock.decoder();
    let start = |index: u64| format!("{{\"contentBlockIndex\":{index},\"start\":{{\"toolUse\":{{\"name\":\"a\"}}}}}}");
    let mut begin = |index| decoder.event("contentBlockStart", start(index).as_bytes(), &mut Vec::new());
    assert!((0..128).all(|index| begin(u64::MAX - index).is_ok()));
    assert!(begin(0).is_err());
}

#[test]
fn why_a_request_was_refused() {
    let why = |status: u16, message: &str| {
        let bodies = [format!("{{\"message\":\"{message}\"}}"), format!("{{\"Message\":\"{message}\",\"x\":[1]}}")];
        let [one, other] = bodies.map(|body| Bedrock.refusal(status, body.as_bytes()));
        assert_eq!(one, other);
        assert_eq!(one.message, message);
        one.why
    };
    assert_eq!(why(429, "Too many tokens, please wait before trying again."), Why::RateLimited);
    assert_eq!(why(400, "Input is too long for requested model."), Why::ContextLength);
    assert_eq!(why(400, "prompt is too long: 210000 tokens > 200000 maximum"), Why::ContextLength);
    assert_eq!(why(400, "Too many input tokens. Max input tokens: 8192"), Why::ContextLength);
    assert_eq!(why(400, "The provided model identifier is invalid."), Why::NotFound);
    assert_eq!(why(400, "messages.0: all content must be non-empty"), Why::Request);
    assert_eq!(why(403, "You don't have access to the model with the specified model ID."), Why::Key);
    assert_eq!(why(404, "Could not resolve the foundation model"), Why::NotFound);
    for status in [408, 424, 500, 503] {
        assert_eq!(why(status, "?"), Why::Server, "{status}");
    }
    assert_eq!(Bedrock.refusal(502, b"<html>").message, "");
    let long = format!("{{\"message\":\"{}\"}}", "é".repeat(2000));
    assert_eq!(Bedrock.refusal(400, long.as_bytes()).message, "é".repeat(500));
}

#[test]
fn vectors_by_model() {
    let inputs: Vec<String> = (0..97).map(|number| number.to_string()).collect();
    for model in ["cohere.embed-v4:0", "us.cohere.embed-v4:0", "arn:aws:bedrock:x::foundation-model/cohere.embed-v4:0"]
    {
        let outgoing = Bedrock.encode_embedding(model, &inputs).unwrap();
        assert_eq!(outgoing.len(), 2);
        assert!(outgoing[1].path.ends_with("cohere.embed-v4%3A0/invoke"));
        assert_eq!(outgoing[1].body, br#"{"texts":["96"],"input_type":"search_document"}"#);
    }
    let titan = |inputs| Bedrock.encode_embedding("amazon.titan-embed-text-v2:0", inputs);
    let outgoing = titan(&inputs[..64]).unwrap();
    assert_eq!(outgoing.len(), 64);
    assert_eq!(outgoing[63].body, br#"{"inputText":"63"}"#);
    assert!(titan(&inputs[..65]).is_err());
    for model in ["anthropic.claude", "x.y.cohere.embed", "..", ""] {
        assert!(Bedrock.encode_embedding(model, &inputs).is_err(), "{model}");
    }
}

#[test]
fn vectors_are_read_whoever_made_them() {
    let read = |text: &str| Bedrock.decode_embedding(text.as_bytes());
    let two = || vec![vec![0.25, -1.0], vec![0.001, 2.0]];
    let plain = r#"{"embeddings":[[0.25,-1],[1e-3,2]],"id":"x","response_type":"embeddings_floats","texts":["a","b"]}"#;
    assert_eq!(read(plain).unwrap(), Vectors { vectors: two(), input_tokens: None });
    let by_type = r#"{"embeddings":{"int8":[[1]],"float":[[0.25,-1],[1e-3,2]]},"response_type":"embeddings_by_type"}"#;
    assert_eq!(read(by_type).unwrap().vectors, two());
    let titan = r#"{"embedding":[0.25,-1],"embeddingsByType":{"float":[0.25,-1]},"inputTextTokenCount":5}"#;
    assert_eq!(read(titan).unwrap(), Vectors { vectors: vec![vec![0.25, -1.0]], input_tokens: Some(5) });
    for wrong in
        ["{}", "{\"embeddings\":7}", "{\"embedding\":[]}", "{\"embedding\":[1e300]}", "{\"embedding\":[\"x\"]}"]
    {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in "[\\[\\]{}:,\"a-z0-9-]{0,60}",
        order in proptest::collection::vec(0..STREAM.len(), 0..30),
    ) {
        let inner = format!("{{\"output\":{{\"message\":{{\"content\":[{text}]}}}},\"usage\":{text}}}");
        for bytes in [&bytes[..], text.as_bytes(), inner.as_bytes()] {
            drop(Bedrock.decode(bytes));
            drop(Bedrock.decode_embedding(bytes));
            drop(Bedrock.refusal(400, bytes));
            for (name, _) in STREAM {
                let mut decoder = Bedrock.decoder();
                let _ = decoder.event(name, bytes, &mut Vec::new());
                drop(decoder.finish());
            }
        }
        drop(stream(&order.into_iter().map(|at| STREAM[at]).collect::<Vec<_>>()));
    }
}
