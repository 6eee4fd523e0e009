//! A Service's sheet, with the endpoints behind each port.

use serde_json::Value;

use super::{Sheet, head, labels_and_annotations, pairs};
use crate::columns::{list, number, text};

/// Fills in everything but the events.
pub fn fill(sheet: &mut Sheet, o: &Value, slices: &[Value]) {
    head(sheet, o);
    labels_and_annotations(sheet, o);
    sheet.put(0, "Selector", pairs(o.pointer("/spec/selector"), "=").join(","));
    sheet.put(0, "Type", text(o, "/spec/type"));
    sheet.put(0, "IP", text(o, "/spec/clusterIP"));
    for port in list(o, "/spec/ports") {
        let (port_name, protocol) = (text(port, "/name"), text(port, "/protocol"));
        let shown = if port_name.is_empty() { "<unset>" } else { &port_name };
        sheet.put(0, "Port", format!("{shown}  {}/{protocol}", number(port, "/port")));
        sheet.put(0, "TargetPort", format!("{}/{protocol}", text(port, "/targetPort")));
        if number(port, "/nodePort") != 0 {
            sheet.put(0, "NodePort", format!("{shown}  {}/{protocol}", number(port, "/nodePort")));
        }
        sheet.put(0, "Endpoints", endpoints(slices, &port_name));
    }
    sheet.put(0, "Session Affinity", text(o, "/spec/sessionAffinity"));
    if o.pointer("/spec/externalTrafficPolicy").is_some() {
        sheet.put(0, "External Traffic Policy", text(o, "/spec/externalTrafficPolicy"));
    }
    sheet.put(0, "Internal Traffic Policy", text(o, "/spec/internalTrafficPolicy"));
}

/// `10.244.1.2:8080,10.244.2.2:8080`: the ready ones behind the port of this name.
fn endpoints(slices: &[Value], port_name: &str) -> String {
    let mut all = vec![];
    for slice in slices {
        for port in list(slice, "/ports").iter().filter(|p| text(p, "/name") == port_name) {
            let ready = list(slice, "/endpoints")
                .iter()
                .filter(|e| e.pointer("/conditions/ready") != Some(&Value::Bool(false)));
            for address in ready.flat_map(|e| list(e, "/addresses")).filter_map(Value::as_str) {
                all.push(format!("{address}:{}", number(port, "/port")));
            }
        }
    }
    let more = all.len().saturating_sub(5);
    all.truncate(5);
    match more {
        0 => all.join(","),
        n => format!("{} + {n} more...", all.join(",")),
    }
}
