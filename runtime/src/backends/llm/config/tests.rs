use super::*;
use crate::backends::llm::Provider;

fn provider(called: &str, model: Option<&str>, models: &[&str]) -> Provider {
    Provider {
        kind: ProviderKind::OpenAi,
        model: model.map(str::to_owned),
        models: models.iter().map(|text| ModelPattern::new(*text)).collect(),
        ..Provider::named(called.parse().unwrap())
    }
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn names(routes: Result<Vec<Route>, LlmError>) -> Vec<String> {
    routes.unwrap().iter().map(|route| format!("{}/{}", route.provider.name, route.model)).collect()
}

#[test]
fn auto_is_the_first_and_then_the_others() {
    let providers = vec![provider("a", Some("x"), &[]), provider("b", None, &[]), provider("c", Some("y"), &[])];
    let config = RouterConfig::new(LlmSettings { providers, ..LlmSettings::default() }).unwrap();
    assert_eq!(names(config.routes(None, None)), ["a/x", "c/y"]);
    assert_eq!(names(config.routes(Some("b/z"), None)), ["b/z", "a/x", "c/y"]);
    assert_eq!(names(config.routes(Some("c/y"), None)), ["c/y", "a/x"], "nobody is asked twice");
}

#[test]
fn a_bare_model_is_of_who_lists_it() {
    let providers = vec![provider("a", Some("x"), &["x*"]), provider("b", Some("y"), &["y*", "z"])];
    let settings = LlmSettings { providers, fallback: Some(Vec::new()), ..LlmSettings::default() };
    let config = RouterConfig::new(settings.clone()).unwrap();
    assert_eq!(names(config.routes(Some("z"), None)), ["b/z"]);
    assert_eq!(names(config.routes(Some("xy"), None)), ["a/xy"]);
    assert!(matches!(config.routes(Some("w"), None), Err(LlmError::NoProvider(_))));
    assert!(matches!(config.routes(Some("b/w"), None), Err(LlmError::NoProvider(_))));
    let allowed = LlmSettings { models_allowed: vec![ModelPattern::new("a/x"), ModelPattern::new("b/y")], ..settings };
    let config = RouterConfig::new(allowed).unwrap();
    assert_eq!(names(config.routes(Some("y"), None)), ["b/y"]);
    assert!(matches!(config.routes(Some("xy"), None), Err(LlmError::NoProvider(why)) if why.contains("not allowed")));
}

#[test]
fn settings_that_name_what_is_not_there_are_refused() {
    let base = || LlmSettings { providers: vec![provider("a", None, &[])], ..LlmSettings::default() };
    for (settings, says) in [
        (LlmSettings { providers: Vec::new(), ..base() }, "there is no provider"),
        (
            LlmSettings { providers: vec![provider("a", None, &[]), provider("a", None, &[])], ..base() },
            "two providers",
        ),
        (
            LlmSettings { primary: Primary::Target(target("b/x")), ..base() },
            "provider: there is no provider `b`; there are a",
        ),
        (LlmSettings { primary: Primary::Target(target("a")), ..base() }, "no model of the provider `a` is named"),
        (LlmSettings { fallback: Some(vec![target("b")]), ..base() }, "fallback: "),
        (LlmSettings { tiers: HashMap::from([(Tier::Fast, target("b"))]), ..base() }, "tiers: "),
        (LlmSettings { embedding: Some(target("b")), ..base() }, "embedding: "),
    ] {
        let error = RouterConfig::new(settings).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    for wrong in ["", "/x", "a/", "a b/x"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong:?}");
    }
    assert_eq!(target("a/b/c"), Target { provider: "a".parse().unwrap(), model: Some("b/c".to_owned()) });
}

#[test]
fn another_key_is_another_configuration() {
    use crate::backends::llm::{Credentials, Secret};
    let digest = |key: &str| {
        let credentials = Credentials::Key(Secret::new(key));
        let providers = vec![Provider { credentials, ..provider("a", Some("x"), &[]) }];
        *RouterConfig::new(LlmSettings { providers, ..LlmSettings::default() }).unwrap().digest()
    };
    assert_eq!(digest("one"), digest("one"));
    assert_ne!(digest("one"), digest("two"));
}
