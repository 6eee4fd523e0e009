//! Which resource, object or subresource a path names.

/// What a path below `/api/v1` or `/apis/GROUP/VERSION` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `""` for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// The plural; `""`: the group's version itself.
    pub resource: String,
    /// `""`: none, or all.
    pub namespace: String,
    /// `""`: the collection.
    pub name: String,
    /// `status`, `log`, ...
    pub subresource: String,
    /// What follows the subresource.
    pub rest: Vec<String>,
    /// The old way to ask for a watch: `/api/v1/watch/pods`.
    pub watch: bool,
}

/// Subresources of a Namespace; everything else behind one is a resource inside it.
const OF_NAMESPACES: &[&str] = &["status", "finalize"];

/// Reads a path; `None` if it names no group version.
pub fn parse(path: &str) -> Option<Place> {
    let decoded: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let mut segments = decoded.into_iter().peekable();
    let (group, version) = match segments.next()?.as_str() {
        "api" => (String::new(), segments.next()?),
        "apis" => (segments.next()?, segments.next()?),
        _ => return None,
    };
    let mut place = Place { group, version, ..Place::default() };
    place.watch = segments.next_if(|segment| segment == "watch").is_some();
    let mut rest: Vec<String> = segments.collect();
    if rest.len() >= 3 && rest[0] == "namespaces" && !OF_NAMESPACES.contains(&rest[2].as_str()) {
        place.namespace = rest[1].clone();
        rest.drain(..2);
    }
    let mut rest = rest.into_iter();
    place.resource = rest.next().unwrap_or_default();
    place.name = rest.next().unwrap_or_default();
    place.subresource = rest.next().unwrap_or_default();
    place.rest = rest.collect();
    Some(place)
}

/// A path in two: up to the subresource of the place it names, and what follows, both as they were written.
pub fn behind<'a>(path: &'a str, place: &Place) -> Option<(&'a str, &'a str)> {
    let segments = path.split('/').filter(|segment| !segment.is_empty()).count();
    let before = segments.checked_sub(place.rest.len())?;
    let (mut seen, mut at) = (0, 0);
    for segment in path.split('/') {
        at += segment.len();
        seen += usize::from(!segment.is_empty());
        if seen == before {
            return path.split_at_checked(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_they_name() {
        for (path, wanted) in [
            ("/api/v1", "//v1/////"),
            ("/api/v1/", "//v1/////"),
            ("/api/v1/pods", "//v1/pods////"),
            ("/api/v1/namespaces", "//v1/namespaces////"),
            ("/api/v1/namespaces/a", "//v1/namespaces//a//"),
            ("/api/v1/namespaces/a/finalize", "//v1/namespaces//a/finalize/"),
            ("/api/v1/namespaces/a/pods", "//v1/pods/a///"),
            ("/api/v1/namespaces/a/pods/p", "//v1/pods/a/p//"),
            ("/api/v1/namespaces/a/pods/p/log", "//v1/pods/a/p/log/"),
            ("/api/v1/nodes/n/proxy/metrics/x", "//v1/nodes//n/proxy/metrics/x"),
            ("/apis/apps/v1/namespaces/a/deployments/d/scale", "/apps/v1/deployments/a/d/scale/"),
            ("/apis/rbac/v1/clusterroles/system%3Aadmin", "/rbac/v1/clusterroles//system:admin//"),
            ("/api/v1/watch/namespaces/a/pods", "watch//v1/pods/a///"),
        ] {
            let p = parse(path).expect(path);
            let watch = if p.watch { "watch" } else { "" };
            let all = [watch, &p.group, &p.version, &p.resource, &p.namespace, &p.name, &p.subresource];
            assert_eq!(format!("{}/{}", all.join("/"), p.rest.join("/")), wanted, "{path}");
        }
        for path in ["", "/", "/api", "/apis", "/apis/apps", "/metrics"] {
            assert_eq!(parse(path), None, "{path}");
        }
    }

    #[test]
    fn what_follows_a_subresource_is_kept_as_it_was_written() {
        for (path, prefix, suffix) in [
            ("/api/v1/namespaces/a/pods/p/proxy", "/api/v1/namespaces/a/pods/p/proxy", ""),
            ("/api/v1/namespaces/a/pods/p/proxy/", "/api/v1/namespaces/a/pods/p/proxy", "/"),
            ("/api/v1/namespaces/a/pods/p/proxy//x/%2Fy/", "/api/v1/namespaces/a/pods/p/proxy", "//x/%2Fy/"),
            (
                "/api/v1//namespaces/a/services/https:s%3A1/proxy/x",
                "/api/v1//namespaces/a/services/https:s%3A1/proxy",
                "/x",
            ),
            ("/api/v1/nodes/n/proxy/proxy/metrics", "/api/v1/nodes/n/proxy", "/proxy/metrics"),
        ] {
            let place = parse(path).expect(path);
            assert_eq!(behind(path, &place), Some((prefix, suffix)), "{path}");
        }
    }
}
