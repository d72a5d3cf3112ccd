//! The calls of one execution as a tree.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize, Serializer};

use super::{CallEnd, CallId, CallKind, CallStart, CallStatus, Feedback, Json};

/// Calls nested deeper are shown as siblings of their parent on this level; their `parent` still says whose
/// they are. Guests nest as deep as their budget reaches, while trees are read, written and dropped by
/// functions that call themselves, and readers of JSON commonly stop at 128 levels.
const LEVELS_MAX: usize = 30;

/// A call as a backend keeps it: what a tree is made of.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// How it began.
    pub start: CallStart,
    /// When it ended; `None` while it is open.
    pub ended_at: Option<SystemTime>,
    /// How far it is, or how it ended.
    pub status: CallStatus,
    /// What came of it.
    pub output: Option<Json>,
    /// What went wrong.
    pub error: Option<String>,
    /// What is to be known of it besides.
    pub attributes: BTreeMap<String, Json>,
    /// Scores, reactions and notes, in the order in which they came.
    pub feedback: Vec<Feedback>,
}

impl CallRecord {
    /// A call that begins.
    pub fn new(start: CallStart) -> Self {
        CallRecord {
            start,
            ended_at: None,
            status: CallStatus::Open,
            output: None,
            error: None,
            attributes: BTreeMap::new(),
            feedback: Vec::new(),
        }
    }

    /// Takes in how it ended.
    pub fn end(&mut self, end: CallEnd) {
        self.ended_at = Some(end.ended_at);
        self.status = end.status;
        self.output = end.output;
        self.error = end.error;
        self.attributes.extend(end.attributes);
    }
}

/// A call with the calls that it is made of. Its JSON is stable: every field is always there.
#[derive(Clone, Debug, Serialize)]
pub struct CallTree {
    /// Its id.
    pub id: CallId,
    /// The call that it is part of; `None` for the root call.
    pub parent: Option<CallId>,
    /// Who made it.
    pub kind: CallKind,
    /// What is done.
    pub operation: Cow<'static, str>,
    /// How far it is, or how it ended.
    pub status: CallStatus,
    /// When it began; in JSON as RFC 3339 in UTC, to the microsecond.
    #[serde(serialize_with = "rfc3339")]
    pub started_at: SystemTime,
    /// How long it took; in JSON `duration_ms`, in milliseconds to the microsecond, and null while it is open.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Option<Duration>,
    /// What it is done with.
    pub inputs: Json,
    /// What came of it.
    pub output: Option<Json>,
    /// What went wrong.
    pub error: Option<String>,
    /// What is to be known of it besides.
    pub attributes: BTreeMap<String, Json>,
    /// Scores, reactions and notes.
    pub feedback: Vec<Feedback>,
    /// The calls that it is made of, in the order in which they were started.
    pub children: Vec<CallTree>,
}

impl CallTree {
    /// Makes a tree of the calls of one execution, in the order in which they were started, the root call
    /// first. A call whose parent is not among those before it is shown under the root call. `None` if there
    /// are no calls.
    pub fn build(records: impl IntoIterator<Item = CallRecord>) -> Option<Self> {
        let mut places = HashMap::new();
        let mut shown: Vec<(Option<usize>, CallTree)> = Vec::new();
        for (index, record) in records.into_iter().enumerate() {
            let place = Place::of(&record, index, &places);
            places.insert(record.start.id, place);
            shown.push((place.under, CallTree::from(record)));
        }
        // Children come after their parents: from the end on, each call is complete when its turn comes.
        while let Some((under, mut tree)) = shown.pop() {
            tree.children.reverse();
            match under.and_then(|parent| shown.get_mut(parent)) {
                Some((_, parent)) => parent.children.push(tree),
                None => return Some(tree),
            }
        }
        None
    }

    /// Tokens that a language model used in this call alone. A guest's own claims do not count.
    pub fn tokens(&self) -> Option<Tokens> {
        if self.kind != CallKind::Host {
            return None;
        }
        let attribute =
            |key| self.attributes.get(key).and_then(|value: &Json| serde_json::from_str(value.as_str()).ok());
        let claimed = attribute("usage").or_else(|| self.output.as_ref()?.usage());
        claimed.or_else(|| {
            let parse = |key| self.attributes.get(key).and_then(|value| value.as_str().parse().ok());
            Some(Tokens { input: parse("usage.input_tokens")?, output: parse("usage.output_tokens")? })
        })
    }
}

/// Tokens of language models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Tokens {
    /// Read by the model.
    #[serde(rename = "input_tokens")]
    pub input: u64,
    /// Written by the model.
    #[serde(rename = "output_tokens")]
    pub output: u64,
}

impl Json {
    /// The `usage` of an answer. The rest of the answer is read over, not kept.
    fn usage(&self) -> Option<Tokens> {
        #[derive(Deserialize)]
        struct Answer {
            usage: Tokens,
        }
        serde_json::from_str(self.as_str()).ok().map(|Answer { usage }| usage)
    }
}

/// Where a call is shown.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    level: usize,
    /// The index of the call that it is shown under; `None` for the root call.
    under: Option<usize>,
}

impl Place {
    fn of(record: &CallRecord, index: usize, places: &HashMap<CallId, Place>) -> Self {
        if index == 0 {
            return Place { index, level: 0, under: None };
        }
        match record.start.parent.and_then(|parent| places.get(&parent)) {
            Some(parent) if parent.level < LEVELS_MAX => {
                Place { index, level: parent.level + 1, under: Some(parent.index) }
            }
            Some(parent) => Place { index, ..*parent },
            None => Place { index, level: 1, under: Some(0) },
        }
    }
}

impl From<CallRecord> for CallTree {
    fn from(record: CallRecord) -> Self {
        let CallStart { id, parent, kind, operation, inputs, started_at } = record.start;
        CallTree {
            id,
            parent,
            kind,
            operation,
            status: record.status,
            started_at,
            duration: record.ended_at.map(|end| end.duration_since(started_at).unwrap_or_default()),
            inputs,
            output: record.output,
            error: record.error,
            attributes: record.attributes,
            feedback: record.feedback,
            children: Vec::new(),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "there are 285 years of microseconds in the precision")]
fn milliseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_f64(duration.as_micros() as f64 / 1000.0),
        None => serializer.serialize_none(),
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Rfc3339(*time))
}

struct Rfc3339(SystemTime);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil_date(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are taken to begin in March, so that the leap
/// day is a year's last, and are counted in cycles of 400.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next_year, month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test should stop there")]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> CallId {
        CallId(Uuid::from_u128(number))
    }

    fn record(number: u128, parent: Option<u128>) -> CallRecord {
        CallRecord::new(CallStart {
            id: id(number),
            parent: parent.map(id),
            kind: if parent.is_some() { CallKind::Host } else { CallKind::Execution },
            operation: format!("op{number}").into(),
            inputs: Json::from(1),
            started_at: UNIX_EPOCH + Duration::from_micros(1_763_691_907_000_250),
        })
    }

    fn shape(tree: &CallTree) -> String {
        let children: Vec<_> = tree.children.iter().map(shape).collect();
        format!("{}[{}]", tree.operation, children.join(" "))
    }

    #[test]
    fn children_are_under_their_parents_in_order_of_start() {
        let records = [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(1)), (5, Some(2)), (6, Some(99))];
        let tree = CallTree::build(records.map(|(number, parent)| record(number, parent))).unwrap();
        assert_eq!(shape(&tree), "op1[op2[op3[] op5[]] op4[] op6[]]");
        assert!(CallTree::build([]).is_none());
    }

    #[test]
    fn deep_nesting_is_shown_flat_and_stays_readable() {
        let nested = format!("{}{}", "[".repeat(60), "]".repeat(60));
        let records = (0..20_000).map(|number| {
            let mut record = record(number, number.checked_sub(1));
            record.start.inputs = Json::from_text(&nested);
            record
        });
        let tree = CallTree::build(records).unwrap();
        let written = serde_json::to_string(&tree).unwrap();
        let mut read: serde_json::Value = serde_json::from_str(&written).unwrap();
        for _ in 0..LEVELS_MAX - 1 {
            read = read["children"][0].take();
        }
        let siblings = read["children"].as_array().unwrap();
        assert_eq!(siblings.len(), 20_000 - LEVELS_MAX);
        assert_eq!(siblings.last().unwrap()["parent"], id(19_998).to_string());
    }

    #[test]
    fn the_json_is_stable() {
        let mut ended = record(2, Some(1));
        ended.attributes.insert("a".to_owned(), Json::from(1));
        ended.end(CallEnd {
            id: id(2),
            ended_at: ended.start.started_at + Duration::from_micros(1_250),
            status: CallStatus::Ok,
            output: Some(Json::from_text(r#"{"b":1.5}"#)),
            error: None,
            attributes: vec![("a".to_owned(), Json::string("x"))],
        });
        ended.feedback.push(Feedback { kind: "score".to_owned(), payload: Json::from(5) });
        let tree = CallTree::build([record(1, None), ended]).unwrap();
        assert_eq!(
            serde_json::to_string(&tree).unwrap(),
            concat!(
                r#"{"id":"00000000-0000-0000-0000-000000000001","parent":null,"kind":"execution","operation":"op1","#,
                r#""status":"open","started_at":"2025-11-21T02:25:07.000250Z","duration_ms":null,"inputs":1,"#,
                r#""output":null,"error":null,"attributes":{},"feedback":[],"children":["#,
                r#"{"id":"00000000-0000-0000-0000-000000000002","parent":"00000000-0000-0000-0000-000000000001","#,
                r#""kind":"host","operation":"op2","status":"ok","started_at":"2025-11-21T02:25:07.000250Z","#,
                r#""duration_ms":1.25,"inputs":1,"output":{"b":1.5},"error":null,"attributes":{"a":"x"},"#,
                r#""feedback":[{"kind":"score","payload":5}],"children":[]}]}"#,
            )
        );
    }

    #[test]
    fn dates_are_gregorian() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
        ] {
            assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), format!("{date}.000000Z"));
        }
    }

    #[test]
    fn tokens_come_from_the_host_alone() {
        let used = Tokens { input: 3, output: 4 };
        let answer = Json::from_text(r#"{"usage":{"input_tokens":3,"output_tokens":4,"cost_microusd":9},"parts":[]}"#);
        let mut tree = CallTree::from(record(2, Some(1)));
        assert_eq!(tree.tokens(), None);
        tree.output = Some(answer);
        assert_eq!(tree.tokens(), Some(used));
        tree.kind = CallKind::Guest;
        assert_eq!(tree.tokens(), None);

        let mut tree = CallTree::from(record(2, Some(1)));
        tree.attributes.insert("usage".to_owned(), Json::from_text(r#"{"input_tokens":3,"output_tokens":4}"#));
        assert_eq!(tree.tokens(), Some(used));
        tree.attributes =
            [("usage.input_tokens", 3), ("usage.output_tokens", 4)].map(|(k, v)| (k.to_owned(), Json::from(v))).into();
        assert_eq!(tree.tokens(), Some(used));
    }
}
