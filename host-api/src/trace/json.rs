//! JSON as text: what a trace keeps of inputs, outputs, attributes and objects.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{self, SerializeMap as _, SerializeSeq as _};
use serde::{Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Deeper nested JSON is kept as a JSON string of its text. A tree of calls shows values inside its own
/// nesting, and what it shows has to stay below the 128 levels that readers commonly accept.
const NESTING_MAX: usize = 60;

/// A JSON value as its canonical text: keys sorted by their bytes, of equal keys the last, no white
/// space, numbers and strings as `serde_json` writes them. Values are equal if and only if their texts are.
///
/// It is text because parsed JSON takes up to eighty times the memory of its text: what a guest pays for
/// by the byte has to be kept by the byte. It is canonical also so that a guest's line breaks never
/// divide what is written as a line.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// Text of a guest: JSON as the value that it is, and any other text as a JSON string.
    pub fn from_text(text: &str) -> Self {
        let mut source = serde_json::Deserializer::from_str(text);
        let mut writer = Writer { out: Vec::with_capacity(text.len()), entries: Vec::new() };
        match Canonical::new(&mut writer).deserialize(&mut source).and_then(|()| source.end()) {
            Ok(()) => Json::from_bytes(writer.out),
            Err(_) => Json::string(text),
        }
    }

    /// A value of the host's.
    pub fn from_value(value: &Value) -> Self {
        let mut writer = Writer::default();
        match Canonical::new(&mut writer).deserialize(value) {
            Ok(()) => Json::from_bytes(writer.out),
            Err(_) => Json::string(&value.to_string()),
        }
    }

    /// Text as a JSON string, also if it is JSON.
    pub fn string(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 2);
        write(&mut out, text);
        Json::from_bytes(out)
    }

    /// A value of the host's whose fields are sorted already.
    pub(super) fn from_sorted(value: &impl Serialize) -> Self {
        let mut out = Vec::with_capacity(128);
        write(&mut out, value);
        Json::from_bytes(out)
    }

    fn from_bytes(out: Vec<u8>) -> Self {
        match String::from_utf8(out) {
            Ok(text) => Json(text.into()),
            // `serde_json` writes nothing but UTF-8.
            Err(error) => Json(String::from_utf8_lossy(error.as_bytes()).into()),
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value, parsed: mind its size.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Json(number.to_string().into())
    }
}

/// It serialises as the value that it is, a piece at a time: the value is never in memory as a whole.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::Deserializer::from_str(&self.0).deserialize_any(Copy(serializer)).map_err(ser::Error::custom)
    }
}

/// Writing to memory cannot fail, and numbers and strings always can be written.
fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    _ = serde_json::to_writer(out, value);
}

/// Canonical text under way.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    /// Those of all objects that are being written, the outer ones first. Guests send millions of small
    /// objects: a list for each of them would take most of the time.
    entries: Vec<Entry>,
}

/// Where in the text an entry of an object is, its comma included.
struct Entry {
    begin: usize,
    key_end: usize,
    end: usize,
}

impl Writer {
    /// Puts the entries of an object in order: those from `first` on.
    fn sort(&mut self, first: usize) {
        let Writer { out, entries } = self;
        let own = entries.get_mut(first..).unwrap_or_default();
        // Between the quotes. Keys are equal if and only if they are equal as they are written.
        let key = |entry: &Entry| out.get(entry.begin + 1..entry.key_end - 1).unwrap_or_default();
        if own.iter().any(|entry| key(entry).contains(&b'\\')) {
            let quoted = |entry: &Entry| out.get(entry.begin..entry.key_end).unwrap_or_default();
            own.sort_by_cached_key(|entry| serde_json::from_slice::<String>(quoted(entry)).unwrap_or_default());
        } else if own.is_sorted_by(|a, b| key(a) < key(b)) {
            return;
        } else {
            own.sort_by(|a, b| key(a).cmp(key(b)));
        }
        let Some(begin) = own.iter().map(|entry| entry.begin).min() else { return };
        let mut sorted = Vec::with_capacity(out.len() - begin);
        let mut own = own.iter().peekable();
        while let Some(entry) = own.next() {
            let is_last_of_its_key = own.peek().is_none_or(|next| key(next) != key(entry));
            if is_last_of_its_key {
                sorted.extend_from_slice(out.get(entry.begin..entry.end).unwrap_or_default());
            }
        }
        out.truncate(begin);
        out.append(&mut sorted);
    }
}

/// Writes the canonical text of what it visits.
struct Canonical<'a> {
    writer: &'a mut Writer,
    nesting_left: usize,
}

impl<'a> Canonical<'a> {
    fn new(writer: &'a mut Writer) -> Self {
        Canonical { writer, nesting_left: NESTING_MAX }
    }

    fn inner<E: de::Error>(&mut self) -> Result<Canonical<'_>, E> {
        match self.nesting_left.checked_sub(1) {
            Some(nesting_left) => Ok(Canonical { writer: self.writer, nesting_left }),
            None => Err(E::custom("nested too deep")),
        }
    }

    fn write<E>(self, value: impl Serialize) -> Result<(), E> {
        write(&mut self.writer.out, &value);
        Ok(())
    }

    /// Ends a list or object: there is no comma after the last.
    fn close(&mut self, begin: usize, bracket: u8) {
        let out = &mut self.writer.out;
        if out.len() > begin {
            out.pop();
        }
        out.push(bracket);
    }
}

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

macro_rules! write_scalars {
    ($($visit:ident $type:ty,)*) => {
        $(fn $visit<E>(self, value: $type) -> Result<(), E> {
            self.write(value)
        })*
    };
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.write(())
    }

    write_scalars! {
        visit_bool bool,
        visit_i64 i64,
        visit_u64 u64,
        visit_f64 f64,
        visit_str &str,
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.writer.out.push(b'[');
        let begin = self.writer.out.len();
        while seq.next_element_seed(self.inner()?)?.is_some() {
            self.writer.out.push(b',');
        }
        self.close(begin, b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.writer.out.push(b'{');
        let (begin, first) = (self.writer.out.len(), self.writer.entries.len());
        let mut entry = begin;
        while map.next_key_seed(self.inner()?)?.is_some() {
            let key_end = self.writer.out.len();
            self.writer.out.push(b':');
            map.next_value_seed(self.inner()?)?;
            self.writer.out.push(b',');
            let end = self.writer.out.len();
            self.writer.entries.push(Entry { begin: entry, key_end, end });
            entry = end;
        }
        self.writer.sort(first);
        self.writer.entries.truncate(first);
        self.close(begin, b'}');
        Ok(())
    }
}

/// Serialises what it visits.
struct Copy<S>(S);

macro_rules! copy_scalars {
    ($($visit:ident $serialize:ident $type:ty,)*) => {
        $(fn $visit<E: de::Error>(self, value: $type) -> Result<S::Ok, E> {
            self.0.$serialize(value).map_err(E::custom)
        })*
    };
}

impl<'de, S: Serializer> Visitor<'de> for Copy<S> {
    type Value = S::Ok;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<S::Ok, E> {
        self.0.serialize_unit().map_err(E::custom)
    }

    copy_scalars! {
        visit_bool serialize_bool bool,
        visit_i64 serialize_i64 i64,
        visit_u64 serialize_u64 u64,
        visit_f64 serialize_f64 f64,
        visit_str serialize_str &str,
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<S::Ok, A::Error> {
        let mut out = self.0.serialize_seq(None).map_err(de::Error::custom)?;
        while seq.next_element_seed(PutElement(&mut out))?.is_some() {}
        out.end().map_err(de::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<S::Ok, A::Error> {
        let mut out = self.0.serialize_map(None).map_err(de::Error::custom)?;
        while let Some(key) = map.next_key::<String>()? {
            out.serialize_key(&key).map_err(de::Error::custom)?;
            map.next_value_seed(PutValue(&mut out))?;
        }
        out.end().map_err(de::Error::custom)
    }
}

/// Serialises the next element of a list.
struct PutElement<'a, S>(&'a mut S);

impl<'de, S: ser::SerializeSeq> DeserializeSeed<'de> for PutElement<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        self.0.serialize_element(&Once(Cell::new(Some(source)))).map_err(de::Error::custom)
    }
}

/// Serialises the value of the key that was written last.
struct PutValue<'a, S>(&'a mut S);

impl<'de, S: ser::SerializeMap> DeserializeSeed<'de> for PutValue<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        self.0.serialize_value(&Once(Cell::new(Some(source)))).map_err(de::Error::custom)
    }
}

/// What is still to be read, as something that can be serialised: one time.
struct Once<D>(Cell<Option<D>>);

impl<'de, D: Deserializer<'de>> Serialize for Once<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.take() {
            Some(source) => source.deserialize_any(Copy(serializer)).map_err(ser::Error::custom),
            None => Err(ser::Error::custom("JSON was to be written twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_canonical_and_other_text_is_a_string() {
        for (text, kept) in [
            (" {\"b\" : 1,\n\"a\":[ ],\"b\":2} ", r#"{"a":[],"b":2}"#),
            (r#"{"b":{"z":1,"y":[1,{}]},"aa":1,"a":2}"#, r#"{"a":2,"aa":1,"b":{"y":[1,{}],"z":1}}"#),
            (r#""\u0041\/\u001b""#, r#""A/\u001b""#),
            (r#"{"a!":1,"a":2,"a\n":3,"a\"":4,"é":5,"\u00e9":6}"#, r#"{"a":2,"a\n":3,"a!":1,"a\"":4,"é":6}"#),
            ("1e2", "100.0"),
            ("null", "null"),
            ("", r#""""#),
            ("hello", r#""hello""#),
            ("{} x", r#""{} x""#),
            ("{a:1}", r#""{a:1}""#),
            ("NaN", r#""NaN""#),
            ("1e999", r#""1e999""#),
            (r#""\ud800""#, r#""\"\\ud800\"""#),
        ] {
            assert_eq!(Json::from_text(text).as_str(), kept);
        }
        assert_eq!(Json::string("[1]").as_str(), r#""[1]""#);
    }

    #[test]
    fn what_nests_too_deep_is_kept_as_text() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(Json::from_text(&nested(60)).as_str(), nested(60));
        for levels in [61, 128, 100_000] {
            assert_eq!(Json::from_text(&nested(levels)), Json::string(&nested(levels)));
        }
        let deep = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert_eq!(Json::from_value(&deep), Json::string(&deep.to_string()));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..6).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_is_what_it_was(value in value()) {
            let json = Json::from_value(&value);
            prop_assert_eq!(json.to_value(), value.clone());
            prop_assert_eq!(Json::from_text(&serde_json::to_string_pretty(&value).unwrap_or_default()), json.clone());
            prop_assert_eq!(serde_json::to_string(&json).unwrap_or_default(), json.as_str());
            prop_assert_eq!(serde_json::to_value(&json).unwrap_or_default(), value);
            prop_assert!(!json.as_str().contains('\n'));
        }

        #[test]
        fn any_text_is_kept(text in any::<String>()) {
            let json = Json::from_text(&text);
            prop_assert_eq!(Json::from_text(json.as_str()), json);
        }
    }
}
