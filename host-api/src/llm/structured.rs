//! Answers that match a schema: checked here, and asked for again where they do not.

use super::context::{Asking, Failure};
use super::{AnswerSchema, FinishReason, LlmError, Message, Part, Request, Response, Role, Usage};

/// Most of an answer that does not match is shown to the model again, in bytes.
const SHOWN_BYTES_MAX: usize = 16 * 1024;

impl Asking {
    /// Asks until an answer matches, `repairs_max` times more than once. Every round takes from the budget before it.
    pub(super) async fn answer_in_schema(
        &mut self,
        mut request: Request,
        repairs_max: u32,
    ) -> Result<Response, Failure> {
        let Some(text) = request.response_schema.clone() else { return self.ask(request).await };
        let text = text.as_str();
        let meter = self.call.gate().meter();
        let schema = AnswerSchema::parse(text).inspect_err(|_| meter.owe_fuel(AnswerSchema::fuel_to_parse(text)))?;
        let (mut attempts, mut usage, mut cached) = (Vec::new(), Usage::default(), true);
        let mut asked = 0;
        loop {
            asked += 1;
            let mut response = self.ask(request.clone()).await.inspect_err(|_| self.reservation.tried(&attempts))?;
            attempts.append(&mut response.attempts);
            usage = usage.plus(response.usage);
            cached &= response.cached;
            self.reservation.round_used(&response);
            let checked = check(&schema, &mut response);
            self.call.gate().meter().owe_fuel(schema.take_fuel_owed());
            let failure = match checked {
                Ok(()) => return Ok(Response { attempts, usage, cached, ..response }),
                Err(Mismatch::ForGood(error)) => error,
                Err(Mismatch::AskAgain(why)) if asked > repairs_max => {
                    let (provider, model) = (&response.provider, &response.model);
                    LlmError::SchemaMismatch(format!("{provider}/{model}, asked {asked} times: {why}"))
                }
                Err(Mismatch::AskAgain(why)) => {
                    self.router.forget(&request);
                    request.messages.push(Message { role: Role::Assistant, parts: shown(response.parts) });
                    request.messages.push(Message::text(Role::User, again(&why, text)));
                    self.reservation.another_round(&mut request).inspect_err(|_| self.reservation.tried(&attempts))?;
                    continue;
                }
            };
            self.router.forget(&request);
            self.reservation.tried(&attempts);
            return Err(failure.into());
        }
    }
}

enum Mismatch {
    AskAgain(String),
    ForGood(LlmError),
}

/// Checks an answer. Of JSON in a Markdown fence, as many models write it, the fence goes.
fn check(schema: &AnswerSchema, response: &mut Response) -> Result<(), Mismatch> {
    match response.finish_reason {
        // The model wants to know something first; it answers after that.
        FinishReason::ToolCalls => return Ok(()),
        FinishReason::Length => {
            let why = "the answer was as long as it may be before it was whole (`max_tokens`)".to_owned();
            return Err(Mismatch::ForGood(LlmError::SchemaMismatch(why)));
        }
        FinishReason::ContentFilter => {
            let why = "the provider cut the answer for its content".to_owned();
            return Err(Mismatch::ForGood(LlmError::Refused(why)));
        }
        FinishReason::Stop | FinishReason::Other => {}
    }
    let text = response.text();
    let json = without_fence(&text);
    match schema.read(json) {
        Ok(_) => {
            response.parts = vec![Part::Text(json.to_owned())];
            Ok(())
        }
        Err(LlmError::SchemaMismatch(why)) => Err(Mismatch::AskAgain(why)),
        Err(other) => Err(Mismatch::ForGood(other)),
    }
}

fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let Some(inside) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return text };
    inside.strip_prefix("json").unwrap_or(inside).trim()
}

fn again(why: &str, schema: &str) -> String {
    format!(
        "That answer does not match: {why}\nAnswer again, with nothing but JSON that matches this schema:\n{schema}"
    )
}

/// Of the answer as much as helps: what is long costs the input of another round.
fn shown(parts: Vec<Part>) -> Vec<Part> {
    let mut left = SHOWN_BYTES_MAX;
    let text: String = parts
        .into_iter()
        .filter_map(|part| match part {
            Part::Text(mut text) => {
                text.truncate(text.floor_char_boundary(left));
                left = left.saturating_sub(text.len());
                Some(text)
            }
            _ => None,
        })
        .collect();
    // No provider takes a message without content.
    vec![Part::Text(if text.is_empty() { "(nothing)".to_owned() } else { text })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_go() {
        for text in ["{}", " {}\n", "```json\n{}\n```", "```\n{}```", "\n```json{}```\n"] {
            assert_eq!(without_fence(text), "{}", "{text:?}");
        }
        assert_eq!(without_fence("```json\n{}"), "```json\n{}");
    }
}
