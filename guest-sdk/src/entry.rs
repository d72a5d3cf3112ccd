//! The entry point: from the host's text to typed values and back.

use std::fmt::Display;
use std::panic::{self, PanicHookInfo};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::events::{self, Level};
use crate::json;

/// Makes `run` the workload's entry point.
///
/// `run` is a function `fn(In) -> Result<Out, E>`:
///
/// - `In` is any type that serde deserializes. The input is read as JSON. An input that is not JSON counts as one
///   JSON string, so a `String` takes `tea` as well as `"tea"`. An empty input counts as `null`, `""` or `{}`,
///   whichever `In` accepts first, so a type whose fields all have defaults needs no input.
/// - `Out` is any type that serde serializes; it is written as JSON, a `String` with its quotes.
/// - [`Text`](crate::Text) as `In` or `Out` is the text itself, as it is.
/// - `E` is anything with [`Display`], written with `{:#}`, which for `anyhow::Error` is the whole chain.
///
/// A panic ends the execution as trapped; its message is logged as an error before.
///
/// ```
/// use holm_guest::{Result, Text, llm};
///
/// holm_guest::entry!(run);
///
/// fn run(topic: String) -> Result<Text> {
///     let answer = llm::request().user(format!("A haiku about {topic}")).send()?;
///     Ok(Text(answer.text()))
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        const _: () = {
            struct Workload;

            impl $crate::bindings::Guest for Workload {
                fn run(
                    input: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, ::std::string::String> {
                    $crate::__private::invoke($run, input)
                }
            }

    $crate::bindings::export!(Workload with_types_in $crate::bindings);
        };
    };
}

/// Raw text as a workload's input or output, where JSON is not wanted. See [`entry!`](crate::entry!).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub String);

/// What a workload can take: any type that serde deserializes, and [`Text`].
pub trait Input: Sized {
    /// Reads the input.
    fn read(text: String) -> crate::Result<Self>;
}

impl<T: DeserializeOwned> Input for T {
    fn read(text: String) -> crate::Result<Self> {
        json::read("input", &text)
    }
}

impl Input for Text {
    fn read(text: String) -> crate::Result<Self> {
        Ok(Text(text))
    }
}

/// What a workload can return: any type that serde serializes, and [`Text`].
pub trait Output {
    /// Writes the output.
    fn write(self) -> crate::Result<String>;
}

impl<T: Serialize> Output for T {
    fn write(self) -> crate::Result<String> {
        json::write("output", &self)
    }
}

impl Output for Text {
    fn write(self) -> crate::Result<String> {
        Ok(self.0)
    }
}

/// What [`entry!`](crate::entry!) expands to.
pub fn invoke<I: Input, O: Output, E: Display>(
    run: impl FnOnce(I) -> Result<O, E>,
    input: String,
) -> Result<String, String> {
    // On other targets there is no host to log to, only tests.
    if cfg!(target_family = "wasm") {
        panic::set_hook(Box::new(log_panic));
    }
    let input = I::read(input).map_err(|error| error.to_string())?;
    let output = run(input).map_err(|error| format!("{error:#}"))?;
    output.write().map_err(|error| error.to_string())
}

/// The log is where a workload's author looks; stderr is what is left when it is denied.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.to_string();
    if events::log(Level::Error, &message).is_err() {
        eprintln!("{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_passes_as_it_is_and_values_pass_as_json() {
        let echo = |text: Text| Ok::<_, String>(text);
        assert_eq!(invoke(echo, "{\"a\":1} ".into()), Ok("{\"a\":1} ".into()));
        let double = |n: u32| Ok::<_, String>(n * 2);
        assert_eq!(invoke(double, "21".into()), Ok("42".into()));
        let quoted = |text: String| Ok::<_, String>(text);
        assert_eq!(invoke(quoted, "tea".into()), Ok("\"tea\"".into()));
    }

    #[test]
    fn errors_are_texts() {
        let fail = |_: Text| Err::<(), _>("no tea");
        assert_eq!(invoke(fail, String::new()), Err("no tea".into()));
        let double = |n: u32| Ok::<_, String>(n * 2);
        assert_eq!(
            invoke(double, "true".into()),
            Err("input: invalid type: boolean `true`, expected u32 at line 1 column 4".into())
        );
    }
}
