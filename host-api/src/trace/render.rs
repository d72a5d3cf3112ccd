//! A tree of calls for a terminal: one line a call.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::{CallKind, CallStatus, CallTree, Json, Tokens};
use crate::sanitize_line;

/// A line is never cut to less than this, however deep its call is nested, in columns.
const BODY_MIN: usize = 20;

/// In less space than this, in columns, the beginning of a value says nothing.
const PREVIEW_MIN: usize = 12;

/// A value that is longer than this is not searched for what says most of it.
const TELLING_BYTES_MAX: usize = 64 * 1024;

/// Tells nothing about what a call is done with, so it is not shown.
const EMPTY: [&str; 4] = ["null", "\"\"", "{}", "[]"];

/// How a tree is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeStyle {
    /// Columns of the terminal. Lines are cut to it.
    pub width: usize,
    /// Colours.
    pub colour: Colour,
    /// For terminals that have ASCII alone: all else is shown escaped.
    pub ascii: bool,
}

/// Whether a tree is drawn in colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Without any.
    Never,
    /// With ANSI escape sequences.
    Ansi,
}

impl Default for TreeStyle {
    fn default() -> Self {
        TreeStyle { width: 100, colour: Colour::Never, ascii: false }
    }
}

impl CallTree {
    /// Draws the tree: a line for each call with its operation, duration, status, tokens, and the beginnings
    /// of its inputs and output. Text of guests is escaped where a terminal would obey it.
    pub fn render(&self, style: &TreeStyle) -> String {
        let mut drawing = Drawing { style, glyphs: if style.ascii { &ASCII } else { &UNICODE }, drawn: String::new() };
        drawing.call(self, "", self.tokens_of_all());
        drawing.children(self, &mut String::new());
        drawing.drawn
    }

    fn tokens_of_all(&self) -> Option<Tokens> {
        let parts = self.tokens().into_iter().chain(self.children.iter().filter_map(CallTree::tokens_of_all));
        parts
            .reduce(|a, b| Tokens { input: a.input.saturating_add(b.input), output: a.output.saturating_add(b.output) })
    }
}

struct Glyphs {
    branch: &'static str,
    last: &'static str,
    line: &'static str,
    ok: &'static str,
    failed: &'static str,
    open: &'static str,
    arrow: &'static str,
    cut: &'static str,
    micro: &'static str,
}

const UNICODE: Glyphs = Glyphs {
    branch: "├─ ",
    last: "└─ ",
    line: "│  ",
    ok: "✓",
    failed: "✗",
    open: "…",
    arrow: " → ",
    cut: "…",
    micro: "µs",
};

const ASCII: Glyphs = Glyphs {
    branch: "|- ",
    last: "`- ",
    line: "|  ",
    ok: "+",
    failed: "x",
    open: "~",
    arrow: " -> ",
    cut: "...",
    micro: "us",
};

#[derive(Clone, Copy)]
enum Paint {
    Plain,
    Bold,
    Dim,
    Green,
    Red,
    Yellow,
}

impl Paint {
    fn code(self) -> Option<u8> {
        match self {
            Paint::Plain => None,
            Paint::Bold => Some(1),
            Paint::Dim => Some(2),
            Paint::Red => Some(31),
            Paint::Green => Some(32),
            Paint::Yellow => Some(33),
        }
    }
}

struct Drawing<'a> {
    style: &'a TreeStyle,
    glyphs: &'static Glyphs,
    drawn: String,
}

impl Drawing<'_> {
    /// Trees are at most as deep as [`CallTree::build`] makes them.
    fn children(&mut self, call: &CallTree, indent: &mut String) {
        let Glyphs { branch, last, line, .. } = *self.glyphs;
        let mut children = call.children.iter().peekable();
        while let Some(child) = children.next() {
            let (stem, below) = if children.peek().is_some() { (branch, line) } else { (last, "   ") };
            let outer = indent.len();
            indent.push_str(stem);
            self.call(child, indent, child.tokens());
            indent.truncate(outer);
            indent.push_str(below);
            self.children(child, indent);
            indent.truncate(outer);
        }
    }

    fn call(&mut self, call: &CallTree, stem: &str, tokens: Option<Tokens>) {
        self.paint(Paint::Dim, stem);
        let left = self.style.width.saturating_sub(stem.chars().count()).max(BODY_MIN);
        let mut line = Line { left, drawing: self };
        // The other half is for what the host knows of the call.
        line.put_cut(Paint::Bold, &call.operation, (left / 2).max(BODY_MIN));
        if let Some(duration) = call.duration {
            line.put(Paint::Dim, &format!("  {}", duration_text(duration, line.drawing.glyphs.micro)));
        }
        let (paint, mark) = mark(call.status, line.drawing.glyphs);
        line.put(paint, &format!("  {mark}"));
        if let Some(Tokens { input, output }) = tokens {
            line.put(Paint::Plain, &format!("  {input} in, {output} out"));
        }
        if let (CallKind::Execution, Some(dropped)) = (call.kind, call.attributes.get("dropped_calls")) {
            line.put(Paint::Yellow, &format!("  {} calls not recorded", dropped.as_str()));
        }
        line.put_values(call);
        self.drawn.push('\n');
    }

    fn paint(&mut self, paint: Paint, text: &str) {
        match paint.code().filter(|_| self.style.colour == Colour::Ansi && !text.is_empty()) {
            // Writing to a string cannot fail.
            Some(code) => _ = write!(self.drawn, "\x1b[{code}m{text}\x1b[0m"),
            None => self.drawn.push_str(text),
        }
    }
}

/// A line under way, of which some columns are left.
struct Line<'a, 'b> {
    drawing: &'a mut Drawing<'b>,
    left: usize,
}

impl Line<'_, '_> {
    /// What a call is done with and what came of it.
    fn put_values(&mut self, call: &CallTree) {
        let inputs = Some(call.inputs.as_str()).filter(|inputs| !EMPTY.contains(inputs));
        let (paint, result) = match (&call.error, &call.output) {
            (Some(error), _) => (Paint::Red, Some(error.as_str())),
            (None, output) => (Paint::Dim, output.as_ref().map(Json::as_str).filter(|output| !EMPTY.contains(output))),
        };
        let arrow = self.drawing.glyphs.arrow;
        let inputs = inputs.filter(|_| self.left >= if result.is_some() { 2 * PREVIEW_MIN } else { PREVIEW_MIN });
        if let Some(inputs) = inputs {
            self.put(Paint::Plain, "  ");
            let columns_max = if result.is_some() { self.left / 2 } else { self.left };
            // What the host says of an execution begins with what tells most.
            let shown = if call.kind == CallKind::Execution { inputs.into() } else { telling(inputs, columns_max) };
            self.put_cut(Paint::Dim, &shown, columns_max);
        }
        if let Some(result) = result.filter(|_| self.left >= PREVIEW_MIN) {
            match (inputs, &call.error) {
                (None, Some(_)) => self.put(Paint::Plain, "  "),
                (None, None) => self.put(Paint::Plain, &format!(" {arrow}")),
                (Some(_), _) => self.put(Paint::Plain, arrow),
            }
            self.put_cut(paint, &telling(result, self.left), self.left);
        }
    }

    fn put(&mut self, paint: Paint, text: &str) {
        self.put_cut(paint, text, self.left);
    }

    /// Puts the beginning of a text, in up to `columns_max` columns.
    fn put_cut(&mut self, paint: Paint, text: &str, columns_max: usize) {
        let columns_max = columns_max.min(self.left);
        let shown = cut(text, columns_max, self.drawing.style.ascii, self.drawing.glyphs.cut);
        self.left -= columns(&shown).min(self.left);
        self.drawing.paint(paint, &shown);
    }
}

/// What says most of a value that does not fit: of a conversation with a model what was asked last, or who answered and
/// what; of all else its longest text. The beginning of the whole is its first key as a rule.
fn telling(value: &str, columns_max: usize) -> Cow<'_, str> {
    let fits = value.len() <= columns_max;
    if fits || value.len() > TELLING_BYTES_MAX || !value.starts_with(['{', '[']) {
        return Cow::Borrowed(value);
    }
    let value_read = serde_json::from_str::<Value>(value).ok();
    let told = value_read.and_then(|value| said(&value).or_else(|| asked(&value)).or_else(|| longest_text(&value)));
    told.map_or(Cow::Borrowed(value), Cow::Owned)
}

fn said(value: &Value) -> Option<String> {
    let text = longest_text(value.get("parts")?)?;
    let failed = value.get("attempts").and_then(Value::as_array).into_iter().flatten();
    let failed = failed.filter(|attempt| attempt.get("failure").is_some_and(Value::is_string)).count();
    let who = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(provider), Some(model)) = (who("provider"), who("model")) else { return Some(text) };
    let tries = if failed == 0 { String::new() } else { format!(" after {failed} failed tries") };
    Some(format!("{provider}/{model}{tries}: {text}"))
}

fn asked(value: &Value) -> Option<String> {
    longest_text(value.get("messages")?.as_array()?.last()?.get("parts")?)
}

fn longest_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => items.iter().filter_map(longest_text).max_by_key(String::len),
        Value::Object(items) => items.values().filter_map(longest_text).max_by_key(String::len),
        _ => None,
    }
}

/// The beginning of a text that fits `columns_max` columns, safe to show on one line.
fn cut(text: &str, columns_max: usize, ascii: bool, cut: &str) -> String {
    // No character takes less than a column: the rest of a long text need not be looked at.
    let beginning = text.char_indices().nth(columns_max + 1).and_then(|(end, _)| text.get(..end)).unwrap_or(text);
    let mut shown = sanitize_line(beginning).into_owned();
    if ascii && !shown.is_ascii() {
        let escape = |c: char| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() };
        shown = shown.chars().map(escape).collect();
    }
    if columns(&shown) <= columns_max {
        return shown;
    }
    let mut left = columns_max.saturating_sub(columns(cut));
    let fits = |c: &char| match left.checked_sub(width(*c)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let kept: String = shown.chars().take_while(fits).collect();
    if columns_max < columns(cut) { String::new() } else { kept + cut }
}

fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Columns that a character takes at most. A line that is a little short reads well; one that wraps does not.
fn width(c: char) -> usize {
    match c {
        ..'\u{1100}' | '\u{1e00}'..'\u{2300}' | '\u{2500}'..'\u{2600}' | '\u{2700}'..'\u{2720}' => 1,
        _ => 2,
    }
}

fn duration_text(duration: Duration, micro: &str) -> String {
    match duration.as_micros() {
        micros @ ..1_000 => format!("{micros}{micro}"),
        micros @ ..1_000_000 => format!("{}ms", micros / 1_000),
        ..60_000_000 => format!("{:.2}s", duration.as_secs_f64()),
        _ => format!("{}m{:02}s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

fn mark(status: CallStatus, glyphs: &Glyphs) -> (Paint, String) {
    let word = status.as_str().replace('_', " ");
    match status {
        CallStatus::Ok => (Paint::Green, glyphs.ok.to_owned()),
        CallStatus::Open => (Paint::Yellow, format!("{} {word}", glyphs.open)),
        CallStatus::Abandoned => (Paint::Yellow, format!("{} {word}", glyphs.failed)),
        _ => (Paint::Red, format!("{} {word}", glyphs.failed)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::trace::{CallEnd, CallId, CallRecord, CallStart};

    fn record(number: u128, parent: Option<u128>, operation: &str, inputs: &str) -> CallRecord {
        let host = operation.starts_with("llm.");
        CallRecord::new(CallStart {
            id: CallId(Uuid::from_u128(number)),
            parent: parent.map(|parent| CallId(Uuid::from_u128(parent))),
            kind: if parent.is_none() {
                CallKind::Execution
            } else if host {
                CallKind::Host
            } else {
                CallKind::Guest
            },
            operation: operation.to_owned().into(),
            inputs: Json::from_text(inputs),
            started_at: UNIX_EPOCH,
        })
    }

    fn ended(mut record: CallRecord, micros: u64, status: CallStatus, result: Result<&str, &str>) -> CallRecord {
        record.end(CallEnd {
            id: record.start.id,
            ended_at: UNIX_EPOCH + Duration::from_micros(micros),
            status,
            output: result.ok().map(Json::from_text),
            error: result.err().map(str::to_owned),
            attributes: Vec::new(),
        });
        record
    }

    fn sample() -> CallTree {
        let answer = r#"{"parts":["solar"],"usage":{"input_tokens":431,"output_tokens":120}}"#;
        let mut root =
            ended(record(1, None, "execution", r#"{"input_bytes":5}"#), 1_240_000, CallStatus::Ok, Ok("[1]"));
        root.attributes.insert("dropped_calls".to_owned(), Json::from(2));
        CallTree::build([
            root,
            ended(
                record(2, Some(1), "generate", r#"{"idea":"kettle"}"#),
                812_999,
                CallStatus::Ok,
                Ok("kettle\u{202e}"),
            ),
            ended(record(3, Some(2), "llm.complete", r#"{"messages":[]}"#), 810_000, CallStatus::Ok, Ok(answer)),
            ended(record(4, Some(2), "llm.complete", "{}"), 85, CallStatus::Error, Err("boom\x1b[2J")),
            ended(record(5, Some(1), "critique\n\x07", "null"), 125_000_000, CallStatus::BudgetExceeded, Ok("null")),
            record(6, Some(5), "doubt", "4"),
        ])
        .unwrap()
    }

    #[test]
    fn a_call_is_a_line() {
        let drawn = sample().render(&TreeStyle { width: 120, ..TreeStyle::default() });
        let expected = r#"
execution  1.24s  ✓  431 in, 120 out  2 calls not recorded  {"input_bytes":5} → [1]
├─ generate  812ms  ✓  {"idea":"kettle"} → "kettle\u{202e}"
│  ├─ llm.complete  810ms  ✓  431 in, 120 out  {"messages":[]} → solar
│  └─ llm.complete  85µs  ✗ error  boom\u{1b}[2J
└─ critique\n\u{7}  2m05s  ✗ budget exceeded
   └─ doubt  … open  4
"#;
        assert_eq!(drawn, expected.trim_start());
    }

    #[test]
    fn ascii_and_narrow_terminals_are_served() {
        let drawn = sample().render(&TreeStyle { width: 60, colour: Colour::Never, ascii: true });
        let expected = r#"
execution  1.24s  +  431 in, 120 out  2 calls not recorded
|- generate  812ms  +  {"idea":"kettle"} -> "kettle\u{202e}"
|  |- llm.complete  810ms  +  431 in, 120 out  -> solar
|  `- llm.complete  85us  x error  boom\u{1b}[2J
`- critique\n\u{7}  2m05s  x budget exceeded
   `- doubt  ~ open  4
"#;
        assert_eq!(drawn, expected.trim_start());
    }

    #[test]
    fn colours_are_the_only_escape_sequences() {
        let drawn = sample().render(&TreeStyle { width: 60, colour: Colour::Ansi, ascii: false });
        assert!(drawn.contains("\x1b[32m  ✓\x1b[0m"), "{drawn}");
        let plain = ["0", "1", "2", "31", "32", "33"]
            .iter()
            .fold(drawn, |text, code| text.replace(&format!("\x1b[{code}m"), ""));
        assert_eq!(plain, sample().render(&TreeStyle { width: 60, ..TreeStyle::default() }));
    }

    proptest! {
        #[test]
        fn lines_fit_and_are_clean(
            texts in proptest::collection::vec(any::<String>(), 3),
            width in 24_usize..140,
            ascii in any::<bool>(),
        ) {
            let [operation, inputs, output] = texts.try_into().unwrap();
            let root = record(1, None, "execution", "");
            let call = ended(record(2, Some(1), &operation, &inputs), 7, CallStatus::Ok, Ok(&output));
            let failed = ended(record(3, Some(2), &output, &inputs), 7, CallStatus::Trapped, Err(&operation));
            let style = TreeStyle { width, colour: Colour::Never, ascii };
            let drawn = CallTree::build([root, call, failed]).unwrap().render(&style);
            prop_assert_eq!(drawn.lines().count(), 3);
            for line in drawn.lines() {
                prop_assert!(columns(line) <= width.max(BODY_MIN + 6), "{}", line);
                prop_assert_eq!(sanitize_line(line), line);
                prop_assert!(line.is_ascii() || !ascii);
            }
        }
    }
}
