//! Five agents on one idea: a generator has it; a critic, an advocate and a skeptic look at it at the same time;
//! an improver makes the best of what they said.
//!
//! The input is a topic, as plain text or as `{"topic": "..."}`.

use holm_guest::{Error, Result, events, info, llm, trace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

holm_guest::entry!(run);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a topic, as text or as {\"topic\": \"...\"}")]
enum Input {
    Object { topic: String },
    Text(String),
}

#[derive(Serialize)]
struct Output {
    topic: String,
    idea: Idea,
    /// The mean of the reviewers' scores, 0 to 10.
    score: f64,
    criticism: String,
    advocacy: String,
    doubts: String,
    improved: Idea,
}

#[derive(Deserialize, Serialize)]
struct Idea {
    title: String,
    summary: String,
}

#[derive(Deserialize, Serialize)]
struct Review {
    opinion: String,
    score: u8,
}

/// A role that a model plays.
struct Agent {
    name: &'static str,
    prompt: &'static str,
    tier: llm::Tier,
}

const GENERATOR: Agent = Agent {
    name: "generator",
    prompt: "You have ideas. Propose one that is original and can be carried out with modest means.",
    tier: llm::Tier::Balanced,
};
const REVIEWERS: [Agent; 3] = [
    Agent {
        name: "critic",
        prompt: "You are a critic. Say what is weak about the idea, and score it from 0 to 10.",
        tier: llm::Tier::Fast,
    },
    Agent {
        name: "advocate",
        prompt: "You are an advocate. Say what is strong about the idea, and score it from 0 to 10.",
        tier: llm::Tier::Fast,
    },
    Agent {
        name: "skeptic",
        prompt: "You are a skeptic. Say what the idea takes for granted, and score it from 0 to 10.",
        tier: llm::Tier::Fast,
    },
];
const IMPROVER: Agent = Agent {
    name: "improver",
    prompt: "You improve ideas. Keep the strengths, and answer the criticism and the doubts.",
    tier: llm::Tier::Quality,
};

fn run(input: Input) -> Result<Output> {
    let (Input::Object { topic } | Input::Text(topic)) = input;
    if topic.trim().is_empty() {
        return Err(Error::Invalid("the topic is empty".into()));
    }
    info!("five agents on `{topic}`");

    events::progress(0, 3, "having an idea")?;
    let idea = have_idea(&GENERATOR, &json!({ "topic": topic }))?;

    events::progress(1, 3, "debating it")?;
    let reviews = review(&idea)?;
    let score = reviews.iter().map(|review| f64::from(review.score)).sum::<f64>() / 3.0;
    let [criticism, advocacy, doubts] = reviews.map(|review| review.opinion);

    events::progress(2, 3, "improving it")?;
    let debate = json!({
        "idea": idea, "criticism": criticism, "advocacy": advocacy, "doubts": doubts,
    });
    let improved = have_idea(&IMPROVER, &debate)?;

    events::progress(3, 3, "done")?;
    Ok(Output { topic, idea, score, criticism, advocacy, doubts, improved })
}

/// One agent, one answer: traced as a call, with the request to the model as its child.
fn have_idea(agent: &Agent, task: &Value) -> Result<Idea> {
    trace::scope(agent.name, task, |_call| agent.request(task).schema(&idea_schema()).send_json())
}

/// Three agents at the same time. Their calls are siblings, each open while its request is under way.
fn review(idea: &Idea) -> Result<[Review; 3]> {
    let task = json!({ "idea": idea });
    let debate = trace::call("debate", &task)?;
    let mut calls = Vec::new();
    let mut pending = Vec::new();
    for agent in &REVIEWERS {
        calls.push(debate.child(agent.name, &task)?);
        pending.push(agent.request(&task).schema(&review_schema()).submit()?);
    }

    let mut reviews = Vec::new();
    for (call, answer) in calls.into_iter().zip(llm::join(pending)) {
        let review: Review = answer?.json()?;
        call.finish(&review)?;
        reviews.push(review);
    }
    debate.finish(&reviews)?;
    Ok(reviews.try_into().unwrap_or_else(|_| unreachable!("one review per reviewer")))
}

impl Agent {
    fn request(&self, task: &Value) -> llm::Request {
        llm::request().system(self.prompt).user(task.to_string()).tier(self.tier).max_tokens(800)
    }
}

fn idea_schema() -> Value {
    json!({
        "type": "object",
        "properties": { "title": { "type": "string" }, "summary": { "type": "string" } },
        "required": ["title", "summary"],
        "additionalProperties": false,
    })
}

fn review_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "opinion": { "type": "string" },
            "score": { "type": "integer", "minimum": 0, "maximum": 10 },
        },
        "required": ["opinion", "score"],
        "additionalProperties": false,
    })
}
