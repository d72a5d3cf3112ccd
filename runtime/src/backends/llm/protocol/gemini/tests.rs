#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a failed test should stop there")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Broken, Piece, Tokens, Why};
use super::*;
use crate::host_api::llm::{FinishReason, Request, Tool};

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
}

fn result(call_id: &str, content: &str, is_error: bool) -> Part {
    Part::ToolResult(ToolResult { call_id: call_id.to_owned(), content: content.to_owned(), is_error })
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts }
}

fn tool() -> Tool {
    Tool {
        name: "add".to_owned(),
        description: "Adds.".to_owned(),
        parameters_schema: r#"{"type":"object","properties":{"a":{"type":"number"}}}"#.to_owned(),
    }
}

fn ask(request: &Request, stream: bool) -> Result<Outgoing, Unsupported> {
    Gemini.encode(&Ask { request, model: "gemini-2.5-pro", stream })
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&ask(request, false).unwrap().body).unwrap()
}

#[test]
fn a_request_with_everything() {
    let blob = |media_type: &str| Blob { media_type: media_type.to_owned(), data: vec![0, 1, 255] };
    let request = Request {
        messages: vec![
            Message::text(Role::System, "Be brief."),
            Message::text(Role::User, "Add"),
            message(Role::User, vec![Part::Image(blob("image/png")), Part::Document(blob("application/pdf"))]),
            message(
                Role::Assistant,
                vec![
                    Part::Text("Well.".to_owned()),
                    Part::ToolCall(call("c1", "add", "{\"a\": 1.0}")),
                    Part::ToolCall(call("c2", "now", "")),
                ],
            ),
            message(Role::Tool, vec![result("c1", "2", false)]),
            message(Role::Tool, vec![result("c2", "no clock", true), result("c9", "?", false)]),
            Message::text(Role::System, "And polite."),
        ],
        max_tokens: Some(100),
        temperature: Some(0.2),
        stop: vec!["END".to_owned()],
        tools: vec![tool()],
        ..Request::default()
    };
    let outgoing = ask(&request, false).unwrap();
    assert_eq!(outgoing.path, "/models/gemini-2.5-pro:generateContent");
    assert_eq!(outgoing.framing, Framing::Whole);
    let expected = concat!(
        r#"{"systemInstruction":{"parts":[{"text":"Be brief."},{"text":"And polite."}]},"#,
        r#""contents":[{"role":"user","parts":[{"text":"Add"},"#,
        r#"{"inlineData":{"mimeType":"image/png","data":"AAH/"}},"#,
        r#"{"inlineData":{"mimeType":"application/pdf","data":"AAH/"}}]},"#,
        r#"{"role":"model","parts":[{"text":"Well."},"#,
        r#"{"functionCall":{"id":"c1","name":"add","args":{"a": 1.0}},"#,
        r#""thoughtSignature":"skip_thought_signature_validator"},"#,
        r#"{"functionCall":{"id":"c2","name":"now","args":{}}}]},"#,
        r#"{"role":"user","parts":[{"functionResponse":{"id":"c1","name":"add","response":{"result":"2"}}},"#,
        r#"{"functionResponse":{"id":"c2","name":"now","response":{"error":"no clock"}}},"#,
        r#"{"functionResponse":{"id":"c9","name":"c9","response":{"result":"?"}}}]}],"#,
        r#""tools":[{"functionDeclarations":[{"name":"add","description":"Adds.","#,
        r#""parametersJsonSchema":{"type":"object","properties":{"a":{"type":"number"}}}}]}],"#,
        r#""generationConfig":{"maxOutputTokens":100,"temperature":0.2,"stopSequences":["END"]}}"#,
    );
    assert_eq!(String::from_utf8(outgoing.body).unwrap(), expected);
}

#[test]
fn a_stream_has_an_address_of_its_own() {
    let request = Request { messages: vec![Message::text(Role::User, "Hi")], ..Request::default() };
    let outgoing = Gemini.encode(&Ask { request: &request, model: "models/a/b:c?d", stream: true }).unwrap();
    assert_eq!(outgoing.path, "/models/a%2Fb%3Ac%3Fd:streamGenerateContent?alt=sse");
    assert_eq!(outgoing.framing, Framing::ServerSentEvents);
}

#[test]
fn a_schema_is_given_as_such_or_told_beside_tools() {
    let schema = r#"{"type":"object"}"#;
    let mut request = Request {
        messages: vec![Message::text(Role::User, "Hi")],
        response_schema: Some(schema.to_owned()),
        ..Request::default()
    };
    let config = json!({"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}});
    assert_eq!(body(&request)["generationConfig"], config);
    assert!(body(&request).get("systemInstruction").is_none());
    request.tools.push(tool());
    assert_eq!(body(&request)["generationConfig"], json!({}));
    assert!(body(&request)["systemInstruction"]["parts"][0]["text"].as_str().unwrap().ends_with(schema));
    request.response_schema = Some("{".to_owned());
    assert!(ask(&request, false).is_err());
}

#[test]
fn what_gemini_has_no_words_for() {
    let refused = |parts: Vec<Part>, role| {
        ask(&Request { messages: vec![message(role, parts)], ..Request::default() }, false).unwrap_err().0
    };
    let url = || vec![Part::ImageUrl("https://example.com/a.png".to_owned())];
    assert_eq!(refused(url(), Role::User), "gemini takes images as bytes, not by address");
    assert_eq!(refused(url(), Role::System), "gemini takes only text from the system");
    assert!(refused(vec![Part::Text("Hi".to_owned())], Role::System).contains("not of the system"));
    assert!(refused(vec![Part::Text(String::new())], Role::User).contains("not empty"));
}

#[test]
fn an_id_that_comes_again_is_that_of_the_last_call() {
    let turn = |name: &str| {
        [
            message(Role::Assistant, vec![Part::ToolCall(call("call_0", name, "{}"))]),
            message(Role::Tool, vec![result("call_0", "", false)]),
        ]
    };
    let request = Request { messages: [turn("one"), turn("two")].concat(), ..Request::default() };
    let contents = &body(&request)["contents"];
    assert_eq!(contents[1]["parts"][0]["functionResponse"]["name"], "one");
    assert_eq!(contents[3]["parts"][0]["functionResponse"]["name"], "two");
    for at in [0, 2] {
        assert_eq!(contents[at]["parts"][0]["thoughtSignature"], NO_SIGNATURE);
    }
}

#[test]
fn a_whole_answer() {
    let answer = Gemini.decode(
        br#"{
          "candidates": [
            {
              "content": {
                "parts": [
                  {"text": "**Thinking**\n", "thought": true},
                  {"text": "Let me "},
                  {"text": "see.", "thoughtSignature": "Cg0BVKhc7g=="},
                  {"executableCode": {"language": "PYTHON", "code": "1"}},
                  {"functionCall": {"name": "add", "args": {"a": 1.50,  "b": [1]}}, "thoughtSignature": "CiQ="},
                  {"functionCall": {"id": "fc-7", "name": "now"}}
                ],
                "role": "model"
              },
              "finishReason": "STOP",
              "index": 0,
              "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}],
              "avgLogprobs": -0.011
            },
            {"content": "another candidate is not read"}
          ],
          "usageMetadata": {
            "promptTokenCount": 50, "candidatesTokenCount": 20, "totalTokenCount": 108,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 50}],
            "thoughtsTokenCount": 30, "toolUsePromptTokenCount": 8, "cachedContentTokenCount": 10
          },
          "modelVersion": "gemini-2.5-pro",
          "responseId": "mXl4aPbDGcGpmtkP"
        }"#,
    );
    let answer = answer.unwrap();
    assert_eq!(
        answer.parts,
        [
            Part::Text("Let me see.".to_owned()),
            Part::ToolCall(call("call_1", "add", r#"{"a": 1.50,  "b": [1]}"#)),
            Part::ToolCall(call("fc-7", "now", "{}")),
        ]
    );
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    assert_eq!(answer.tokens, Tokens { input: Some(58), output: Some(50) });
}

#[test]
fn why_it_stopped() {
    let reason = |json: &str| {
        let text = format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"x\"}}]}}{json}}}]}}");
        Gemini.decode(text.as_bytes()).unwrap().finish_reason
    };
    for (said, expected) in [
        ("STOP", FinishReason::Stop),
        ("MAX_TOKENS", FinishReason::Length),
        ("SAFETY", FinishReason::ContentFilter),
        ("RECITATION", FinishReason::ContentFilter),
        ("SPII", FinishReason::ContentFilter),
        ("MALFORMED_FUNCTION_CALL", FinishReason::Other),
        ("SOMETHING_NEW", FinishReason::Other),
    ] {
        assert_eq!(reason(&format!(",\"finishReason\":\"{said}\"")), expected, "{said}");
    }
    assert_eq!(reason(""), FinishReason::Other);
    let cut = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"a"}}]},"finishReason":"MAX_TOKENS"}]}"#;
    assert_eq!(Gemini.decode(cut.as_bytes()).unwrap().finish_reason, FinishReason::Length);
}

#[test]
fn a_blocked_request_has_an_empty_answer() {
    let blocked = br#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":9}}"#;
    let expected = Answer {
        parts: vec![],
        finish_reason: FinishReason::ContentFilter,
        tokens: Tokens { input: Some(9), output: None },
    };
    assert_eq!(Gemini.decode(blocked).unwrap(), expected);
    let mut decoder = Gemini.decoder();
    decoder.event("", blocked, &mut Vec::new()).unwrap();
    assert_eq!(decoder.finish().unwrap(), expected);
    // A candidate that was cut before its first word has no content.
    let cut = br#"{"candidates":[{"finishReason":"SAFETY","index":0}]}"#;
    assert_eq!(Gemini.decode(cut).unwrap().finish_reason, FinishReason::ContentFilter);
}

fn stream(events: &[&str]) -> (Vec<Piece>, Result<Answer, Malformed>) {
    let mut decoder = Gemini.decoder();
    let mut pieces = Vec::new();
    for event in events {
        decoder.event("", event.as_bytes(), &mut pieces).unwrap();
    }
    (pieces, decoder.finish())
}

#[test]
fn a_stream_event_by_event() {
    let events = [
        r#"{"candidates":[{"content":{"parts":[{"text":"Hmm","thought":true}],"role":"model"},"index":0}],
            "usageMetadata":{"promptTokenCount":4,"totalTokenCount":9,"thoughtsTokenCount":5}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"Hel"}],"role":"model"},"index":0}],
            "usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":1,"thoughtsTokenCount":5}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"lo"},{"functionCall":{"name":"add","args":{"a":1}}}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],
            "usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":7,"thoughtsTokenCount":5},"responseId":"x"}"#,
        r#"{"usageMetadata":{}}"#,
    ];
    let (pieces, answer) = stream(&events);
    let add = call("call_1", "add", "{\"a\":1}");
    assert_eq!(pieces, [Piece::Text("Hel".to_owned()), Piece::Text("lo".to_owned()), Piece::ToolCall(add.clone())]);
    assert_eq!(
        answer.unwrap(),
        Answer {
            parts: vec![Part::Text("Hello".to_owned()), Part::ToolCall(add)],
            finish_reason: FinishReason::ToolCalls,
            tokens: Tokens { input: Some(4), output: Some(12) },
        }
    );
    for end in 0..3 {
        assert_eq!(stream(&events[..end]).1.unwrap_err().0, "the answer broke off");
    }
}

#[test]
fn a_failure_in_the_middle_is_a_refusal() {
    let refused = |event: &str| match Gemini.decoder().event("", event.as_bytes(), &mut Vec::new()) {
        Err(Broken::Refused(refusal)) => refusal.why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(r#"{"error":{"code":503,"message":"Overloaded.","status":"UNAVAILABLE"}}"#), Why::Server);
    assert_eq!(refused(r#"{"error":{"code":429}}"#), Why::RateLimited);
    assert_eq!(refused(r#"{"error":{"code":-1}}"#), Why::Server);
}

#[test]
fn numbers_that_make_no_sense_are_none() {
    for usage in [
        r#"{"promptTokenCount":-5,"candidatesTokenCount":18446744073709551615}"#,
        r#"{"promptTokenCount":"5","candidatesTokenCount":[1]}"#,
        r#"{"promptTokenCount":1e400}"#,
        "\"many\"",
        "null",
        "[[[]]]",
    ] {
        let text = format!("{{\"candidates\":[{{\"finishReason\":\"STOP\"}}],\"usageMetadata\":{usage}}}");
        assert_eq!(Gemini.decode(text.as_bytes()).unwrap().tokens, Tokens::default(), "{usage}");
    }
}

#[test]
fn hostile_answers_are_malformed() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let calls = r#"{"functionCall":{"name":"a"}},"#.repeat(100_000);
    for text in [
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "{\"candidates\":[]}".to_owned(),
        "{\"candidates\":7}".to_owned(),
        "{\"candidates\":[7]}".to_owned(),
        "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":5}]}}]}".to_owned(),
        "{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"args\":{}}}]}}]}".to_owned(),
        deep(100_000),
        format!("{{\"candidates\":[{{\"content\":{}}}]}}", deep(100_000)),
        format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{calls}{{}}]}},\"finishReason\":\"STOP\"}}]}}"),
    ] {
        assert!(Gemini.decode(text.as_bytes()).is_err(), "{}", text.chars().take(80).collect::<String>());
    }
    // Where nothing is read, depth does not matter; nor do parts without anything in them.
    let text = format!(
        "{{\"x\":{},\"candidates\":[{{\"content\":{{\"parts\":[{}{{\"text\":\"a\"}}]}},\"finishReason\":\"STOP\"}}]}}",
        deep(100_000),
        "{},".repeat(100_000)
    );
    assert_eq!(Gemini.decode(text.as_bytes()).unwrap().parts, [Part::Text("a".to_owned())]);
}

#[test]
fn why_a_request_was_refused() {
    let why = |status: u16, body: &str| Gemini.refusal(status, body.as_bytes()).why;
    let failed = |status: &str, message: &str| {
        format!(r#"{{"error":{{"code":400,"message":"{message}","status":"{status}","details":[{{"@type":"x"}}]}}}}"#)
    };
    let too_long = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).";
    assert_eq!(why(400, &failed("INVALID_ARGUMENT", too_long)), Why::ContextLength);
    assert_eq!(why(400, &failed("INVALID_ARGUMENT", "Invalid value at 'contents'")), Why::Request);
    let no_key = "API key not valid. Please pass a valid API key.";
    assert_eq!(why(400, &failed("INVALID_ARGUMENT", no_key)), Why::Key);
    for (status, expected) in [
        ("RESOURCE_EXHAUSTED", Why::RateLimited),
        ("PERMISSION_DENIED", Why::Key),
        ("UNAUTHENTICATED", Why::Key),
        ("FAILED_PRECONDITION", Why::Key),
        ("NOT_FOUND", Why::NotFound),
        ("UNAVAILABLE", Why::Server),
        ("INTERNAL", Why::Server),
        ("DEADLINE_EXCEEDED", Why::Server),
    ] {
        assert_eq!(why(400, &failed(status, "?")), expected, "{status}");
        assert_eq!(why(400, &format!(" [{}\n, 5]", failed(status, "?"))), expected, "{status}");
    }
    assert_eq!(why(400, r#"{"error":{"message":"No connected db.","code":"400"}}"#), Why::Key);
    assert_eq!(why(400, r#"{"error":{"message":"Invalid model name passed in model=x","code":"400"}}"#), Why::NotFound);
    assert_eq!(why(503, "<html>"), Why::Server);
    assert_eq!(why(429, "{\"error\":null}"), Why::RateLimited);
    assert_eq!(why(404, "[]"), Why::NotFound);
    let refusal = Gemini.refusal(400, failed("INVALID_ARGUMENT", &"é".repeat(2000)).as_bytes());
    assert_eq!(refusal.message, "é".repeat(500));
}

#[test]
fn vectors_come_in_batches() {
    let inputs: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let outgoing = Gemini.encode_embedding("gemini-embedding-001", &inputs).unwrap();
    assert_eq!(outgoing.len(), 2);
    assert_eq!(outgoing[1].path, "/models/gemini-embedding-001:batchEmbedContents");
    assert_eq!(
        String::from_utf8(outgoing[1].body.clone()).unwrap(),
        r#"{"requests":[{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"100"}]}}]}"#
    );
    let answer = br#"{"embeddings":[{"values":[0.25,-1]},{"values":[1e-3,2]}],"x":1}"#;
    let expected = Vectors { vectors: vec![vec![0.25, -1.0], vec![0.001, 2.0]], input_tokens: None };
    assert_eq!(Gemini.decode_embedding(answer).unwrap(), expected);
    for wrong in ["{}", "{\"embeddings\":[{}]}", "{\"embeddings\":[{\"values\":[1e300]}]}", "{\"embeddings\":null}"] {
        assert!(Gemini.decode_embedding(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in "[\\[\\]{}:,\"a-z0-9-]{0,60}",
    ) {
        let inner = format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{text}]}}}}],\"usageMetadata\":{text}}}");
        for bytes in [&bytes[..], text.as_bytes(), inner.as_bytes()] {
            drop(Gemini.decode(bytes));
            drop(Gemini.decode_embedding(bytes));
            drop(Gemini.refusal(400, bytes));
            let mut decoder = Gemini.decoder();
            let _ = decoder.event("", bytes, &mut Vec::new());
            drop(decoder.finish());
        }
    }
}
