//! Makes the request: the provider's address and the protocol's path, the headers, the body.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};

use super::{WireError, addresses, auth};
use crate::backends::llm::Provider;
use crate::backends::llm::protocol::{Framing, Outgoing};

pub(super) fn request(provider: &Provider, outgoing: Outgoing) -> Result<Request, WireError> {
    let url = target(&provider.url, &outgoing.path)?;
    addresses::check(&url, provider.addresses)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(WireError::Request("its address has a user or a password in it".to_owned()));
    }
    let mut headers = auth::headers(provider, &url, &outgoing.body)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = match outgoing.framing {
        Framing::Whole => "application/json",
        Framing::ServerSentEvents => "text/event-stream",
        Framing::AwsEvents => "application/vnd.amazon.eventstream",
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    for (name, value) in outgoing.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) else {
            return Err(WireError::Request("a header has characters that cannot be sent".to_owned()));
        };
        headers.insert(name, value);
    }
    let mut request = Request::new(Method::POST, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(outgoing.body.into());
    Ok(request)
}

/// The provider's address with this path after its own. The path leads nowhere else: models' names are in it, and guests
/// choose those.
fn target(base: &Url, path: &str) -> Result<Url, WireError> {
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(WireError::Request("its address is not one of HTTP".to_owned()));
    }
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let sound = path.starts_with('/')
        && !path.contains(['\\', '#'])
        && !path.contains(char::is_control)
        && !path.split('/').any(is_dots)
        && query.is_none_or(|query| !query.contains('#') && !query.contains(char::is_control));
    if !sound {
        return Err(WireError::Request("the model's name does not fit into an address".to_owned()));
    }
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    let queries: Vec<_> = base.query().into_iter().chain(query).filter(|query| !query.is_empty()).collect();
    url.set_query((!queries.is_empty()).then(|| queries.join("&")).as_deref());
    url.set_fragment(None);
    Ok(url)
}

/// One or two dots, also encoded: such a part of a path stands for another path.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_after_the_address() {
        for (base, path, expected) in [
            ("https://a.example", "/chat", "https://a.example/chat"),
            ("https://a.example/", "/chat", "https://a.example/chat"),
            ("https://a.example/v1/", "/chat?x=1", "https://a.example/v1/chat?x=1"),
            ("http://a.example:81/v1?k=v#f", "/chat?x=1", "http://a.example:81/v1/chat?k=v&x=1"),
            ("http://a.example/v1?", "/chat?", "http://a.example/v1/chat"),
            ("https://a.example", "/model/a%2Fb%3A0/converse", "https://a.example/model/a%2Fb%3A0/converse"),
            ("https://a.example", "/models/a..b:go?alt=sse", "https://a.example/models/a..b:go?alt=sse"),
            ("https://a.example", "//b.example/x", "https://a.example//b.example/x"),
            ("https://a.example", "/@b.example", "https://a.example/@b.example"),
        ] {
            assert_eq!(target(&base.parse().unwrap(), path).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_path_leads_nowhere_else() {
        let base = "https://a.example/v1".parse().unwrap();
        for path in ["", "chat", "/..", "/a/../b", "/%2e%2E/b", "/.%2e", "/./b", "/a\\..\\b", "/a#b", "/a\nb", "/a?b#c"]
        {
            assert!(matches!(target(&base, path), Err(WireError::Request(_))), "{path:?}");
        }
        assert!(target(&"file:///etc".parse().unwrap(), "/x").is_err());
    }
}
