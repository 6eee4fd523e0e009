//! `get`: tables of objects, or objects whole.

mod form;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use skiff_client::ListOptions;
use skiff_proto::skiffv1::ResourceInfo;

use crate::advice;
use crate::changes;
use crate::columns::{self, TableOptions};
use crate::follow::{Follow, News};
use crate::output::{self, Format};
use crate::session::Session;
use crate::table::Widths;
use crate::target::{self, Target};
use form::Form;
use skiff_proto::jsonpath::JsonPath;

/// What `get` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// `TYPE[,TYPE...]`, `TYPE NAME...`, `TYPE/NAME...` or `all`.
    #[arg(required = true)]
    what: Vec<String>,
    /// How to print: `wide`, `yaml`, `json`, `name`, `jsonpath=TEMPLATE` or `custom-columns=TITLE:PATH,...`.
    #[arg(short, long, value_parser = Form::parse)]
    output: Option<Form>,
    /// Sort by what a JSONPath finds: `.metadata.creationTimestamp`.
    #[arg(long, value_parser = JsonPath::parse)]
    sort_by: Option<JsonPath>,
    /// Only objects whose labels match: `app=web,tier!=db`.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Only objects whose fields match: `spec.nodeName=node-1`.
    #[arg(long)]
    field_selector: Option<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Go on and print every change.
    #[arg(short, long)]
    watch: bool,
    /// Print every change from now on, and not what is there already.
    #[arg(long)]
    watch_only: bool,
    /// No line of titles.
    #[arg(long)]
    no_headers: bool,
    /// A column for each of these labels: `app,topology.kubernetes.io/zone`.
    #[arg(short = 'L', long, value_delimiter = ',', value_name = "LABEL")]
    label_columns: Vec<String>,
    /// A last column with the labels.
    #[arg(long)]
    show_labels: bool,
    /// As they were at this revision; `skiffctl history` lists an object's. Takes names.
    #[arg(long, value_name = "REVISION")]
    at: Option<u64>,
    /// With -o yaml or json: who manages which fields as well.
    #[arg(long)]
    show_managed_fields: bool,
    /// Nothing found is no error.
    #[arg(long)]
    ignore_not_found: bool,
}

/// Lists, prints, and watches when asked to.
pub async fn run(session: &Session, options: Options) -> Result<ExitCode> {
    let targets = target::parse(session, &options.what).await?;
    if options.all_namespaces && targets.iter().any(|t| !t.names.is_empty()) {
        bail!("an object is named within its namespace: leave --all-namespaces or the name away");
    }
    let watching = options.watch || options.watch_only;
    if watching && targets.len() > 1 {
        bail!("--watch and --watch-only take one type of objects");
    }
    if options.at.is_some() && (watching || targets.iter().any(|t| t.names.is_empty())) {
        bail!("--at takes objects by name, as in `get TYPE/NAME --at REVISION`, and no --watch");
    }
    let mut found = vec![];
    let mut errors = vec![];
    let mut revision = String::new();
    for target in &targets {
        let (mut objects, at) = fetch(session, target, &options, &mut errors).await?;
        if let Some(path) = &options.sort_by {
            form::sort(&mut objects, path);
        }
        revision = at;
        found.push((target.resource.clone(), objects));
    }
    let mut widths = Widths::default();
    if !options.watch_only {
        let single = targets.iter().all(|t| t.names.len() == 1) && targets.len() == 1;
        print(session, &found, &options, single, &mut widths)?;
    }
    for error in &errors {
        eprintln!("{error}");
    }
    if !errors.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if watching && let Some(target) = targets.first() {
        watch(session, target, &options, &revision, &mut widths).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The objects of one target, and the revision they were listed at.
async fn fetch(
    session: &Session,
    target: &Target,
    options: &Options,
    errors: &mut Vec<String>,
) -> Result<(Vec<Value>, String)> {
    let api = session.api(&target.resource, false);
    let namespace = namespace(session, &target.resource, options);
    if target.names.is_empty() {
        let list = api.list(&namespace, &list_options(options)).await?;
        return Ok((list.items, list.resource_version));
    }
    let mut objects = vec![];
    let mut revision = String::new();
    for name in &target.names {
        if let Some(at) = options.at {
            objects.push(changes::at(session, &target.resource, name, at).await?);
            continue;
        }
        match api.get(&namespace, name).await {
            Ok(object) => {
                revision = columns::text(&object, "/metadata/resourceVersion");
                objects.push(object);
            }
            Err(e) if e.is_not_found() && options.ignore_not_found => {}
            Err(e) if e.is_not_found() => errors.push(advice::line(session, e).await),
            Err(e) => return Err(e.into()),
        }
    }
    Ok((objects, revision))
}

fn namespace(session: &Session, resource: &ResourceInfo, options: &Options) -> String {
    if options.all_namespaces || !resource.namespaced { String::new() } else { session.namespace().to_owned() }
}

fn list_options(options: &Options) -> ListOptions {
    ListOptions {
        labels: options.selector.clone().unwrap_or_default(),
        fields: options.field_selector.clone().unwrap_or_default(),
        ..ListOptions::default()
    }
}

fn print(
    session: &Session,
    found: &[(ResourceInfo, Vec<Value>)],
    options: &Options,
    single: bool,
    widths: &mut Widths,
) -> Result<()> {
    let all = || found.iter().flat_map(|(_, o)| o).collect::<Vec<&Value>>();
    let as_list = |objects: Vec<&Value>| json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects});
    match &options.output {
        Some(Form::Of(format @ (Format::Yaml | Format::Json))) => {
            let mut objects = all();
            if single {
                return match objects.pop() {
                    Some(object) => output::print(&output::document(&shown(options, object), *format)?),
                    None => Ok(()),
                };
            }
            let objects: Vec<Value> = objects.into_iter().map(|object| shown(options, object)).collect();
            output::print(&output::document(&as_list(objects.iter().collect()), *format)?)
        }
        Some(Form::Template(template)) => match all().as_slice() {
            [] if single => Ok(()),
            [object] if single => output::print(&template.render(object)),
            objects => output::print(&template.render(&as_list(objects.to_vec()))),
        },
        Some(Form::Columns(columns)) => {
            output::print(&form::table(columns, &all()).render_on(widths, !options.no_headers))
        }
        Some(Form::Of(Format::Name)) => {
            for (resource, objects) in found {
                for object in objects {
                    output::line(target::called(resource, &columns::name(object)))?;
                }
            }
            Ok(())
        }
        None | Some(Form::Of(Format::Wide)) => print_tables(session, found, options, widths),
    }
}

fn print_tables(
    session: &Session,
    found: &[(ResourceInfo, Vec<Value>)],
    options: &Options,
    widths: &mut Widths,
) -> Result<()> {
    let several = found.len() > 1;
    let mut first = true;
    for (resource, objects) in found.iter().filter(|(_, o)| !o.is_empty()) {
        if !first {
            output::line("")?;
        }
        first = false;
        if several {
            *widths = Widths::default();
        }
        let prefix = if several { target::called(resource, "") } else { String::new() };
        let table = columns::table(
            &columns::of_resource(resource),
            objects,
            &table_options(resource, options, prefix),
            session.now(),
        );
        output::print(&table.render_on(widths, !options.no_headers))?;
    }
    if first && !options.ignore_not_found && found.iter().any(|(r, _)| is_listed(r, options)) {
        let namespaced = found.iter().all(|(r, _)| r.namespaced) && !options.all_namespaces;
        if namespaced {
            eprintln!("No resources found in {} namespace.", session.namespace());
        } else {
            eprintln!("No resources found");
        }
    }
    Ok(())
}

/// Whether nothing found is worth a word: with names given, the errors say it.
fn is_listed(_resource: &ResourceInfo, options: &Options) -> bool {
    options.what.len() == 1 && !options.what[0].contains('/')
}

fn table_options(resource: &ResourceInfo, options: &Options, prefix: String) -> TableOptions {
    TableOptions {
        namespace: options.all_namespaces && resource.namespaced,
        wide: matches!(options.output, Some(Form::Of(Format::Wide))),
        label_columns: options.label_columns.clone(),
        labels: options.show_labels,
        prefix,
    }
}

/// Prints every change from `revision` on, until interrupted. An API server that is away is waited
/// for, and what happened meanwhile is printed then.
async fn watch(
    session: &Session,
    target: &Target,
    options: &Options,
    revision: &str,
    widths: &mut Widths,
) -> Result<()> {
    let namespace = namespace(session, &target.resource, options);
    let mut list = list_options(options);
    if let [name] = target.names.as_slice() {
        list.fields = format!("metadata.name={name}");
    } else if !target.names.is_empty() {
        bail!("--watch takes one name, or none");
    }
    let mut follow = Follow::new(session, &target.resource, &namespace, list).after(revision);
    let mut seen: u64 = revision.parse().unwrap_or(0);
    loop {
        match follow.next().await? {
            News::Is(object) | News::Gone(object) => {
                seen = seen.max(revision_of(&object));
                print_change(session, target, options, object, widths)?;
            }
            // After a gap that cannot be told event by event: what is different since.
            News::All(objects) => {
                let mut newer: Vec<Value> = objects.into_iter().filter(|o| revision_of(o) > seen).collect();
                newer.sort_by_key(revision_of);
                for object in newer {
                    seen = seen.max(revision_of(&object));
                    print_change(session, target, options, object, widths)?;
                }
            }
        }
    }
}

fn revision_of(object: &Value) -> u64 {
    columns::text(object, "/metadata/resourceVersion").parse().unwrap_or(0)
}

/// The object as documents show it: who manages its fields is seldom what is asked for.
fn shown(options: &Options, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) =
        object.get_mut("metadata").and_then(Value::as_object_mut).filter(|_| !options.show_managed_fields)
    {
        metadata.shift_remove("managedFields");
    }
    object
}

fn print_change(
    session: &Session,
    target: &Target,
    options: &Options,
    object: Value,
    widths: &mut Widths,
) -> Result<()> {
    let titles = !options.no_headers;
    let text = match &options.output {
        Some(Form::Of(Format::Yaml)) => format!("---\n{}", output::document(&shown(options, &object), Format::Yaml)?),
        Some(Form::Of(Format::Json)) => output::document(&shown(options, &object), Format::Json)?,
        Some(Form::Of(Format::Name)) => format!("{}\n", target::called(&target.resource, &columns::name(&object))),
        Some(Form::Template(template)) => template.render(&object),
        Some(Form::Columns(columns)) => form::table(columns, &[&object]).render_on(widths, titles),
        None | Some(Form::Of(Format::Wide)) => {
            let shown = table_options(&target.resource, options, String::new());
            columns::table(&columns::of_resource(&target.resource), &[object], &shown, session.now())
                .render_on(widths, titles)
        }
    };
    output::print(&text)
}
