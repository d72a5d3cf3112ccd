//! Server-sent events, read as WHATWG's rules say: bytes go in, events come out. What a server sends may be cut anywhere
//! and may be anything; an event that is longer than it may be is an error before it is held.

use std::mem;

use bytes::{Buf as _, Bytes};

use super::Event;

/// Reads one answer's events. Each byte is looked at once, however the bytes are cut.
pub(super) struct EventReader {
    /// One event's bytes at most.
    bytes_max: usize,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    name: String,
    /// The event's lines of data, each with the line end that joins it to the next.
    data: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to the same line end.
    after_return: bool,
    first_line: bool,
}

/// An event has more bytes than are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventTooLarge;

impl EventReader {
    pub(super) fn new(bytes_max: usize) -> Self {
        EventReader {
            bytes_max,
            line: Vec::new(),
            name: String::new(),
            data: Vec::new(),
            after_return: false,
            first_line: true,
        }
    }

    /// Takes bytes up to the end of the next event. None if they end before it.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Event>, EventTooLarge> {
        while let Some(&first) = bytes.first() {
            if mem::take(&mut self.after_return) && first == b'\n' {
                bytes.advance(1);
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let segment = bytes.split_to(end.unwrap_or(bytes.len()));
            // The line end after the data counts, so that lines without a byte in them cannot go on for ever.
            if self.held().saturating_add(segment.len()).saturating_add(1) > self.bytes_max {
                return Err(EventTooLarge);
            }
            if end.is_none() {
                self.line.extend_from_slice(&segment);
                continue;
            }
            self.after_return = bytes.first() == Some(&b'\r');
            bytes.advance(1);
            if let Some(event) = self.end_line(&segment) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// There are no more bytes. Some servers leave out the last line ends: what has data by now is an event.
    pub(super) fn finish(&mut self) -> Option<Event> {
        self.end_line(&[]).or_else(|| self.dispatch())
    }

    fn held(&self) -> usize {
        self.line.len().saturating_add(self.data.len()).saturating_add(self.name.len())
    }

    /// A line is whole with these bytes.
    fn end_line(&mut self, rest: &[u8]) -> Option<Event> {
        if self.line.is_empty() {
            return self.take_line(rest);
        }
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(rest);
        let event = self.take_line(&line);
        line.clear();
        self.line = line;
        event
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Event> {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(after_mark) if self.first_line => after_mark,
            _ => line,
        };
        self.first_line = false;
        if line.is_empty() {
            return self.dispatch();
        }
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let field = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            // Comments, ids, times to reconnect after, and what nobody knows.
            _ => {}
        }
        None
    }

    /// The event ends here. One without data is none.
    fn dispatch(&mut self) -> Option<Event> {
        let name = mem::take(&mut self.name);
        let mut data = mem::take(&mut self.data);
        data.pop()?;
        Some(Event { name, data })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All events of these bytes, cut at these places.
    fn read(chunks: &[&[u8]], bytes_max: usize) -> Result<Vec<(String, String)>, EventTooLarge> {
        let mut reader = EventReader::new(bytes_max);
        let mut events = Vec::new();
        for chunk in chunks {
            let mut bytes = Bytes::copy_from_slice(chunk);
            while let Some(event) = reader.next(&mut bytes)? {
                events.push(event);
            }
            assert!(bytes.is_empty());
        }
        events.extend(reader.finish());
        assert_eq!(reader.finish(), None, "the end comes once");
        Ok(events.into_iter().map(|event| (event.name, String::from_utf8_lossy(&event.data).into_owned())).collect())
    }

    fn events(text: &str) -> Vec<(String, String)> {
        read(&[text.as_bytes()], 1024).unwrap()
    }

    #[test]
    fn events_are_read_as_the_rules_say() {
        for (text, expected) in [
            ("", vec![]),
            ("data: one\n\n", vec![("", "one")]),
            ("data:one\r\n\r\ndata:two\r\rdata:three\n\n", vec![("", "one"), ("", "two"), ("", "three")]),
            ("data: a\rdata: b\n\r", vec![("", "a\nb")]),
            ("data: a\r\ndata:  b\r\ndata:\r\ndata\r\n\r\n", vec![("", "a\n b\n\n")]),
            ("event: ping\ndata: {}\n\n", vec![("ping", "{}")]),
            ("event: lost\n\ndata: x\n\n", vec![("", "x")]),
            ("event: a\nevent: b\ndata: x\n\n", vec![("b", "x")]),
            (": a comment\n\n:\n\ndata: x: y\n\n", vec![("", "x: y")]),
            ("id: 7\nretry: 10\nDATA: no\n data: no\ndata: x\n\n", vec![("", "x")]),
            ("\u{feff}data: x\n\n\u{feff}data: y\n\n", vec![("", "x")]),
            ("data\n\n", vec![("", "")]),
            ("\n\n\r\n\n", vec![]),
            ("data: x\n\ndata: [DONE]", vec![("", "x"), ("", "[DONE]")]),
            ("data: x\n", vec![("", "x")]),
            ("data: x\r", vec![("", "x")]),
            ("event: nothing", vec![]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(name, data)| (String::from(name), String::from(data))).collect();
            assert_eq!(events(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_event_has_a_largest_size() {
        let of = |length: usize| format!("data: {}\n\n", "x".repeat(length));
        assert!(read(&[of(20).as_bytes()], 64).is_ok());
        assert_eq!(read(&[of(64).as_bytes()], 64), Err(EventTooLarge));
        // In many lines, in lines without a byte, in a line without an end, in a name, in a comment.
        assert_eq!(read(&["data: 1234\n".repeat(20).as_bytes()], 64), Err(EventTooLarge));
        assert_eq!(read(&["data\n".repeat(100).as_bytes()], 64), Err(EventTooLarge));
        assert_eq!(read(&[b"xxxxxxxxxx".as_slice(); 20], 64), Err(EventTooLarge));
        assert_eq!(read(&[format!("event: {}\n", "x".repeat(64)).as_bytes()], 64), Err(EventTooLarge));
        assert_eq!(read(&[format!(":{}\n", "x".repeat(64)).as_bytes()], 64), Err(EventTooLarge));
        // Many small ones are no large one.
        assert_eq!(read(&[of(20).repeat(50).as_bytes()], 64).unwrap().len(), 50);
    }

    #[test]
    fn a_megabyte_may_come_in_single_bytes() {
        let text = format!("data: {}\n\n", "x".repeat(1 << 20));
        let single: Vec<_> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&single, 2 << 20).unwrap(), read(&[text.as_bytes()], 2 << 20).unwrap());
    }

    /// Bytes that are likely to mean something.
    fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"data: ".to_vec()),
            4 => prop_oneof![Just(b"\n".to_vec()), Just(b"\r".to_vec()), Just(b"\r\n".to_vec())],
            1 => prop_oneof![Just(b"event:".to_vec()), Just(b":".to_vec()), Just(b"\xef\xbb\xbf".to_vec())],
            2 => proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_are_cut(bytes in likely_bytes(), cuts in proptest::collection::vec(1..9_usize, 1..40)) {
            let whole = read(&[&bytes], 4096);
            let mut rest = bytes.as_slice();
            let mut chunks = Vec::new();
            for cut in cuts.iter().cycle() {
                let Some((chunk, after)) = rest.split_at_checked(*cut) else { break };
                chunks.push(chunk);
                rest = after;
            }
            chunks.push(rest);
            prop_assert_eq!(&read(&chunks, 4096), &whole);
            let single: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(&read(&single, 4096), &whole);
        }

        #[test]
        fn no_bytes_are_held_beyond_the_limit(bytes in likely_bytes(), bytes_max in 0..40_usize, cut in 1..9_usize) {
            let mut reader = EventReader::new(bytes_max);
            'all: for chunk in bytes.chunks(cut) {
                let mut bytes = Bytes::copy_from_slice(chunk);
                loop {
                    let event = reader.next(&mut bytes);
                    // A name of broken UTF-8 grows by the marks that stand for it.
                    prop_assert!(reader.line.len() + reader.data.len() <= bytes_max);
                    match event {
                        Ok(Some(event)) => prop_assert!(event.data.len() <= bytes_max),
                        Ok(None) => break,
                        Err(EventTooLarge) => break 'all,
                    }
                }
            }
        }
    }
}
