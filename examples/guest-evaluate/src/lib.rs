//! Evaluates a model over a dataset: every case is traced and scored, a few at a time.
//!
//! The input is `{"dataset": [{"question": "...", "expected": "..."}], "model": "..."}`. Both are optional: without a
//! dataset a small one is used, and without a model the user's fast tier.

use holm_guest::{Error, Result, events, info, llm, trace};
use serde::{Deserialize, Serialize};
use serde_json::json;

holm_guest::entry!(run);

/// How many cases are under way at once.
const CONCURRENT: usize = 4;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    dataset: Vec<Case>,
    model: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Case {
    question: String,
    expected: String,
}

#[derive(Serialize)]
struct Output {
    /// A reference to the dataset, as it was published.
    dataset: String,
    cases: usize,
    correct: usize,
    accuracy: f64,
    input_tokens: u64,
    output_tokens: u64,
    results: Vec<CaseResult>,
}

#[derive(Serialize)]
struct CaseResult {
    question: String,
    expected: String,
    answer: Option<String>,
    /// Why there is no answer.
    error: Option<String>,
    correct: bool,
}

fn run(input: Input) -> Result<Output> {
    let Input { mut dataset, model } = input;
    if dataset.is_empty() {
        dataset = default_dataset();
    }
    let cases = dataset.len();
    let reference = trace::publish("dataset", &dataset)?;
    let evaluation = trace::call("evaluate", &json!({ "dataset": reference, "model": model }))?;
    let mut output = Output {
        dataset: reference,
        cases,
        correct: 0,
        accuracy: 0.0,
        input_tokens: 0,
        output_tokens: 0,
        results: Vec::with_capacity(cases),
    };

    events::progress(0, cases as u64, "")?;
    for chunk in dataset.chunks(CONCURRENT) {
        let mut calls = Vec::new();
        let mut pending = Vec::new();
        for case in chunk {
            calls.push(evaluation.child("case", case)?);
            pending.push(ask(case, model.as_deref()).submit()?);
        }
        for ((case, call), answer) in chunk.iter().zip(calls).zip(llm::join(pending)) {
            let result = finish(case, call, answer, &mut output)?;
            output.correct += usize::from(result.correct);
            output.results.push(result);
            events::progress(output.results.len() as u64, cases as u64, &case.question)?;
        }
    }

    output.accuracy = output.correct as f64 / cases as f64;
    info!("{} of {cases} cases correct", output.correct);
    evaluation.finish(&json!({ "correct": output.correct, "accuracy": output.accuracy }))?;
    Ok(output)
}

fn ask(case: &Case, model: Option<&str>) -> llm::Request {
    let request = llm::request()
        .system("Answer with the fact alone, in as few words as possible.")
        .user(&case.question)
        .temperature(0.0)
        .max_tokens(100);
    match model {
        Some(model) => request.model(model),
        None => request.tier(llm::Tier::Fast),
    }
}

/// Scores one answer and ends its call. A model that fails a case has failed that case only.
fn finish(case: &Case, call: trace::Call, answer: Result<llm::Response>, totals: &mut Output) -> Result<CaseResult> {
    let (answer, error) = match answer {
        Ok(response) => {
            totals.input_tokens += response.usage.input_tokens;
            totals.output_tokens += response.usage.output_tokens;
            (Some(response.text()), None)
        }
        Err(error @ (Error::AllFailed(_) | Error::Refused(_))) => (None, Some(error.to_string())),
        Err(error) => return Err(error),
    };
    let correct = answer.as_deref().is_some_and(|answer| is_correct(answer, &case.expected));
    let score = if correct { 1.0 } else { 0.0 };
    trace::feedback(&call.reference(), "score", &json!({ "correct": correct, "score": score }))?;
    match &error {
        None => call.finish(&answer)?,
        Some(error) => call.fail(error)?,
    }
    Ok(CaseResult { question: case.question.clone(), expected: case.expected.clone(), answer, error, correct })
}

/// Whether the words of `expected` stand in the answer, whatever the case and punctuation.
fn is_correct(answer: &str, expected: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|it: char| !it.is_alphanumeric());
        words.filter(|it| !it.is_empty()).map(str::to_lowercase).collect()
    };
    let (answer, expected) = (words(answer), words(expected));
    !expected.is_empty() && answer.windows(expected.len()).any(|it| it == expected)
}

fn default_dataset() -> Vec<Case> {
    let facts = [
        ("What is the capital of Norway?", "Oslo"),
        ("How many legs does a spider have?", "8"),
        ("Which gas do plants take up from the air?", "carbon dioxide"),
        ("Who wrote the play Faust?", "Goethe"),
        ("What is 17 times 3?", "51"),
        ("Which planet is the largest of the solar system?", "Jupiter"),
    ];
    let case = |(question, expected): (&str, &str)| Case { question: question.into(), expected: expected.into() };
    facts.map(case).into()
}
