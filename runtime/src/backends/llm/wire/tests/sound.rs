//! Servers that mean well.

use std::sync::Mutex;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::*;

#[tokio::test]
async fn an_answer_is_read_however_its_end_is_told() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 201 Created\r\nconnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ] {
        let address = answering(answer).await;
        assert_eq!(whole(&wire(), &at(address), PATIENT).await.unwrap(), b"hello", "{answer:?}");
    }
    let address = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(whole(&wire(), &at(address), PATIENT).await.unwrap(), b"");
}

#[tokio::test]
async fn events_come_one_by_one() {
    let (send, sent) = mpsc::channel::<&str>(1);
    let sent = Arc::new(tokio::sync::Mutex::new(sent));
    let address = serve(move |mut stream| {
        let sent = Arc::clone(&sent);
        async move {
            assert!(request_head(&mut stream).await.contains("accept: text/event-stream"));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await.unwrap();
            while let Some(text) = sent.lock().await.recv().await {
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let mut events = open(&wire(), &at(address), PATIENT).await.unwrap();
    for (text, expected) in [
        (": hello\n\nevent: ping\ndata: 1\n\n", Event { name: "ping".to_owned(), data: b"1".to_vec() }),
        ("data: 2\r\n\r\ndata", Event { name: String::new(), data: b"2".to_vec() }),
        (": 3\n\nda", Event { name: String::new(), data: b"3".to_vec() }),
        // Its end never comes.
        ("ta: [DONE]", Event { name: String::new(), data: b"[DONE]".to_vec() }),
    ] {
        send.send(text).await.unwrap();
        if expected.data == b"[DONE]" {
            drop(send);
            assert_eq!(events.next().await.unwrap(), Some(expected));
            break;
        }
        assert_eq!(events.next().await.unwrap(), Some(expected));
    }
    assert_eq!(events.next().await.unwrap(), None);
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_refusal_has_its_words_and_when_to_come_back() {
    let in_ten_minutes = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
    for (header, least, most) in [
        ("retry-after: 3", 3, 3),
        ("Retry-After-Ms: 2000\r\nretry-after: 3", 2, 2),
        (&*format!("retry-after: {in_ten_minutes}"), 300, 600),
        ("retry-after: 100000", 3_600, 3_600),
    ] {
        let address = answering(format!("HTTP/1.1 429 Slow Down\r\n{header}\r\ncontent-length: 4\r\n\r\nlate")).await;
        let error = whole(&wire(), &at(address), PATIENT).await.unwrap_err();
        let WireError::Status { status: 429, retry_after: Some(after), body } = error else { panic!("{error:?}") };
        assert_eq!(body, b"late");
        assert!(after >= Duration::from_secs(least) && after <= Duration::from_secs(most), "{after:?}");
    }
    let address = answering("HTTP/1.1 500 Oops\r\n\r\n").await;
    let (_, result) = all(&wire(), &at(address), PATIENT).await;
    assert!(
        matches!(&result, Err(WireError::Status { status: 500, retry_after: None, body }) if body.is_empty()),
        "{result:?}"
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (send, mut visits) = mpsc::unbounded_channel();
    let elsewhere = serve(move |_| {
        send.send(()).unwrap();
        async {}
    })
    .await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Go\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
        let error = whole(&wire(), &at(answering(answer).await), PATIENT).await.unwrap_err();
        assert!(matches!(error, WireError::Status { status: is, .. } if is == status), "{error:?}");
    }
    assert!(visits.try_recv().is_err());
}

/// A server that keeps its connections, and tells of each request which connection it came on, and its head.
async fn keeping() -> (SocketAddr, mpsc::UnboundedReceiver<(usize, String)>) {
    let (send, requests) = mpsc::unbounded_channel();
    let connections = Arc::new(Mutex::new(0));
    let address = serve(move |mut stream| {
        let send = send.clone();
        let mut connections = connections.lock().unwrap();
        *connections += 1;
        let connection = *connections;
        async move {
            loop {
                let head = request_head(&mut stream).await;
                if head.is_empty() || send.send((connection, head)).is_err() {
                    break;
                }
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: who=you\r\n\r\nok";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (address, requests)
}

#[tokio::test]
async fn users_share_a_connection_and_nothing_else() {
    let (address, mut requests) = keeping().await;
    let wire = wire();
    let mut heads = Vec::new();
    for key in ["sk-one", "sk-two"] {
        let provider = Provider { credentials: Credentials::Key(Secret::new(key)), ..at(address) };
        assert_eq!(whole(&wire.clone(), &provider, PATIENT).await.unwrap(), b"ok");
        heads.push(requests.recv().await.unwrap());
    }
    let nobody = Provider { credentials: Credentials::None, ..at(address) };
    assert_eq!(whole(&wire, &nobody, PATIENT).await.unwrap(), b"ok");
    heads.push(requests.recv().await.unwrap());

    assert!(heads.iter().all(|(connection, _)| *connection == 1), "{heads:?}");
    let keys = heads.iter().map(|(_, head)| head.lines().filter_map(|line| line.strip_prefix("authorization: ")));
    let keys: Vec<Vec<_>> = keys.map(Iterator::collect).collect();
    assert_eq!(keys, [vec!["bearer sk-one"], vec!["bearer sk-two"], vec![]]);
    for (_, head) in &heads {
        assert!(head.starts_with("post /v1/chat http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
        assert!(head.contains("\r\nx-of-protocol: yes"), "{head}");
        for absent in ["cookie", "referer", "accept-encoding", "proxy"] {
            assert!(!head.contains(absent), "{head}");
        }
    }
}

#[tokio::test]
async fn events_that_are_read_to_their_end_leave_the_connection_to_others() {
    let (send, mut connections) = mpsc::unbounded_channel();
    let address = serve(move |mut stream| {
        send.send(()).unwrap();
        async move {
            while !request_head(&mut stream).await.is_empty() {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ndata: x\n\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let wire = wire();
    for _ in 0..3 {
        let (data, end) = all(&wire, &at(address), PATIENT).await;
        assert_eq!(data, ["x"]);
        end.unwrap();
    }
    connections.try_recv().unwrap();
    assert!(connections.try_recv().is_err());
}

#[tokio::test]
async fn who_gives_up_closes_the_connection() {
    /// Where the server stops.
    const ANSWERS: [&str; 2] = ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ndata: x\n\n"];
    for answer in ANSWERS {
        let (asked, mut is_asked) = mpsc::unbounded_channel();
        let (closed, mut is_closed) = mpsc::unbounded_channel();
        let address = serve(move |mut stream| {
            let (asked, closed) = (asked.clone(), closed.clone());
            async move {
                request_head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                asked.send(()).unwrap();
                let end = stream.read(&mut [0; 8]).await;
                closed.send(matches!(end, Ok(0) | Err(_))).unwrap();
            }
        })
        .await;
        let (wire, provider) = (wire(), at(address));

        let call = Call { provider: &provider, outgoing: outgoing(Framing::Whole), timeouts: PATIENT };
        tokio::select! {
            result = wire.whole(call) => panic!("{result:?}"),
            _ = is_asked.recv() => {}
        }
        assert!(tokio::time::timeout(LONG, is_closed.recv()).await.unwrap().unwrap(), "{answer:?}");

        if !answer.is_empty() {
            let mut events = open(&wire, &provider, PATIENT).await.unwrap();
            assert_eq!(events.next().await.unwrap().unwrap().data, b"x");
            drop(events);
            assert!(tokio::time::timeout(LONG, is_closed.recv()).await.unwrap().unwrap());
        }
    }
}
