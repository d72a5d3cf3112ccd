//! Servers that are trusted, and others.

use std::io::{Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// A certificate authority of nobody's.
const AUTHORITY: &str = "\
    MIIBizCCATGgAwIBAgIUSBTpiH+SM4DMFmOO36oQcQyhRLAwCgYIKoZIzj0EAwIwEjEQMA4GA1UEAwwHVGVzdCBDQTAgFw0yNjEx\
    MjExNzEwMjNaGA8yMTI2MTAyODE3MTAyM1owEjEQMA4GA1UEAwwHVGVzdCBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABESw\
    LDx+JGQ1aWJ8QkzHIUoEKn7P9pQ7xkJNoHhc/047Gu2g0SNnJQjHaQ/ZXzDl8IkTM0qFkM5u+IWV9PlubzujYzBhMB0GA1UdDgQW\
    BBRLU00d98JYT8QBsdGRy4XJUJXeDjAfBgNVHSMEGDAWgBRLU00d98JYT8QBsdGRy4XJUJXeDjAPBgNVHRMBAf8EBTADAQH/MA4G\
    A1UdDwEB/wQEAwICBDAKBggqhkjOPQQDAgNIADBFAiEA6zZwuV4oAqjZZZ0nmxxx9/h3gp6UqTJoSmFDEesZmPECIDsLOMzD8a/8\
    P6kKyorvBmfzPARuCM0md6v6b2PW3B+0";

/// What it vouches for: a server at 127.0.0.1 and `localhost`, whose key everybody has.
const CERTIFICATE: &str = "\
    MIIBqDCCAU2gAwIBAgIUf+QgXrzzoItk6xIdN/U2/3fwI7cwCgYIKoZIzj0EAwIwEjEQMA4GA1UEAwwHVGVzdCBDQTAgFw0yNjEx\
    MjExNzEwMjNaGA8yMTI2MTAyODE3MTAyM1owDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN5Mm2q9\
    wL3HOna21xS4mJ4BZANnfuU48VWBm3HowJvYGmudqnEns7y3KOSc3DN9e65dhtmbqWeK4qg3hcOuGo6jgYEwfzAaBgNVHREEEzAR\
    hwR/AAABgglsb2NhbGhvc3QwDAYDVR0TAQH/BAIwADATBgNVHSUEDDAKBggrBgEFBQcDATAdBgNVHQ4EFgQU+l/uiQaZnJpNww1M\
    5EhajZWCaiAwHwYDVR0jBBgwFoAUS1NNHffCWE/EAbHRkcuFyVCV3g4wCgYIKoZIzj0EAwIDSQAwRgIhAPjOYFOs4LOOQn6jeifB\
    ICzh1l1kTz+RnNcQ9a9I+6pWAiEA3tG7ZhNcjgxDIC46DN+niYfZ3fdfvl0u6vniJlP349Y=";
const KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg2q5gPnAVkHk1U8vHCxmdC1KtHqIpYgddYhX8vDslzhyhRANCAATe\
    TJtqvcC9xzp2ttcUuJieAWQDZ37lOPFVgZtx6MCb2BprnapxJ7O8tyjknNwzfXuuXYbZm6lniuKoN4XDrhqO";

fn pem() -> String {
    format!("-----BEGIN CERTIFICATE-----\n{AUTHORITY}\n-----END CERTIFICATE-----\n")
}

type Secure = StreamOwned<ServerConnection, std::net::TcpStream>;

/// A server with that certificate that does this with each connection.
fn serve_tls(
    host: &str,
    alpn: &[u8],
    serve_one: impl Fn(&mut Secure) -> std::io::Result<()> + Send + 'static,
) -> SocketAddr {
    let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
    let key = PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap());
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            // Who is not trusted is told so in the middle of it.
            _ = serve_one(&mut stream);
        }
    });
    address
}

fn answer_once(stream: &mut Secure) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _some = stream.read(&mut request)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsafe")?;
    stream.conn.send_close_notify();
    stream.flush()
}

#[tokio::test]
async fn who_is_vouched_for_is_trusted() {
    let address = serve_tls("127.0.0.1", b"http/1.1", answer_once);
    let wire = Wire::new(Limits::default(), pem().as_bytes()).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let provider = provider(&format!("https://{host}:{}/v1", address.port()));
        assert_eq!(whole(&wire, &provider, PATIENT).await.unwrap(), b"safe", "{host}");
    }
}

#[tokio::test]
async fn who_is_not_is_not_asked() {
    let address = serve_tls("127.0.0.1", b"http/1.1", answer_once);
    let expect = async |wire: &Wire, url: &str, expected: &str| {
        let result = whole(wire, &provider(url), PATIENT).await;
        assert!(matches!(&result, Err(WireError::Connect(why)) if why == expected), "{url}: {result:?}");
    };
    let not_trusted = "its certificate is not one that is trusted for its name";
    expect(&wire(), &format!("https://{address}/"), not_trusted).await;
    // Vouched for, under another name.
    let trusting = Wire::new(Limits::default(), pem().as_bytes()).unwrap();
    let other = serve_tls("127.0.0.2", b"http/1.1", answer_once);
    expect(&trusting, &format!("https://{other}/"), not_trusted).await;

    let plain = serve(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    expect(&wire(), &format!("https://{plain}/"), "it does not answer in TLS").await;

    let closing = serve(|mut stream| async move {
        _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    expect(&wire(), &format!("https://{closing}/"), "the connection was closed before it was made").await;
}
