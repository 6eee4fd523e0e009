//! A Pod's sheet, and the Pod template's, which is part of workloads' sheets.

use jiff::Timestamp;
use serde_json::Value;

use super::{Sheet, conditions, controller, head, labels_and_annotations, pairs};
use crate::columns::{list, number, pod_status, text};

/// Fills in everything but the events.
pub fn fill(sheet: &mut Sheet, o: &Value, _now: Timestamp) {
    head(sheet, o);
    let node = match (text(o, "/spec/nodeName"), text(o, "/status/hostIP")) {
        (node, ip) if !ip.is_empty() => format!("{node}/{ip}"),
        (node, _) => node,
    };
    sheet.put(0, "Node", node);
    sheet.put(0, "Start Time", text(o, "/status/startTime"));
    labels_and_annotations(sheet, o);
    sheet.put(0, "Status", pod_status(o));
    for (title, pointer) in [("Reason", "/status/reason"), ("Message", "/status/message")] {
        if o.pointer(pointer).is_some() {
            sheet.put(0, title, text(o, pointer));
        }
    }
    sheet.put(0, "IP", text(o, "/status/podIP"));
    if let Some(owner) = controller(o) {
        sheet.put(0, "Controlled By", owner);
    }
    for (title, specs, statuses) in [
        ("Init Containers", "/spec/initContainers", "/status/initContainerStatuses"),
        ("Containers", "/spec/containers", "/status/containerStatuses"),
    ] {
        let specs = list(o, specs);
        if specs.is_empty() {
            continue;
        }
        sheet.title(0, title);
        for spec in specs {
            container(sheet, spec);
            let status = list(o, statuses).iter().find(|s| s["name"] == spec["name"]);
            if let Some(status) = status {
                life(sheet, status);
            }
        }
    }
    conditions(sheet, o);
    volumes(sheet, o);
    sheet.put_all(0, "Node-Selectors", &pairs(o.pointer("/spec/nodeSelector"), "="));
    let tolerations: Vec<String> = list(o, "/spec/tolerations").iter().map(toleration).collect();
    sheet.put_all(0, "Tolerations", &tolerations);
}

/// What a container is to be.
pub fn container(sheet: &mut Sheet, spec: &Value) {
    sheet.title(1, &text(spec, "/name"));
    sheet.put(2, "Image", text(spec, "/image"));
    let ports: Vec<String> = list(spec, "/ports")
        .iter()
        .map(|p| {
            let protocol = text(p, "/protocol");
            format!("{}/{}", number(p, "/containerPort"), if protocol.is_empty() { "TCP" } else { &protocol })
        })
        .collect();
    sheet.put(2, "Ports", ports.join(", "));
    for (title, pointer) in [("Command", "/command"), ("Args", "/args")] {
        let words: Vec<String> =
            list(spec, pointer).iter().map(|w| w.as_str().unwrap_or_default().to_owned()).collect();
        if !words.is_empty() {
            sheet.put_all(2, title, &words);
        }
    }
    for (title, pointer) in [("Limits", "/resources/limits"), ("Requests", "/resources/requests")] {
        if spec.pointer(pointer).is_some() {
            sheet.put_all(2, title, &pairs(spec.pointer(pointer), ": "));
        }
    }
    for (title, pointer) in
        [("Liveness", "/livenessProbe"), ("Readiness", "/readinessProbe"), ("Startup", "/startupProbe")]
    {
        if let Some(p) = spec.pointer(pointer) {
            sheet.put(2, title, probe(p));
        }
    }
    let environment: Vec<String> = list(spec, "/env")
        .iter()
        .map(|e| match e.get("valueFrom") {
            Some(from) => format!("{}: <{}>", text(e, "/name"), source(from)),
            None => format!("{}: {}", text(e, "/name"), text(e, "/value")),
        })
        .collect();
    sheet.put_all(2, "Environment", &environment);
    let mounts: Vec<String> = list(spec, "/volumeMounts")
        .iter()
        .map(|m| {
            let mode = if m["readOnly"] == true { "ro" } else { "rw" };
            format!("{} from {} ({mode})", text(m, "/mountPath"), text(m, "/name"))
        })
        .collect();
    sheet.put_all(2, "Mounts", &mounts);
}

/// How a container is.
fn life(sheet: &mut Sheet, status: &Value) {
    sheet.put(2, "Container ID", text(status, "/containerID"));
    sheet.put(2, "Image ID", text(status, "/imageID"));
    for (title, pointer) in [("State", "/state"), ("Last State", "/lastState")] {
        let Some((name, state)) = status.pointer(pointer).and_then(Value::as_object).and_then(|s| s.iter().next())
        else {
            continue;
        };
        let mut word = name.clone();
        word[..1].make_ascii_uppercase();
        sheet.put(2, title, word);
        for (title, pointer) in
            [("Reason", "/reason"), ("Message", "/message"), ("Started", "/startedAt"), ("Finished", "/finishedAt")]
        {
            if state.pointer(pointer).is_some() {
                sheet.put(3, title, text(state, pointer));
            }
        }
        if name == "terminated" {
            sheet.put(3, "Exit Code", number(state, "/exitCode").to_string());
        }
    }
    sheet.put(2, "Ready", if status["ready"] == true { "True" } else { "False" });
    sheet.put(2, "Restart Count", number(status, "/restartCount").to_string());
}

fn probe(p: &Value) -> String {
    let how = if let Some(get) = p.get("httpGet") {
        format!("http-get :{}{}", text(get, "/port"), text(get, "/path"))
    } else if let Some(tcp) = p.get("tcpSocket") {
        format!("tcp-socket :{}", text(tcp, "/port"))
    } else if let Some(exec) = p.get("exec") {
        let words: Vec<&str> = list(exec, "/command").iter().filter_map(Value::as_str).collect();
        format!("exec [{}]", words.join(" "))
    } else {
        "unknown".to_owned()
    };
    format!(
        "{how} delay={}s timeout={}s period={}s #success={} #failure={}",
        number(p, "/initialDelaySeconds"),
        number(p, "/timeoutSeconds"),
        number(p, "/periodSeconds"),
        number(p, "/successThreshold"),
        number(p, "/failureThreshold")
    )
}

fn source(from: &Value) -> String {
    for (field, what) in [("configMapKeyRef", "config map"), ("secretKeyRef", "secret")] {
        if let Some(r) = from.get(field) {
            return format!("set to the key '{}' in {what} '{}'", text(r, "/key"), text(r, "/name"));
        }
    }
    match from.get("fieldRef") {
        Some(r) => text(r, "/fieldPath"),
        None => text(from, "/resourceFieldRef/resource"),
    }
}

fn volumes(sheet: &mut Sheet, o: &Value) {
    let volumes = list(o, "/spec/volumes");
    if volumes.is_empty() {
        return;
    }
    sheet.title(0, "Volumes");
    for volume in volumes {
        sheet.title(1, &text(volume, "/name"));
        let Some((kind, source)) = volume.as_object().and_then(|v| v.iter().find(|(k, _)| *k != "name")) else {
            continue;
        };
        sheet.put(2, "Type", kind.clone());
        for (key, value) in source.as_object().into_iter().flatten() {
            if !value.is_object() && !value.is_array() {
                sheet.put(2, key, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
    }
}

fn toleration(t: &Value) -> String {
    let mut words = text(t, "/key");
    if t["operator"] == "Exists" && words.is_empty() {
        words = "op=Exists".to_owned();
    }
    if let Some(value) = t["value"].as_str() {
        words.push_str(&format!("={value}"));
    }
    let effect = text(t, "/effect");
    if !effect.is_empty() {
        words.push_str(&format!(":{effect}"));
    }
    if t["operator"] == "Exists" && t.get("key").is_some() {
        words.push_str(" op=Exists");
    }
    if let Some(seconds) = t["tolerationSeconds"].as_i64() {
        words.push_str(&format!(" for {seconds}s"));
    }
    words
}
