//! What `get -o` can say: kubectl's forms, JSONPath templates and columns of one's own.

use serde_json::Value;

use crate::output::Format;
use crate::suggest;
use crate::table::Table;
use skiff_proto::jsonpath::JsonPath;

/// How `get` prints.
#[derive(Clone, Debug)]
pub enum Form {
    /// One that other verbs have too.
    Of(Format),
    /// `jsonpath=TEMPLATE`
    Template(JsonPath),
    /// `custom-columns=TITLE:PATH,...`
    Columns(Vec<(String, JsonPath)>),
}

const FORMS: &[&str] = &["wide", "yaml", "json", "name", "jsonpath", "custom-columns"];

impl Form {
    /// Reads the word behind `-o`.
    pub fn parse(word: &str) -> Result<Form, String> {
        let (form, argument) = match word.split_once('=') {
            Some((form, argument)) => (form, Some(argument)),
            None => (word, None),
        };
        match (form, argument) {
            ("wide", None) => Ok(Form::Of(Format::Wide)),
            ("yaml", None) => Ok(Form::Of(Format::Yaml)),
            ("json", None) => Ok(Form::Of(Format::Json)),
            ("name", None) => Ok(Form::Of(Format::Name)),
            ("jsonpath", Some(template)) => JsonPath::parse(template).map(Form::Template),
            ("custom-columns", Some(columns)) => {
                columns.split(',').map(column).collect::<Result<_, _>>().map(Form::Columns)
            }
            ("jsonpath", None) => Err("a template is missing: -o jsonpath='{.metadata.name}'".to_owned()),
            ("custom-columns", None) => {
                Err("the columns are missing: -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName".to_owned())
            }
            _ => {
                let meant = suggest::nearest(form, FORMS.iter().copied());
                let meant = meant.map(|m| format!("; did you mean {m:?}?")).unwrap_or_default();
                Err(format!("allowed formats are: {}{meant}", FORMS.join(", ")))
            }
        }
    }
}

fn column(text: &str) -> Result<(String, JsonPath), String> {
    match text.split_once(':') {
        Some((title, path)) if !title.is_empty() && !path.is_empty() => Ok((title.to_owned(), JsonPath::parse(path)?)),
        _ => Err(format!("{text:?}: expected TITLE:PATH, as NAME:.metadata.name")),
    }
}

/// A table of columns of one's own.
pub fn table(columns: &[(String, JsonPath)], objects: &[&Value]) -> Table {
    let mut table = Table::new(columns.iter().map(|(title, _)| title.as_str()));
    for object in objects {
        table.row(columns.iter().map(|(_, path)| path.texts(object).join(",")));
    }
    table
}

/// Sorts objects by what a path finds: numbers by size, everything else as text.
pub fn sort(objects: &mut [Value], path: &JsonPath) {
    objects.sort_by(|a, b| {
        let (a, b) = (path.texts(a).join(","), path.texts(b).join(","));
        match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(x), Ok(y)) => x.total_cmp(&y),
            _ => a.cmp(&b),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_of_ones_own() {
        let Form::Columns(columns) = Form::parse("custom-columns=NAME:.metadata.name,IPS:{.ips[*]}").unwrap() else {
            panic!("columns were asked for")
        };
        let (a, b) = (json!({"metadata": {"name": "a"}, "ips": ["1", "2"]}), json!({"metadata": {"name": "b"}}));
        assert_eq!(table(&columns, &[&a, &b]).render(true), "NAME   IPS\na      1,2\nb      <none>\n");
        for (word, expected) in [
            ("jsom", "did you mean \"json\""),
            ("jsonpath", "template is missing"),
            ("custom-columns=NAME", "TITLE:PATH"),
        ] {
            let error = Form::parse(word).unwrap_err();
            assert!(error.contains(expected), "{word}: {error}");
        }
    }

    #[test]
    fn numbers_sort_by_size() {
        let mut objects = vec![json!({"n": 10, "s": "b"}), json!({"n": 9, "s": "c"}), json!({"s": "a"})];
        let sorted = |objects: &mut Vec<Value>, path: &str| {
            sort(objects, &JsonPath::parse(path).unwrap());
            objects.iter().map(|o| o["s"].as_str().unwrap_or_default().to_owned()).collect::<String>()
        };
        assert_eq!(sorted(&mut objects, "{.n}"), "acb");
        assert_eq!(sorted(&mut objects, ".s"), "abc");
    }
}
