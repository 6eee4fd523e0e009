//! Local stand-ins until the API crate has its selectors and merges.
pub mod labels {
    use std::collections::BTreeMap;
    #[derive(Clone, Default)]
    pub struct Selector(Vec<(String, String)>);
    impl Selector {
        pub fn parse(text: &str) -> Result<Self, String> {
            Ok(Self(text.split(',').filter(|t| !t.is_empty()).filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.trim_start_matches('=').into())).collect()))
        }
        pub fn is_empty(&self) -> bool { self.0.is_empty() }
        pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool { self.matches_with(|k| labels.get(k).map(String::as_str)) }
        pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool { self.0.iter().all(|(k, v)| get(k) == Some(v)) }
    }
    impl TryFrom<&skiff_proto::metav1::LabelSelector> for Selector {
        type Error = String;
        fn try_from(s: &skiff_proto::metav1::LabelSelector) -> Result<Self, String> {
            Ok(Self(s.match_labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
        }
    }
}
pub mod fields {
    #[derive(Clone)]
    pub struct Requirement { pub field: String, pub equals: bool, pub value: String }
    #[derive(Clone, Default)]
    pub struct Selector(Vec<Requirement>);
    impl Selector {
        pub fn parse(text: &str) -> Result<Self, String> {
            text.split(',').filter(|t| !t.is_empty()).map(|p| {
                if let Some((f, v)) = p.split_once("!=") { return Ok(Requirement { field: f.into(), equals: false, value: v.into() }); }
                let (f, v) = p.split_once('=').ok_or("no =")?;
                Ok(Requirement { field: f.into(), equals: true, value: v.trim_start_matches('=').into() })
            }).collect::<Result<Vec<_>, String>>().map(Self)
        }
        pub fn requirements(&self) -> &[Requirement] { &self.0 }
    }
}
pub struct Schema;
