//! `api-resources`: the kinds that the server knows.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use skiff_proto::skiffv1::ResourceInfo;

use crate::output;
use crate::session::Session;
use crate::table::Table;
use crate::target;

/// What `api-resources` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// Only those that live in namespaces, or with =false those that do not.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Only those of this group; empty for the core group.
    #[arg(long)]
    api_group: Option<String>,
    /// Only those with all of these verbs.
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// `wide` shows verbs and categories, `name` names alone.
    #[arg(short, long, value_enum)]
    output: Option<Form>,
    /// No line of titles.
    #[arg(long)]
    no_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Wide,
    Name,
}

/// Prints the table.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let mut found = session.resources().await?;
    found.retain(|r| {
        options.namespaced.is_none_or(|n| n == r.namespaced)
            && options.api_group.as_ref().is_none_or(|g| *g == r.group)
            && options.verbs.iter().all(|v| r.verbs.contains(v))
    });
    found.sort_by(|a, b| (&a.group, &a.resource).cmp(&(&b.group, &b.resource)));
    if options.output == Some(Form::Name) {
        for resource in &found {
            output::line(target::plural(resource))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&table(&found, options.output == Some(Form::Wide)).render(!options.no_headers))?;
    Ok(ExitCode::SUCCESS)
}

fn table(resources: &[ResourceInfo], wide: bool) -> Table {
    let mut header = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
    if wide {
        header.extend(["VERBS", "CATEGORIES"]);
    }
    let mut table = Table::plain(header);
    for r in resources {
        let api_version = if r.group.is_empty() { r.version.clone() } else { format!("{}/{}", r.group, r.version) };
        let mut row =
            vec![r.resource.clone(), r.short_names.join(","), api_version, r.namespaced.to_string(), r.kind.clone()];
        if wide {
            row.extend([r.verbs.join(","), r.categories.join(",")]);
        }
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_kubectls() {
        let resource = ResourceInfo {
            group: "apps".into(),
            version: "v1".into(),
            resource: "deployments".into(),
            kind: "Deployment".into(),
            namespaced: true,
            ..ResourceInfo::default()
        };
        let expected = "\
NAME          SHORTNAMES   APIVERSION   NAMESPACED   KIND
deployments                apps/v1      true         Deployment
";
        assert_eq!(table(&[resource], false).render(true), expected);
    }
}
