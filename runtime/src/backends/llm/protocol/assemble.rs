//! An answer that comes in pieces.

use super::{Answer, Malformed, Tokens};
use crate::host_api::llm::{FinishReason, Part, ToolCall};

/// Tools that one answer may ask for. A provider numbers them, and a number is not a reason to make room.
const TOOL_CALLS_MAX: usize = 128;

/// What all tool calls of an answer may hold, in bytes: they are given to nobody before they are whole.
const CALL_BYTES_MAX: usize = 4 << 20;

/// The texts and tool calls of an answer that is being written, in order.
#[derive(Default)]
pub(in super::super) struct Assembly {
    parts: Vec<Part>,
    /// Tool calls under way: the provider's number, and the call as far as it came.
    open: Vec<(u64, ToolCall)>,
    calls: usize,
    /// What tool calls hold.
    bytes: usize,
}

impl Assembly {
    /// The text goes on.
    pub(in super::super) fn text(&mut self, piece: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.push_str(piece),
            _ => self.parts.push(Part::Text(piece.to_owned())),
        }
    }

    /// A tool call begins or goes on: the arguments are added to those that are there of the call with this number. Some
    /// servers say id and name with every piece.
    pub(in super::super) fn tool_call(
        &mut self,
        number: u64,
        id: &str,
        name: &str,
        arguments: &str,
    ) -> Result<(), Malformed> {
        let at = match self.open.iter().position(|(open, _)| *open == number) {
            Some(at) => at,
            None => {
                self.calls += 1;
                if self.calls > TOOL_CALLS_MAX {
                    return Err(Malformed(format!("the answer asks for more than {TOOL_CALLS_MAX} tools")));
                }
                self.open.push((number, ToolCall { id: String::new(), name: String::new(), arguments: String::new() }));
                self.open.len() - 1
            }
        };
        self.bytes = self.bytes.saturating_add(id.len() + name.len() + arguments.len());
        if self.bytes > CALL_BYTES_MAX {
            return Err(Malformed(format!("the tool calls of the answer have more than {CALL_BYTES_MAX} bytes")));
        }
        if let Some((_, call)) = self.open.get_mut(at) {
            for (known, said) in [(&mut call.id, id), (&mut call.name, name)] {
                if known.is_empty() {
                    known.push_str(said);
                }
            }
            call.arguments.push_str(arguments);
        }
        Ok(())
    }

    /// The call with this number is whole. Nothing if there is none.
    pub(in super::super) fn close(&mut self, number: u64) -> Option<ToolCall> {
        let at = self.open.iter().position(|(open, _)| *open == number)?;
        let (_, call) = self.open.remove(at);
        Some(self.whole(call))
    }

    /// All calls are whole, for providers that do not say where one ends.
    pub(in super::super) fn close_all(&mut self) -> Vec<ToolCall> {
        std::mem::take(&mut self.open).into_iter().map(|(_, call)| self.whole(call)).collect()
    }

    fn whole(&mut self, mut call: ToolCall) -> ToolCall {
        if call.arguments.is_empty() {
            // A tool without parameters.
            call.arguments.push_str("{}");
        }
        if call.id.is_empty() {
            call.id = format!("call_{}", self.parts.len());
        }
        self.parts.push(Part::ToolCall(call.clone()));
        call
    }

    /// The whole answer.
    pub(in super::super) fn answer(mut self, finish_reason: FinishReason, tokens: Tokens) -> Answer {
        self.close_all();
        Answer { parts: self.parts, finish_reason, tokens }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop there")]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_answer() {
        let mut assembly = Assembly::default();
        assembly.text("Let me ");
        assembly.text("see.");
        assembly.tool_call(0, "call_1", "add", "{\"a\"").unwrap();
        assembly.tool_call(1, "", "now", "").unwrap();
        assembly.tool_call(0, "call_1", "", ":1}").unwrap();
        let first = assembly.close(0).unwrap();
        assert_eq!((first.name.as_str(), first.arguments.as_str()), ("add", "{\"a\":1}"));
        assert!(assembly.close(7).is_none());
        let answer = assembly.answer(FinishReason::ToolCalls, Tokens::default());
        assert_eq!(answer.parts.len(), 3);
        assert!(
            matches!(answer.parts.last(), Some(Part::ToolCall(call)) if call.arguments == "{}" && call.id == "call_2")
        );
    }

    #[test]
    fn a_number_is_no_reason_to_make_room() {
        let mut assembly = Assembly::default();
        assembly.tool_call(u64::MAX, "x", "y", "").unwrap();
        for number in 0..TOOL_CALLS_MAX as u64 - 1 {
            assembly.tool_call(number, "x", "y", "").unwrap();
        }
        assert!(assembly.tool_call(500, "x", "y", "").is_err());
    }
}
