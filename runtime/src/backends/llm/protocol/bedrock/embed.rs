//! Vectors: what the models of Bedrock understand that make them, each its own.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::super::read::{self, Rows, RowsVisitor};
use super::super::write;
use super::super::{Count, Framing, Malformed, Outgoing, Unsupported, Vectors};
use super::path;

/// Most texts that one request to Cohere's models takes.
const COHERE_TEXTS_MAX: usize = 96;

/// Amazon's models take one text a request; more requests than this are not made for one.
const TITAN_TEXTS_MAX: usize = 64;

#[derive(Serialize)]
struct Cohere<'a> {
    texts: &'a [String],
    /// It must be said, and is not known. Of texts that are compared with each other, it is the one that fits.
    input_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Titan<'a> {
    input_text: &'a str,
}

pub(super) fn encode(model: &str, inputs: &[String]) -> Result<Vec<Outgoing>, Unsupported> {
    // It may be the end of an ARN, and stand behind a region.
    let name = model.rsplit('/').next().unwrap_or(model);
    let is = |family: &str| {
        name.starts_with(family) || name.split_once('.').is_some_and(|(_, name)| name.starts_with(family))
    };
    let outgoing =
        |body| Ok(Outgoing { path: path(model, "invoke")?, headers: &[], body: body?, framing: Framing::Whole });
    if is("cohere.embed") {
        let bodies = inputs
            .chunks(COHERE_TEXTS_MAX)
            .map(|texts| outgoing(write::body(&Cohere { texts, input_type: "search_document" })));
        return bodies.collect();
    }
    if is("amazon.titan-embed") {
        if inputs.len() > TITAN_TEXTS_MAX {
            return Err(Unsupported(format!("this model takes {TITAN_TEXTS_MAX} texts at most, one by one")));
        }
        return inputs.iter().map(|input_text| outgoing(write::body(&Titan { input_text }))).collect();
    }
    Err(Unsupported("bedrock makes vectors only with the models `cohere.embed*` and `amazon.titan-embed*`".to_owned()))
}

/// What either answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Embedded {
    embeddings: Option<Embeddings>,
    embedding: Option<Vec<f32>>,
    #[serde(default)]
    input_text_token_count: Count,
}

pub(super) fn decode(body: &[u8]) -> Result<Vectors, Malformed> {
    let embedded: Embedded = serde_json::from_slice(body).map_err(|error| Malformed::json(&error))?;
    let rows = match (embedded.embeddings, embedded.embedding) {
        (Some(Embeddings(rows)), _) => rows,
        (None, Some(row)) => vec![row],
        (None, None) => return Err(Malformed("the answer has no vectors".to_owned())),
    };
    read::vectors(rows, embedded.input_text_token_count.0)
}

/// Cohere's vectors: a list, or lists by the type of the numbers.
struct Embeddings(Vec<Vec<f32>>);

impl<'de> Deserialize<'de> for Embeddings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EmbeddingsVisitor)
    }
}

struct EmbeddingsVisitor;

impl<'de> Visitor<'de> for EmbeddingsVisitor {
    type Value = Embeddings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("vectors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Embeddings, A::Error> {
        RowsVisitor(PhantomData).visit_seq(items).map(|Rows(rows)| Embeddings(rows))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Embeddings, A::Error> {
        let mut rows = Vec::new();
        while let Some(kind) = entries.next_key::<String>()? {
            if kind == "float" {
                rows = entries.next_value::<Rows<Vec<f32>>>()?.0;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Embeddings(rows))
    }
}
