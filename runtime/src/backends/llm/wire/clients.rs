//! The HTTP clients: pools of connections that all users share, so nothing about them may depend on who asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::WireError;
use super::addresses::Resolver;
use crate::backends::llm::Addresses;

/// Most clients that are kept. Users may choose how long a connection may take, and each such time is a client.
const CLIENTS_MAX: usize = 16;

/// Idle connections to one server that are kept, at most and for so long.
const IDLE_MAX: usize = 64;
const IDLE_TIME_MAX: Duration = Duration::from_secs(90);

/// What answers' heads may have. Real ones have about thirty headers.
const HEADERS_MAX: usize = 100;

/// Clients by what distinguishes them.
pub(super) struct Clients {
    tls: ClientConfig,
    /// The one that was used last comes last.
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    addresses: Addresses,
    connect_ms: u64,
    client: Client,
}

impl Clients {
    pub(super) fn new(more_roots: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let public = roots.len();
        for certificate in CertificateDer::pem_slice_iter(more_roots) {
            let certificate = certificate.map_err(|error| format!("the certificates are not valid PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("a certificate cannot be used: {error}"))?;
        }
        if roots.len() == public && !more_roots.trim_ascii().is_empty() {
            return Err("there is no certificate in the PEM".to_owned());
        }
        // By hand, so that neither the system nor the environment says whom to trust.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // One request at a time on a connection: on one with many streams, who does not read holds back the others, and
        // servers allow some hundred for all users together.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Clients { tls, kept: Mutex::new(Vec::new()) })
    }

    /// The client for these addresses, with this time for connections.
    pub(super) fn get(&self, addresses: Addresses, connect_ms: u64) -> Result<Client, WireError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|kept| kept.addresses == addresses && kept.connect_ms == connect_ms);
        let client = match found {
            Some(index) => kept.remove(index).client,
            None => self.make(addresses, connect_ms)?,
        };
        if kept.len() >= CLIENTS_MAX {
            // Requests that are under way keep it.
            kept.remove(0);
        }
        kept.push(Kept { addresses, connect_ms, client: client.clone() });
        Ok(client)
    }

    fn make(&self, addresses: Addresses, connect_ms: u64) -> Result<Client, WireError> {
        let builder = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .dns_resolver(Resolver(addresses))
            .https_only(addresses == Addresses::Public)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("holm/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(connect_ms))
            .tcp_nodelay(true)
            .http1_only()
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIME_MAX)
            .http1_max_headers(HEADERS_MAX);
        builder.build().map_err(|_error| WireError::Request("requests cannot be made with these settings".to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_clients_are_kept_and_those_that_are_used() {
        let clients = Clients::new(b"").unwrap();
        for connect_ms in 0..40 {
            for addresses in [Addresses::Any, Addresses::Public] {
                clients.get(addresses, connect_ms).unwrap();
                clients.get(Addresses::Any, 7_777).unwrap();
            }
        }
        let kept = clients.kept.lock().unwrap();
        assert_eq!(kept.len(), CLIENTS_MAX);
        assert_eq!(kept.iter().filter(|kept| kept.connect_ms == 7_777).count(), 1);
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        for pem in ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Clients::new(pem.as_bytes()).is_err(), "{pem}");
        }
        assert!(Clients::new(b" \n").is_ok());
    }
}
