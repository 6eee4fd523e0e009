//! What a namespace may have: its quotas and limits, each on a sheet of its own and on that of the namespace.

use serde_json::Value;

use super::sheet::Sheet;
use super::{conditions, head, labels_and_annotations, list, name, text};
use crate::table::Table;

/// A namespace with its quotas and limits.
pub fn namespace(sheet: &mut Sheet, object: &Value, quotas: &[Value], ranges: &[Value]) {
    head(sheet, object);
    labels_and_annotations(sheet, object);
    sheet.put(0, "Status", text(object, "/status/phase"));
    conditions(sheet, object);
    sheet.text(0, "");
    if quotas.is_empty() {
        sheet.text(0, "No resource quota.");
    } else {
        sheet.title(0, "Resource Quotas");
        for quota in quotas {
            sheet.put(1, "Name", name(quota));
            scopes(sheet, 1, quota);
            rows(sheet, 1, usage(quota));
        }
    }
    sheet.text(0, "");
    if ranges.is_empty() {
        sheet.text(0, "No LimitRange resource.");
    } else {
        sheet.title(0, "Resource Limits");
        let mut table = limits_table();
        ranges.iter().for_each(|range| limits(&mut table, range));
        rows(sheet, 1, table);
    }
}

/// A ResourceQuota: what is used, of how much.
pub fn quota(sheet: &mut Sheet, object: &Value) {
    head(sheet, object);
    scopes(sheet, 0, object);
    rows(sheet, 0, usage(object));
}

/// A LimitRange: its bounds and defaults.
pub fn range(sheet: &mut Sheet, object: &Value) {
    head(sheet, object);
    let mut table = limits_table();
    limits(&mut table, object);
    rows(sheet, 0, table);
}

fn rows(sheet: &mut Sheet, depth: usize, table: Table) {
    table.render(true).lines().for_each(|line| sheet.text(depth, line));
}

/// A table whose titles are underlined.
fn underlined<const N: usize>(titles: [&str; N]) -> Table {
    let mut table = Table::new(titles);
    table.row(titles.map(|title| "-".repeat(title.len())));
    table
}

fn scopes(sheet: &mut Sheet, depth: usize, quota: &Value) {
    let plain = list(quota, "/spec/scopes").iter().filter_map(Value::as_str);
    let chosen = list(quota, "/spec/scopeSelector/matchExpressions").iter().filter_map(|e| e["scopeName"].as_str());
    let scopes: Vec<&str> = plain.chain(chosen).collect();
    if !scopes.is_empty() {
        sheet.put(depth, "Scopes", scopes.join(", "));
    }
}

fn usage(quota: &Value) -> Table {
    let mut table = underlined(["Resource", "Used", "Hard"]);
    for (resource, hard) in quota.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten() {
        let used = quota.pointer("/status/used").and_then(|used| used.get(resource)).and_then(Value::as_str);
        table.row([resource.as_str(), used.unwrap_or("0"), hard.as_str().unwrap_or_default()].map(str::to_owned));
    }
    table
}

fn limits_table() -> Table {
    underlined(["Type", "Resource", "Min", "Max", "Default Request", "Default Limit", "Max Limit/Request Ratio"])
}

fn limits(table: &mut Table, range: &Value) {
    for item in list(range, "/spec/limits") {
        let fields = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
        let maps = fields.map(|field| item.get(field).and_then(Value::as_object));
        let mut resources: Vec<&String> = maps.iter().flatten().flat_map(|map| map.keys()).collect();
        resources.sort();
        resources.dedup();
        for resource in resources {
            let amount = |map: Option<&serde_json::Map<String, Value>>| {
                map.and_then(|map| map.get(resource)).and_then(Value::as_str).unwrap_or("-").to_owned()
            };
            let [min, max, request, default, ratio] = maps.map(amount);
            table.row([text(item, "/type"), resource.clone(), min, max, request, default, ratio]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_namespace_shows_what_it_has_and_may_have() {
        let namespace = json!({"metadata": {"name": "shop"}, "status": {"phase": "Active"}});
        let quota = json!({
            "metadata": {"name": "all"}, "spec": {"scopes": ["BestEffort"]},
            "status": {"hard": {"pods": "10", "requests.cpu": "2"}, "used": {"pods": "3"}},
        });
        let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m"}, "max": {"memory": "1Gi"}},
        ]}});
        let mut sheet = Sheet::default();
        super::namespace(&mut sheet, &namespace, &[quota], &[range]);
        let expected = "\
Name:         shop
Labels:       <none>
Annotations:  <none>
Status:       Active

Resource Quotas:
  Name:    all
  Scopes:  BestEffort
  Resource       Used   Hard
  --------       ----   ----
  pods           3      10
  requests.cpu   0      2

Resource Limits:
  Type        Resource   Min   Max   Default Request   Default Limit   Max Limit/Request Ratio
  ----        --------   ---   ---   ---------------   -------------   -----------------------
  Container   cpu        -     -     -                 500m            -
  Container   memory     -     1Gi   -                 -               -
";
        assert_eq!(sheet.render(), expected);
        let mut sheet = Sheet::default();
        super::namespace(&mut sheet, &namespace, &[], &[]);
        assert!(sheet.render().ends_with("\nNo resource quota.\n\nNo LimitRange resource.\n"));
    }
}
