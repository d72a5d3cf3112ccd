#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a failed test should stop there")]

use std::time::Duration;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const FRAME_BYTES_MAX: usize = 4096;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::digest([&block.map(|byte| byte ^ 0x36)[..], text].concat());
    Sha256::digest([&block.map(|byte| byte ^ 0x5c)[..], &inner[..]].concat()).to_vec()
}

/// 2025-03-01, 12:34:56.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_740_832_496)
}

/// The signature as AWS's description has it, step by step, with the path as it must be signed.
fn expected(path: &str, host: &str, token: Option<&str>, body: &[u8]) -> String {
    let (token_line, token_name) = match token {
        Some(token) => (format!("x-amz-security-token:{token}\n"), ";x-amz-security-token"),
        None => (String::new(), ""),
    };
    let signed = format!("host;x-amz-date{token_name}");
    let canonical = format!(
        "POST\n{path}\n\nhost:{host}\nx-amz-date:20250301T123456Z\n{token_line}\n{signed}\n{}",
        hex(&Sha256::digest(body))
    );
    let scope = "20250301/eu-central-1/bedrock/aws4_request";
    let to_sign = format!("AWS4-HMAC-SHA256\n20250301T123456Z\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    let signature = hex(&hmac(&key, to_sign.as_bytes()));
    format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={signed}, Signature={signature}")
}

fn signed(url: &str, token: Option<&str>, body: &[u8]) -> Vec<(&'static str, String)> {
    let signer = Signer {
        region: "eu-central-1",
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: SECRET,
        session_token: token,
    };
    sign(signer, &Url::parse(url).unwrap(), body, now()).unwrap()
}

fn header<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[test]
fn hmac_here_is_hmac() {
    // RFC 4231, test case 2.
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hex(&hmac(b"Jefe", b"what do ya want for nothing?")), expected);
}

#[test]
fn a_request_is_signed_as_aws_says() {
    let url = "https://bedrock-runtime.eu-central-1.amazonaws.com/model/amazon.nova-lite-v1/converse";
    let host = "bedrock-runtime.eu-central-1.amazonaws.com";
    let headers = signed(url, None, b"{}");
    assert_eq!(header(&headers, "x-amz-date"), Some("20250301T123456Z"));
    let authorization = expected("/model/amazon.nova-lite-v1/converse", host, None, b"{}");
    assert_eq!(header(&headers, "authorization"), Some(authorization.as_str()));
    assert_eq!(headers.len(), 2);
    assert!(!headers.iter().any(|(_, value)| value.contains(SECRET)));
}

#[test]
fn colons_and_slashes_of_a_model_are_signed_twice_encoded() {
    let host = "bedrock-runtime.eu-central-1.amazonaws.com";
    let url = format!("https://{host}/model/arn%3Aaws%3Abedrock%3Ax%2Feu.anthropic.claude-v1%3A0/converse-stream");
    let headers = signed(&url, Some("token+/="), b"{\"a\":1}");
    let path = "/model/arn%253Aaws%253Abedrock%253Ax%252Feu.anthropic.claude-v1%253A0/converse-stream";
    let authorization = expected(path, host, Some("token+/="), b"{\"a\":1}");
    assert_eq!(header(&headers, "authorization"), Some(authorization.as_str()));
    assert_eq!(header(&headers, "x-amz-security-token"), Some("token+/="));
}

#[test]
fn a_port_of_its_own_is_signed() {
    let headers = signed("http://127.0.0.1:8123/model/m/converse", None, b"");
    let authorization = expected("/model/m/converse", "127.0.0.1:8123", None, b"");
    assert_eq!(header(&headers, "authorization"), Some(authorization.as_str()));
}

#[test]
fn credentials_that_no_header_takes_are_refused_without_a_word_of_them() {
    let signer = Signer {
        region: "eu-central-1",
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: SECRET,
        session_token: Some("line\nend"),
    };
    let url = Url::parse("https://example.com/model/m/converse").unwrap();
    let Err(WireError::Request(why)) = sign(signer, &url, b"", now()) else { panic!("it was signed") };
    assert!(!why.contains("line"));
}

fn frame(headers: &[(&'static str, &'static str)], payload: &'static [u8]) -> Vec<u8> {
    let headers = headers.iter().map(|(name, value)| Header::new(*name, HeaderValue::String((*value).into())));
    let mut bytes = Vec::new();
    write_message_to(&Message::new_from_parts(headers.collect(), payload), &mut bytes).unwrap();
    bytes
}

fn event_frame(name: &'static str, payload: &'static [u8]) -> Vec<u8> {
    let headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, payload)
}

fn frames_of(bytes: &[u8]) -> AwsFrames {
    let mut frames = AwsFrames::new(FRAME_BYTES_MAX);
    frames.push(bytes);
    frames
}

#[test]
fn events_come_out_however_the_bytes_come_in() {
    let mut bytes = event_frame("messageStart", b"{\"role\":\"assistant\"}");
    bytes.extend(event_frame("contentBlockStop", b""));
    bytes.extend(frame(
        &[(":exception-type", "throttlingException"), (":message-type", "exception")],
        b"{\"message\":\"slow down\"}",
    ));
    let expected = [
        ("messageStart", &b"{\"role\":\"assistant\"}"[..]),
        ("contentBlockStop", b""),
        ("throttlingException", b"{\"message\":\"slow down\"}"),
    ]
    .map(|(name, data)| Event { name: name.to_owned(), data: data.to_vec() });

    for step in [1, 2, 7, 64, bytes.len()] {
        let mut frames = AwsFrames::new(FRAME_BYTES_MAX);
        let mut events = Vec::new();
        for piece in bytes.chunks(step) {
            frames.push(piece);
            while let Some(event) = frames.next().unwrap() {
                events.push(event);
            }
        }
        assert_eq!(events, expected, "{step}");
        frames.finish().unwrap();
    }
}

#[test]
fn an_error_without_a_payload_is_an_exception() {
    let headers = [(":message-type", "error"), (":error-code", "InternalError"), (":error-message", "it \"fell\"")];
    let event = frames_of(&frame(&headers, b"")).next().unwrap().unwrap();
    assert_eq!(event.name, "internalServerException");
    assert_eq!(event.data, b"{\"message\":\"it \\\"fell\\\"\"}");

    let headers = [(":message-type", "error"), (":error-code", "ThrottlingException")];
    let event = frames_of(&frame(&headers, b"")).next().unwrap().unwrap();
    assert_eq!((event.name.as_str(), event.data.as_slice()), ("ThrottlingException", &b"{\"message\":\"\"}"[..]));
}

#[test]
fn what_ends_within_a_frame_broke_off() {
    let bytes = event_frame("messageStop", b"{\"stopReason\":\"end_turn\"}");
    for length in 1..bytes.len() {
        let mut frames = frames_of(&bytes[..length]);
        assert!(frames.next().unwrap().is_none(), "{length}");
        assert!(matches!(frames.finish(), Err(WireError::BrokeOff(_))), "{length}");
    }
}

#[test]
fn a_damaged_frame_is_never_an_event() {
    let bytes = event_frame("metadata", b"{\"usage\":{\"inputTokens\":1}}");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let mut frames = frames_of(&damaged);
        match frames.next() {
            Ok(Some(event)) => panic!("{event:?} with byte {at} wrong"),
            // The length was said to be more than there is.
            Ok(None) => assert!(frames.finish().is_err()),
            Err(error) => assert!(matches!(error, WireError::BrokeOff(_) | WireError::TooLarge { .. }), "{error:?}"),
        }
    }
}

#[test]
fn a_declared_length_is_refused_before_the_bytes_come() {
    let read = |frame: u32, headers: u32| {
        frames_of(&[frame.to_be_bytes(), headers.to_be_bytes()].concat()).next().map(|event| event.is_some())
    };
    for declared in [u32::MAX, 4097] {
        let refused = frames_of(&declared.to_be_bytes()).next();
        assert!(matches!(refused, Err(WireError::TooLarge { bytes_max: FRAME_BYTES_MAX })), "{declared}");
    }
    assert!(matches!(read(4096, 100), Ok(false)));
    assert!(matches!(read(4096, u32::MAX), Err(WireError::BrokeOff(_))));
    for declared in [0, 1, 11] {
        assert!(matches!(read(declared, 0), Err(WireError::BrokeOff(_))), "{declared}");
    }
}

#[test]
fn a_frame_without_a_type_is_none() {
    for headers in [&[][..], &[(":message-type", "event")], &[(":message-type", "other"), (":event-type", "x")]] {
        assert!(matches!(frames_of(&frame(headers, b"{}")).next(), Err(WireError::BrokeOff(_))));
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), headers in 0_u32..40) {
        let read = |bytes: &[u8]| {
            let mut frames = frames_of(bytes);
            while let Ok(Some(_)) = frames.next() {}
        };
        read(&bytes);
        // With lengths and checksums that fit, so that the headers are read.
        let prelude = [(u32::try_from(bytes.len()).unwrap() + 16).to_be_bytes(), headers.to_be_bytes()].concat();
        let mut frame = [&prelude[..], &crc32(&prelude).to_be_bytes(), &bytes].concat();
        frame.extend(crc32(&frame).to_be_bytes());
        read(&frame);
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}
