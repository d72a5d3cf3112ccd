//! JSON at the border: what the host passes is text.

use serde::Serialize;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::{Error, Result};

/// Reads `text` by the rule that [`entry!`](crate::entry!) documents. `what` names the text in an error.
pub(crate) fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    if text.trim().is_empty() {
        return read_empty(what);
    }
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if (error.is_syntax() || error.is_eof())
        && let Ok(value) = read_string(text)
    {
        return Ok(value);
    }
    let is_other = if error.is_data() { "" } else { " is not JSON" };
    Err(Error::Json(format!("{what}{is_other}: {error}")))
}

/// Nothing at all: `null`, the empty string or an object without fields.
fn read_empty<T: DeserializeOwned>(what: &str) -> Result<T> {
    if let Ok(value) = serde_json::from_str("null") {
        return Ok(value);
    }
    if let Ok(value) = read_string("") {
        return Ok(value);
    }
    serde_json::from_str("{}").map_err(|error| match error.to_string() {
        missing if missing.starts_with("missing field") => {
            Error::Json(format!("{what} is empty: {}", missing.trim_end_matches(" at line 1 column 2")))
        }
        _ => Error::Json(format!("{what} is empty")),
    })
}

fn read_string<T: DeserializeOwned>(text: &str) -> Result<T, ValueError> {
    let deserializer: StrDeserializer<'_, ValueError> = text.into_deserializer();
    T::deserialize(deserializer)
}

/// Writes `value` as JSON. `what` names it in an error.
pub(crate) fn write<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Json(format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Topic {
        topic: String,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Options {
        cases: Vec<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Input {
        Topic(Topic),
        Text(String),
    }

    fn fails<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        read::<T>("input", text).unwrap_err().to_string()
    }

    #[test]
    fn json_is_read_as_json() {
        let topic = Topic { topic: "tea".into() };
        assert_eq!(read("input", r#"{"topic":"tea"}"#), Ok(topic));
        assert_eq!(read("input", r#""tea""#), Ok("tea".to_string()));
        assert_eq!(read("input", "7"), Ok(7));
    }

    #[test]
    fn text_that_is_not_json_is_a_string() {
        assert_eq!(read("input", "tea, please"), Ok("tea, please".to_string()));
        assert_eq!(read("input", "{tea"), Ok(Input::Text("{tea".into())));
        assert_eq!(read("input", "tea"), Ok(json!("tea")));
    }

    #[test]
    fn an_empty_text_is_whatever_the_type_accepts() {
        assert_eq!(read("input", ""), Ok(()));
        assert_eq!(read("input", " \n"), Ok(None::<Topic>));
        assert_eq!(read("input", ""), Ok(Value::Null));
        assert_eq!(read("input", ""), Ok(String::new()));
        assert_eq!(read("input", ""), Ok(Options::default()));
        assert_eq!(fails::<Topic>(""), "input is empty: missing field `topic`");
        assert_eq!(fails::<u32>(""), "input is empty");
    }

    #[test]
    fn an_error_is_about_the_json_and_not_about_the_string() {
        assert_eq!(fails::<Topic>(r#"{"topic": "#), "input is not JSON: EOF while parsing a value at line 1 column 10");
        assert_eq!(fails::<Topic>("{}"), "input: missing field `topic` at line 1 column 2");
        assert_eq!(fails::<String>("7"), "input: invalid type: integer `7`, expected a string at line 1 column 1");
    }
}
