//! What a provider knows its user by, as headers. They are made anew for each request, so that nothing of one user's is
//! ever at hand when another's request is sent.

use std::time::SystemTime;

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::zeroize::Zeroizing;

use super::{WireError, aws};
use crate::backends::llm::{Credentials, Provider, ProviderKind, Secret};

/// The headers that say whose request this is.
pub(super) fn headers(provider: &Provider, url: &Url, body: &[u8]) -> Result<HeaderMap, WireError> {
    let mut headers = match (&provider.credentials, &provider.kind) {
        (Credentials::None, _) => HeaderMap::new(),
        (Credentials::Key(key), kind) => key_headers(kind, key)?,
        (Credentials::Aws { .. }, ProviderKind::Bedrock { region }) => {
            aws_headers(url, body, region, &provider.credentials)?
        }
        (Credentials::Aws { .. }, kind) => {
            return Err(WireError::Request(format!("a provider of the kind `{}` takes no key of AWS", kind.as_str())));
        }
    };
    if let ProviderKind::Friendli { team: Some(team) } = &provider.kind {
        let team = HeaderValue::from_str(team)
            .map_err(|_invalid| WireError::Request("the team has characters that cannot be sent".to_owned()))?;
        headers.insert(HeaderName::from_static("x-friendli-team"), team);
    }
    Ok(headers)
}

fn key_headers(kind: &ProviderKind, key: &Secret) -> Result<HeaderMap, WireError> {
    let mut headers = HeaderMap::with_capacity(2);
    // `Bearer` and nothing after it is refused in words that help nobody.
    if key.is_empty() {
        return Ok(headers);
    }
    let (name, scheme) = match kind {
        ProviderKind::OpenAi | ProviderKind::Friendli { .. } | ProviderKind::Ollama | ProviderKind::Bedrock { .. } => {
            (AUTHORIZATION, "Bearer ")
        }
        ProviderKind::Azure { .. } => (HeaderName::from_static("api-key"), ""),
        ProviderKind::Anthropic => (HeaderName::from_static("x-api-key"), ""),
        ProviderKind::Gemini => (HeaderName::from_static("x-goog-api-key"), ""),
        ProviderKind::Offline => return Ok(headers),
    };
    headers.insert(name, secret_value(scheme, key)?);
    Ok(headers)
}

/// A header's value that does not show, and whose memory is zeroed with its last holder.
fn secret_value(scheme: &str, key: &Secret) -> Result<HeaderValue, WireError> {
    // Of the right size from the start: a buffer that grows leaves what it held behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(scheme.len().saturating_add(key.expose().len())));
    bytes.extend_from_slice(scheme.as_bytes());
    bytes.extend_from_slice(key.expose().as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
        .map_err(|_invalid| WireError::Request("the key has characters that cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The signature of a request to AWS.
fn aws_headers(url: &Url, body: &[u8], region: &str, credentials: &Credentials) -> Result<HeaderMap, WireError> {
    let Credentials::Aws { access_key_id, secret_access_key, session_token } = credentials else {
        return Ok(HeaderMap::new());
    };
    let signer = aws::Signer {
        region,
        access_key_id,
        secret_access_key: secret_access_key.expose(),
        session_token: session_token.as_ref().map(Secret::expose),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in aws::sign(signer, url, body, SystemTime::now())? {
        let value = Zeroizing::new(value);
        headers.insert(HeaderName::from_static(name), secret_value("", &Secret::new(value.as_str()))?);
    }
    Ok(headers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;
    use crate::backends::llm::Addresses;

    fn provider(kind: ProviderKind, credentials: Credentials) -> Provider {
        Provider {
            name: "one".parse().unwrap(),
            kind,
            url: "https://example.com".parse().unwrap(),
            credentials,
            model: None,
            models: Vec::new(),
            addresses: Addresses::Any,
        }
    }

    fn sent(kind: ProviderKind, credentials: Credentials) -> Result<HeaderMap, WireError> {
        headers(&provider(kind, credentials), &"https://example.com/x".parse().unwrap(), b"{}")
    }

    #[test]
    fn each_kind_has_its_header() {
        let key = || Credentials::Key(Secret::new("sk-123"));
        for (kind, name, value) in [
            (ProviderKind::OpenAi, "authorization", "Bearer sk-123"),
            (ProviderKind::Ollama, "authorization", "Bearer sk-123"),
            (ProviderKind::Friendli { team: None }, "authorization", "Bearer sk-123"),
            (ProviderKind::Bedrock { region: "eu-central-1".to_owned() }, "authorization", "Bearer sk-123"),
            (ProviderKind::Azure { api_version: String::new(), deployment: None }, "api-key", "sk-123"),
            (ProviderKind::Anthropic, "x-api-key", "sk-123"),
            (ProviderKind::Gemini, "x-goog-api-key", "sk-123"),
        ] {
            let headers = sent(kind.clone(), key()).unwrap();
            assert_eq!(headers.len(), 1, "{kind:?}");
            let header = headers.get(name).unwrap();
            assert_eq!(header.as_bytes(), value.as_bytes(), "{kind:?}");
            assert!(header.is_sensitive(), "{kind:?}");
            assert!(!format!("{headers:?}").contains("123"), "{kind:?}");
            assert!(sent(kind, Credentials::None).unwrap().is_empty());
        }
        assert!(sent(ProviderKind::OpenAi, Credentials::Key(Secret::new(" "))).unwrap().is_empty());
        let with_team = sent(ProviderKind::Friendli { team: Some("red".to_owned()) }, key()).unwrap();
        assert_eq!(with_team.get("x-friendli-team").unwrap(), "red");
    }

    #[test]
    fn what_cannot_be_sent_is_not_shown() {
        for key in ["sk-12\n34", "sk-\u{7f}1234", "sk-\0"] {
            let Err(WireError::Request(why)) = sent(ProviderKind::OpenAi, Credentials::Key(Secret::new(key))) else {
                unreachable!("{key:?} was taken")
            };
            assert_eq!(why, "the key has characters that cannot be sent");
        }
        assert!(matches!(
            sent(ProviderKind::Friendli { team: Some("a\nb".to_owned()) }, Credentials::None),
            Err(WireError::Request(_))
        ));
        let aws = Credentials::Aws {
            access_key_id: "AKIA".to_owned(),
            secret_access_key: Secret::new("x"),
            session_token: None,
        };
        assert!(matches!(sent(ProviderKind::Gemini, aws), Err(WireError::Request(_))));
    }
}
