//! Servers that fail, or mean ill. Each makes one failure, and makes it soon.

use tokio::sync::mpsc;

use super::*;

/// A server that reads a request, sends this, and then this for as long as anybody takes it. It tells how many bytes it
/// got rid of.
async fn endless(head: &'static str, again: Vec<u8>) -> (SocketAddr, mpsc::UnboundedReceiver<usize>) {
    let (send, sent) = mpsc::unbounded_channel();
    let again = Arc::new(again);
    let address = serve(move |mut stream| {
        let (send, again) = (send.clone(), Arc::clone(&again));
        async move {
            request_head(&mut stream).await;
            let mut bytes = head.len();
            let mut result = stream.write_all(head.as_bytes()).await;
            // A gigabyte.
            while result.is_ok() && bytes < 1 << 30 {
                result = stream.write_all(&again).await;
                bytes += again.len();
            }
            _ = send.send(bytes);
        }
    })
    .await;
    (address, sent)
}

/// A server that sends this and then nothing, and leaves the connection open.
async fn stopping_after(beginning: &'static str) -> SocketAddr {
    serve(move |mut stream| async move {
        request_head(&mut stream).await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        _ = stream.read(&mut [0; 8]).await;
    })
    .await
}

/// What the sockets' buffers may hold besides what was read.
const BUFFERED_MAX: usize = 64 << 20;

#[tokio::test]
async fn a_server_that_hangs_is_left() {
    let address = stopping_after("").await;
    assert_timed_out(all(&wire(), &at(address), HASTY).await.1, "first token");
    assert_timed_out(whole(&wire(), &at(address), HASTY_TO_END).await, "answer");

    let address = stopping_after("HTTP/1.1 200 OK\r\ncontent-len").await;
    assert_timed_out(all(&wire(), &at(address), HASTY).await.1, "first token");
    assert_timed_out(whole(&wire(), &at(address), HASTY_TO_END).await, "answer");

    let address = stopping_after("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\ndata: x").await;
    assert_timed_out(whole(&wire(), &at(address), HASTY_TO_END).await, "answer");
    assert_timed_out(all(&wire(), &at(address), HASTY).await.1, "first token");

    let address = stopping_after("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\ndata: x\n\ndata: y").await;
    let (data, end) = all(&wire(), &at(address), HASTY_TO_END).await;
    assert_eq!(data, ["x"]);
    assert_timed_out(end, "answer");
}

#[tokio::test]
async fn a_server_that_drips_is_left_all_the_same() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    for (head, drop, timeouts, waiting_for) in [
        (HEAD, "x", HASTY, "first token"),
        (HEAD, ":\n", HASTY, "first token"),
        (HEAD, "data: x\n\n", HASTY_TO_END, "answer"),
        (HEAD, "x", HASTY_TO_END, "answer"),
        ("HTTP/1.1 200 OK\r\nx: ", "x", HASTY, "first token"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", HASTY, "first token"),
    ] {
        let address = serve(move |mut stream| async move {
            request_head(&mut stream).await;
            let mut result = stream.write_all(head.as_bytes()).await;
            while result.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                result = stream.write_all(drop.as_bytes()).await;
            }
        })
        .await;
        assert_timed_out(all(&wire(), &at(address), timeouts).await.1, waiting_for);
        assert_timed_out(whole(&wire(), &at(address), HASTY_TO_END).await, "answer");
    }
}

#[tokio::test]
async fn a_refusal_may_be_long_or_hang_and_is_one_all_the_same() {
    let (address, mut sent) = endless("HTTP/1.1 400 No\r\nconnection: close\r\n\r\n", vec![b'x'; 64 << 10]).await;
    let error = whole(&wire(), &at(address), PATIENT).await.unwrap_err();
    assert!(matches!(&error, WireError::Status { status: 400, body, .. } if body.len() == 64 << 10));
    assert!(sent.recv().await.unwrap() < BUFFERED_MAX);

    let address = stopping_after("HTTP/1.1 503 No\r\nretry-after: 1\r\ncontent-length: 9\r\n\r\nlater").await;
    let error = whole(&wire(), &at(address), PATIENT).await.unwrap_err();
    assert!(matches!(&error, WireError::Status { status: 503, retry_after: Some(_), body } if body == b"later"));
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_from_an_answer() {
    const CLOSED: &str = "the connection was closed before the answer's end";
    for answer in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n"] {
        assert_broke_off(whole(&wire(), &at(answering(answer).await), PATIENT).await, CLOSED);
    }
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\ndata: x\n\ndata: y\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: x\n\n\r\n9\r\nda",
    ] {
        assert_broke_off(whole(&wire(), &at(answering(answer).await), PATIENT).await, CLOSED);
        let (data, end) = all(&wire(), &at(answering(answer).await), PATIENT).await;
        assert_eq!(data, ["x"]);
        assert_broke_off(end, CLOSED);
    }
    for beginning in ["", "HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nabc"] {
        let address = serve(move |mut stream| async move {
            request_head(&mut stream).await;
            stream.write_all(beginning.as_bytes()).await.unwrap();
            // Time for the beginning to be read: a reset overtakes what is on its way.
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.set_zero_linger().unwrap();
        })
        .await;
        assert_broke_off(whole(&wire(), &at(address), PATIENT).await, "the connection was reset");
    }
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    const NOT_HTTP: &str = "the answer is not one of HTTP";
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "<html>hello</html>\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\0: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
    ] {
        let result = whole(&wire(), &at(answering(answer).await), PATIENT).await;
        assert!(matches!(&result, Err(WireError::BrokeOff(why)) if why == NOT_HTTP), "{answer:?}: {result:?}");
    }
}

#[tokio::test]
async fn no_more_is_read_than_an_answer_may_have() {
    let (address, mut sent) = endless("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", vec![b'x'; 64 << 10]).await;
    assert_too_large(whole(&wire(), &at(address), PATIENT).await, 1 << 20);
    assert!(sent.recv().await.unwrap() < BUFFERED_MAX);
    // One line without an end.
    assert_too_large(all(&wire(), &at(address), PATIENT).await.1, 64 << 10);
    assert!(sent.recv().await.unwrap() < BUFFERED_MAX);

    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (address, mut sent) = endless(head, b"9\r\ndata: x\n\n\r\n".repeat(1_000)).await;
    let (data, end) = all(&wire(), &at(address), PATIENT).await;
    assert_too_large(end, 1 << 20);
    assert!(!data.is_empty() && data.len() <= (1 << 20) / 9);
    assert!(sent.recv().await.unwrap() < BUFFERED_MAX);

    // Nothing but comments.
    let (address, mut sent) = endless(head, b"2\r\n:\n\r\n".repeat(1_000)).await;
    assert_too_large(all(&wire(), &at(address), PATIENT).await.1, 1 << 20);
    assert!(sent.recv().await.unwrap() < BUFFERED_MAX);

    for length in ["1048577", "1000000000000"] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        assert_too_large(whole(&wire(), &at(answering(answer).await), PATIENT).await, 1 << 20);
    }
}

#[tokio::test]
async fn a_head_has_an_end() {
    for (head, again, expected) in [
        ("HTTP/1.1 200 OK\r\n", &b"x: y\r\n"[..], "the answer's head is too large"),
        ("HTTP/1.1 200 OK\r\nx: ", b"y", "the answer's head is too large"),
        ("HTTP/1.1 200 ", b"y", "the answer's head is too large"),
    ] {
        let (address, mut sent) = endless(head, again.repeat(1_000)).await;
        assert_broke_off(whole(&wire(), &at(address), PATIENT).await, expected);
        assert!(sent.recv().await.unwrap() < BUFFERED_MAX);
    }
    // Heads that are none, without end: all that ends it is the time.
    let (address, mut sent) = endless("", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000)).await;
    let result = whole(&wire(), &at(address), HASTY_TO_END).await;
    assert_timed_out(result, "answer");
    sent.recv().await.unwrap();
}

#[tokio::test]
async fn who_cannot_be_connected_to_is_said_without_the_address() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let result = whole(&wire(), &at(nobody), PATIENT).await;
    assert!(matches!(&result, Err(WireError::Connect(why)) if why == "the connection was refused"), "{result:?}");

    let result = whole(&wire(), &provider("http://holm.invalid/v1"), PATIENT).await;
    assert!(matches!(&result, Err(WireError::Connect(why)) if why == "its name cannot be resolved"), "{result:?}");
}

#[tokio::test]
async fn a_connection_that_is_not_made_times_out() {
    // Its queue is full, so that nobody answers.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected);
    }
    let result = whole(&wire(), &at(address), Timeouts { connect_ms: 200, ..PATIENT }).await;
    assert!(matches!(result, Err(WireError::TimedOut { waiting_for: "connect", after_ms: 200 })), "{result:?}");
}

#[tokio::test]
async fn a_user_reaches_nothing_that_is_not_public() {
    let (send, mut visits) = mpsc::unbounded_channel();
    let address = serve(move |_| {
        send.send(()).unwrap();
        async {}
    })
    .await;
    let port = address.port();
    for url in [
        format!("https://localhost:{port}/"),
        format!("https://LOCALHOST:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("https://0:{port}/"),
    ] {
        let provider = Provider { addresses: Addresses::Public, ..provider(&url) };
        let result = whole(&wire(), &provider, PATIENT).await;
        assert!(matches!(result, Err(WireError::Forbidden)), "{url}: {result:?}");
    }
    assert!(visits.try_recv().is_err());
    // The operator may.
    let result = whole(&wire(), &provider(&format!("http://localhost:{port}/")), PATIENT).await;
    assert!(matches!(result, Err(WireError::BrokeOff(_))), "{result:?}");
    visits.recv().await.unwrap();
}

#[tokio::test]
async fn a_request_that_cannot_be_made_is_not_sent() {
    let address = answering("HTTP/1.1 200 OK\r\n\r\n").await;
    for (url, key) in [
        (format!("http://{address}/"), "sk\n1"),
        (format!("http://me@{address}/"), "sk-1"),
        (format!("ftp://{address}/"), "sk-1"),
    ] {
        let provider = Provider { credentials: Credentials::Key(Secret::new(key)), ..provider(&url) };
        let result = whole(&wire(), &provider, PATIENT).await;
        assert!(matches!(result, Err(WireError::Request(_))), "{result:?}");
    }
}
